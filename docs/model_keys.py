"""Every key of the configuration files, as the models have it: type, bounds, default, example and meaning."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from agent_worker.config.yaml_file import PATTERNS
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import TelephonyConfig
from agent_worker.domain.presets import Presets

DOCS = Path(__file__).resolve().parent
EXAMPLES: Mapping[str, Mapping[str, Any]] = YAML(typ="safe", pure=True).load(
    (DOCS / "examples.yaml").read_text(encoding="utf-8")
)

FILES: Mapping[str, type[BaseModel]] = {"agent": AgentConfig, "telephony": TelephonyConfig, "presets": Presets}
"""Kinds of configuration files and what they hold."""

AGENT_SECTIONS: Mapping[str, str] = {
    "Who it is and what it says": "name description systemPrompt prompt firstMessage voice timezone",
    "Template variables": "promptVariables variables",
    "Language, and what matters most": "intent",
    "Who hears, thinks and speaks": "stackPreferences runMode llmOptions sttOptions ttsOptions",
    "Who speaks when": "turnHandling",
    "Into silence, and when something fails": "idleRePrompts fallbacks",
    "How it sounds": "backgroundAudio audioOutput speechNormalization",
    "The call": "numbers maxDurationSeconds record telephony metadata",
    "Webhooks and analysis": "extractionFields webhooks webhookTags",
    "Tools": "tools toolSecrets endCall",
}
"""An agent's keys in the order of the page."""

MOVED = {"webhooks.preCall.extractionFields": "webhooks.postCall.extractionFields"}
"""Keys of a shared object that are described where they are of use."""

_PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", SecretStr: "text"}


@dataclass(frozen=True)
class Key:
    """One key of a configuration file.

    Attributes:
        path: dotted; `[]` for a list's entries, `<tag>` for a map's, `(kind)` where one of several objects is meant.
        trail: from the file's model down, each object's model with the key's name in it and what wraps the value:
            nothing, `[]`, `<tag>` or a kind.
        annotation: the type, without its constraints.
    """

    file: str
    path: str
    trail: tuple[tuple[type[BaseModel], str, str], ...]
    field: FieldInfo
    shared: str | None = None

    @property
    def model(self) -> type[BaseModel]:
        """The object the key is of."""
        return self.trail[-1][0]

    @property
    def name(self) -> str:
        """The key's name in that object, in Python."""
        return next(name for name, field in self.model.model_fields.items() if field is self.field)

    @property
    def example(self) -> Any:
        """The example's value."""
        return EXAMPLES[self.file][self.path]

    @property
    def meaning(self) -> str:
        """What the model's docstring says of the key, "" where it says nothing."""
        described = attributes_of(self.model).get(self.name, "")
        inner = model_in(self.field.annotation)
        return described or (sentences(inner) if inner else "")

    def document(self) -> dict[str, Any]:
        """Return the least file in which the key has its example."""
        value: Any = self.example
        for depth in reversed(range(len(self.trail))):
            model, alias, wrapper = self.trail[depth]
            inner = depth < len(self.trail) - 1
            below = _written(alias, wrapper) if inner else alias
            prefix = self.path_of(depth)
            value = {**self._siblings(model, alias, prefix), alias: _wrapped(value, wrapper) if inner else value}
            if kind := self._kind(depth):
                value = {"kind": kind, **value}
            extra = EXAMPLES["together"].get(f"{prefix}{below}") if not inner else None
            value |= extra or {}
        value |= EXAMPLES["besides"].get(self.path, {})
        if self.file == "agent" and "prompt" not in value:
            value.setdefault("systemPrompt", EXAMPLES["agent"]["systemPrompt"])
        return dict(value)

    def path_of(self, depth: int) -> str:
        """Return the dotted way to the object at this depth, "" or with a dot at its end."""
        return "".join(f"{_written(alias, wrapper)}." for _, alias, wrapper in self.trail[:depth])

    def _kind(self, depth: int) -> str | None:
        wrapper = self.trail[depth - 1][2] if depth else ""
        return wrapper.strip("()") if wrapper.startswith("(") else None

    def _siblings(self, model: type[BaseModel], alias: str, prefix: str) -> dict[str, Any]:
        needed = [alias_of(name, field) for name, field in model.model_fields.items() if field.is_required()]
        return {name: EXAMPLES[self.file][f"{prefix}{name}"] for name in needed if name != alias}


