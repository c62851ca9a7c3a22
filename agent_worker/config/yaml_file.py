"""An operator's YAML file held against its model: every mistake with file, line, what is expected and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from agent_worker.config.numbers import to_e164
from agent_worker.config.problems import ConfigErrors, did_you_mean, nearest
from agent_worker.config.yaml_tree import FileKind, Location, YamlTree, read_tree
from agent_worker.errors import ConfigError

__all__ = [
    "MAX_TOLD",
    "ConfigFile",
    "FileKind",
    "Location",
    "YamlTree",
    "expectation",
    "keys_of",
    "numbers_of",
    "read_tree",
    "remedy_for_unknown",
    "told",
    "validated",
]

MAX_TOLD = 100
"""Mistakes of one file that are told; where there are more, their number is."""

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a group of keys",
    "model_type": "must be a group of keys",
    "model_attributes_type": "must be a group of keys",
    "literal_error": "must be one of {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "union_tag_invalid": "must have {discriminator} one of {expected_tags}",
    "union_tag_not_found": "must say its {discriminator}",
}

PATTERNS = {
    r"^https?://": "must start with https://",
    r"^[a-z]{2}(-[A-Z]{2})?$": "must be a language such as en or en-US",
    r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$": "must be letters, digits and underscores, at most 64, and no digit first",
    r"^[A-Za-z_][A-Za-z0-9_]{0,127}$": "must be the name of an environment variable",
    r"^[a-z0-9][a-z0-9-]{0,62}$": "must be small letters, digits and dashes, at most 63",
    r"^[A-Za-z0-9.:\[\]_-]+$": "must be a host, or host:port",
    r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$": "must be the name of an HTTP header",
    r"^[^\x00-\x08\x0a-\x1f\x7f]*$": "must be one line of text",
    r"^[A-Za-z0-9.!%*_+`'~-]{1,64}$": "must be the name of a SIP header",
    r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$": "must be one line of text",
    r"^\+[1-9][0-9]{6,14}$": "must be E.164, such as +12015550123",
    r"^[0-9*#]$": "must be one key of a telephone: a digit, * or #",
}
"""What the patterns of the models mean, in words."""

_PRIVATE = frozenset({"secret", "toolsecrets", "authheaders", "headers", "password"})


def validated(tree: YamlTree, model: type[M]) -> M:
    """Return the file as its model has it.

    Raises:
        ConfigErrors: one or several keys are wrong.
    """
    try:
        return model.model_validate(tree.content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise told(tree, (_problem(detail, tree, model) for detail in details), len(details)) from error


def told(tree: YamlTree, problems: Iterable[ConfigError], count: int) -> ConfigErrors:
    """Return the first hundred mistakes of a file, and how many more there are.

    Args:
        count: how many there are in all.
    """
    kept = list(islice(problems, MAX_TOLD))
    more = count - len(kept)
    if more > 0:
        message = f"{more} more {'mistake is' if more == 1 else 'mistakes are'} not listed."
        line = max(problem.line or 0 for problem in kept)
        remedy = "Mend these first."
        kept.append(ConfigError(f"{tree.kind.code}_mistakes_many", message, remedy=remedy, file=tree.file, line=line))
    return ConfigErrors(kept)


class ConfigFile:
    """A file that was read, and where in it each of its keys stands."""

    tree: YamlTree

    def problem(self, code: str, location: Location, message: str, remedy: str = "") -> ConfigError:
        """Return a mistake at this place of the file."""
        return self.tree.problem(code, location, message, remedy)


def numbers_of(tree: YamlTree, written: Iterable[tuple[Location, str]]) -> tuple[list[str | None], list[ConfigError]]:
    """Return phone numbers in E.164, None for each that is none or stands there already, and those mistakes.

    Args:
        written: each number as it is written, and where.
    """
    numbers: list[str | None] = []
    problems: list[ConfigError] = []
    seen: set[str] = set()
    for location, text in written:
        e164 = to_e164(text)
        usable = e164 is not None and e164 not in seen
        numbers.append(e164 if usable else None)
        if e164 is None:
            message, remedy = f"{text!r} is not a phone number.", 'Write it in E.164, in quotes: "+12015550123".'
            problems.append(tree.problem(f"{tree.kind.code}_number_invalid", location, message, remedy))
            continue
        if not usable:
            problems.append(tree.problem(f"{tree.kind.code}_number_twice", location, f"{e164} stands here twice."))
        seen.add(e164)
    return numbers, problems


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a configuration object as a file spells them."""
    return [_key(name, field) for name, field in model.model_fields.items()]


def expectation(detail: ErrorDetails) -> str:
    """Return what a wrong value must be, in words: "must be a whole number"."""
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "value_error":
        return str(context.get("error") or detail["msg"])
    if kind == "string_pattern_mismatch":
        return PATTERNS.get(context["pattern"], f"must have the form {context['pattern']}")
    if kind in ("string_too_short", "too_short") and context["min_length"] == 1:
        return "must not be empty"
    template = _EXPECTED.get(kind)
    return template.format(**context) if template else detail["msg"]


def remedy_for_unknown(model: type[BaseModel], location: Location) -> str:
    """Return what an unknown key at this place of a model may have been meant to be."""
    return _home(str(location[-1]), _groups_at(model, location[:-1]), model)


def _problem(detail: ErrorDetails, tree: YamlTree, model: type[BaseModel]) -> ConfigError:
    code = tree.kind.code
    location = tree.as_written(detail["loc"])
    dotted = _dotted(location)
    if detail["type"] == "extra_forbidden":
        twin = _twin(tree, location)
        if twin is not None:
            message = f"{dotted!r} and {twin!r} are the same key."
            return tree.problem(f"{code}_key_twice", location, message, f"Keep {twin!r}.")
        return tree.problem(
            f"{code}_key_unknown", location, f"There is no key {dotted!r}.", remedy_for_unknown(model, detail["loc"])
        )
    if detail["type"] == "missing":
        return tree.problem(f"{code}_key_missing", location, f"The key {dotted!r} is missing.")
    value, expected = detail["input"], expectation(detail)
    if detail["loc"][-1:] == ("[key]",):
        message = f"{_dotted(location[:-1])}: the key {location[-1]!r} {expected}."
        return tree.problem(f"{code}_value_wrong", location, message)
    quoted = detail["type"] == "string_type" and isinstance(value, int | float) and not isinstance(value, bool)
    return tree.problem(
        f"{code}_value_wrong",
        location,
        f"{dotted or 'The file'} {expected}{_shown(value, location, detail['type'])}.",
        _in_quotes(location, value) if quoted else "",
    )


def _in_quotes(location: Location, value: object) -> str:
    if _is_private(location):
        return "Put it in quotes."
    plus = "+" if {"numbers", "e164"} & set(location) else ""
    return f'Put it in quotes: "{plus}{value}".'


def _shown(value: object, location: Location, kind: str) -> str:
    """Return ", is …", or nothing where the value says nothing more, or may be secret."""
    if _is_private(location):
        return ""
    if isinstance(value, Mapping | list):
        told = "a list" if isinstance(value, list) else "a group of keys"
        return f", is {told}" if kind.endswith(("_type", "_parsing", "literal_error")) else ""
    if value is None or value == "":
        return ", is empty" if value is None else ""
    text = repr(value)
    return f", is {text if len(text) <= 60 else f'{text[:57]}…'}"


def _is_private(location: Location) -> bool:
    return any(isinstance(part, str) and part.replace("_", "").lower() in _PRIVATE for part in location)


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _twin(tree: YamlTree, location: Location) -> str | None:
    """Return another spelling of this key that stands beside it: `systemPrompt` beside `system_prompt`."""
    group: Any = tree.content
    for part in location[:-1]:
        group = group[part]
    key = str(location[-1])
    folded = key.replace("_", "").lower()
    return next((k for k in group if k != key and k.replace("_", "").lower() == folded), None)


def _home(key: str, groups: Sequence[type[BaseModel]], root: type[BaseModel]) -> str:
    """Return the remedy for an unknown key: the nearest key of its group, or the group it belongs to."""
    valid = sorted({name for group in groups for name in keys_of(group)})
    if nearest(key, valid) is None:
        for name, field in root.model_fields.items():
            if any(key in keys_of(inner) for inner in _models_in(field.annotation)):
                return f"It belongs under {_key(name, field)!r}."
    return did_you_mean(key, valid)


def _groups_at(root: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """Return the models the group at this location may be; a variant's name in the location narrows them."""
    groups: list[type[BaseModel]] = [root]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [f for group in groups for name, f in group.model_fields.items() if part in (f.alias, name)]
        if fields:
            groups = [inner for field in fields for inner in _models_in(field.annotation)] or groups
        else:
            groups = [group for group in groups if part in _variant_names(group)] or groups
    return groups


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _variant_names(model: type[BaseModel]) -> set[str]:
    literals = [f.annotation for f in model.model_fields.values() if get_origin(f.annotation) is Literal]
    return {str(value) for literal in literals for value in get_args(literal)}


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name