def alias_of(name: str, field: FieldInfo) -> str:
    """Return the key as a file spells it."""
    return field.alias or name


def keys(file: str) -> list[Key]:
    """Return every key of a kind of file, those of an object that stands in several places where it stands first."""
    seen: dict[type[BaseModel], str] = {}
    model = FILES[file]
    if file != "agent":
        return list(_walk(file, model, (), seen))
    found = {alias_of(name, field): field for name, field in model.model_fields.items()}
    return [
        key
        for names in AGENT_SECTIONS.values()
        for name in names.split()
        for key in _keys_of(file, model, name, found[name], (), seen)
    ]


def _walk(
    file: str, model: type[BaseModel], trail: tuple[tuple[type[BaseModel], str, str], ...], seen: dict[Any, str]
) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        yield from _keys_of(file, model, alias_of(name, field), field, trail, seen)


def _keys_of(
    file: str,
    model: type[BaseModel],
    alias: str,
    field: FieldInfo,
    above: tuple[tuple[type[BaseModel], str, str], ...],
    seen: dict[Any, str],
) -> Iterator[Key]:
    prefix = "".join(f"{_written(name, wrapper)}." for _, name, wrapper in above)
    path = f"{prefix}{alias}"
    if path in MOVED:
        above = (*above[:-1], (above[-1][0], "postCall", ""))
        path = MOVED[path]
    inner, wrapper = _inside(field.annotation)
    shared = seen.get(inner) if isinstance(inner, type) else None
    trail = (*above, (model, alias, ""))
    if inner is None or wrapper or _is_optional(field.annotation) or field.is_required():
        yield Key(file, path, trail, field, shared)
    if inner is None or shared:
        return
    for kind, option in inner.items() if isinstance(inner, dict) else (("", inner),):
        mark = f"({kind})" if kind else wrapper
        seen.setdefault(option, f"{path}{mark}")
        yield from _walk(file, option, (*above, (model, alias, mark)), seen)


def _inside(annotation: Any) -> tuple[Any, str]:
    """Return the object in a type, or the objects by kind, and what it is wrapped in: nothing, a list, a map."""
    options = [part for part in _unwrapped(annotation) if part is not NoneType]
    models = [part for part in options if is_model(part)]
    if len(models) > 1:
        return {get_args(model.model_fields["kind"].annotation)[0]: model for model in models}, ""
    if models:
        return models[0], ""
    for part in options:
        arguments = [_bare(argument) for argument in get_args(part)]
        if get_origin(part) is list and is_model(arguments[0]):
            return arguments[0], "[]"
        if get_origin(part) is dict and is_model(arguments[1]):
            return arguments[1], ".<tag>"
    return None, ""


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the one object in a type, if there is one."""
    inner = _inside(annotation)[0]
    return inner if is_model(inner) else None


def is_model(annotation: Any) -> bool:
    """Return whether the type is a configuration object."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _unwrapped(annotation: Any) -> list[Any]:
    annotation = _bare(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return [part for argument in get_args(annotation) for part in _unwrapped(argument)]
    return [annotation]


def _is_optional(annotation: Any) -> bool:
    return NoneType in _unwrapped(annotation)


def _written(alias: str, wrapper: str) -> str:
    return f"{alias}{wrapper}"


def _wrapped(value: Any, wrapper: str) -> Any:
    if wrapper == "[]":
        return [value]
    return {"de": value} if wrapper == ".<tag>" else value


def attributes_of(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring of a model, or of one it is made from, says of each field."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?: +.*\n?|\n)*)", text, re.MULTILINE)
        for entry in re.split(r"\n(?= {4}\w+:)", "\n" + section[1].rstrip() if section else ""):
            name, _, said = entry.strip().partition(":")
            if name:
                found[name] = " ".join(said.split())
    return {name: _as_written(said) for name, said in found.items()}


def _as_written(text: str) -> str:
    """Return the text with the names of fields as files spell them."""
    names = _field_names()
    return re.sub(r"`(\w+)(?=[`:])", lambda found: f"`{to_camel(found[1]) if found[1] in names else found[1]}", text)


@cache
def _field_names() -> frozenset[str]:
    """Return the fields of several words, as Python spells them."""
    found: set[str] = set()
    waiting: list[Any] = list(FILES.values())
    while waiting:
        model = waiting.pop()
        found.update(name for name in model.model_fields if "_" in name)
        for field in model.model_fields.values():
            inner = _inside(field.annotation)[0]
            waiting += inner.values() if isinstance(inner, dict) else [inner] if inner else []
    return frozenset(found)


def sentences(model: type[BaseModel]) -> str:
    """Return what a model says of itself, without the place in the contract."""
    first = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
    return _as_written(re.sub(r" \(contract [^)]*\)", "", " ".join(first.split())))


def type_text(annotation: Any, metadata: list[Any]) -> str:
    """Return the type and its bounds in words."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return type_text(inner, [*_constraints(more), *metadata])
    options = [part for part in _unwrapped_once(annotation) if part is not NoneType]
    if len(options) > 1:
        return "object of one of the kinds below" if all(is_model(_bare(part)) for part in options) else "any JSON"
    only = options[0]
    if get_origin(only) is Annotated:
        return type_text(only, metadata)
    if get_origin(only) is list:
        return _list_type(get_args(only)[0], metadata)
    return f"{_plain_type(only, metadata)}{_bounds(only, metadata)}"


def _unwrapped_once(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _plain_type(only: Any, metadata: list[Any]) -> str:
    origin = get_origin(only)
    if origin is Literal:
        values = [f"`{value}`" for value in get_args(only)]
        return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
    if origin is dict:
        value = _bare(get_args(only)[1])
        return (
            "map of objects"
            if is_model(value)
            else "object"
            if value is Any
            else f"map of {_several(get_args(only)[1])}"
        )
    if is_model(only):
        return "object"
    return _PLAIN.get(only, "any JSON")


def _list_type(entry: Any, metadata: list[Any]) -> str:
    count = _bounds(list[Any], metadata).removesuffix(" entries")
    return f"list{count or ' of'} {_several(entry)}"


def _several(entry: Any) -> str:
    if is_model(_bare(entry)):
        return "objects"
    return "texts" + type_text(entry, []).removeprefix("text").replace(",", " of", 1)


def _constraints(annotated: list[Any]) -> list[Any]:
    return [part for each in annotated for part in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _bounds(annotation: Any, metadata: list[Any]) -> str:
    found: dict[str, Any] = {}
    for part in metadata:
        for name in ("ge", "le", "min_length", "max_length", "pattern"):
            if getattr(part, name, None) is not None:
                found[name] = getattr(part, name)
        limit = inspect.getclosurevars(part.func).nonlocals.get("limit") if hasattr(part, "func") else None
        if limit is not None:
            found["bytes"] = limit
    if "bytes" in found:
        return f", at most {found['bytes'] // 1024} KiB as JSON"
    if "pattern" in found:
        words = PATTERNS[found["pattern"]].removeprefix("must be ").replace("must start", "starting")
        words = words.replace("one line of text", "one line")
        joint = " of" if words.startswith(("letters", "small", "one line")) else ","
        return f"{joint} {words}" + (f", at most {found['max_length']:,} characters" if "max_length" in found else "")
    low, high = found.get("ge", found.get("min_length")), found.get("le", found.get("max_length"))
    unit = "" if "ge" in found or "le" in found else " entries" if get_origin(annotation) else " characters"
    if low is not None and high is not None:
        return f", {low:,} to {high:,}{unit}"
    return f", at most {high:,}{unit}" if high is not None else f", at least {low:,}{unit}" if low is not None else ""


def flow(value: Any) -> str:
    """Return a value as YAML on one line, in the look of code."""
    if isinstance(value, str) and value == "":
        return '`""`'
    return f"`{_flow(value)}`"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./@ -]*|https?://[^\s,{}\[\]#]+|env:[A-Za-z_]+", value)
        word = value.lower() in ("true", "false", "null", "yes", "no", "on", "off")
        return value if plain and not word and not value.endswith(" ") else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def default_text(field: FieldInfo) -> str:
    """Return the default as the table shows it."""
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "`{}`"
    return "none" if value is None or value is PydanticUndefined else flow(value)
