"""One YAML file -> one agent, and every mistake in it with file, line and what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from agent_worker.config.numbers import to_e164
from agent_worker.config.problems import ConfigErrors, did_you_mean, nearest
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ConfigError

MAX_FILE_BYTES = 1_000_000

Location = tuple[int | str, ...]

_EXPECTED = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
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
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must have the form {pattern}",
}


@dataclass(frozen=True)
class AgentFile:
    """An agent, and where in which file each of its keys stands.

    Attributes:
        file: path as the operator wrote it.
    """

    file: str
    agent: AgentConfig
    tree: CommentedMap

    def problem(self, code: str, location: Location, message: str, remedy: str = "") -> ConfigError:
        """Return a mistake at this place of the file."""
        return ConfigError(code, message, remedy=remedy, file=self.file, line=line_of(self.tree, location))


def read_agent_file(path: Path) -> AgentFile:
    """Read and check one agent file.

    Raises:
        ConfigErrors: the file cannot be read, is not YAML, or one or several keys are wrong.
    """
    tree = _parse(path)
    try:
        agent = AgentConfig.model_validate(_plain(tree))
    except ValidationError as error:
        raise ConfigErrors(_explain(detail, tree, str(path)) for detail in error.errors()) from error
    found = AgentFile(str(path), agent, tree)
    numbers, problems = _numbers(found)
    problems += _contradictions(found)
    if problems:
        raise ConfigErrors(problems)
    return AgentFile(found.file, agent.model_copy(update={"numbers": numbers}), tree)


def line_of(tree: object, location: Location) -> int | None:
    """Return the 1-based line of the deepest part of this location that the file has."""
    line = 1 if isinstance(tree, CommentedMap) else None
    node = tree
    for part in location:
        if isinstance(node, CommentedMap):
            key = part if part in node else _as_written(node, str(part))
            if key is None or key not in (node.lc.data or {}):
                break
            line = node.lc.key(key)[0] + 1
            node = node[key]
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
            node = node[part]
        else:
            break
    return line


def _parse(path: Path) -> CommentedMap:
    file = str(path)
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise _alone("agent_file_unreadable", f"The file is larger than {MAX_FILE_BYTES} bytes.", file)
        tree = YAML(typ="rt").load(raw.decode("utf-8"))
    except OSError as error:
        raise _alone("agent_file_unreadable", f"The file cannot be read: {error.strerror}.", file) from error
    except UnicodeDecodeError as error:
        raise _alone("agent_file_unreadable", "The file is not UTF-8 text.", file) from error
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _alone("agent_key_twice", "The same key stands here twice.", file, line) from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise _alone("agent_file_not_yaml", f"This is not YAML: {error.problem}.", file, line) from error
    except YAMLError as error:
        raise _alone("agent_file_not_yaml", "This is not YAML.", file) from error
    if not isinstance(tree, CommentedMap):
        raise _alone("agent_file_empty", "The file holds no agent.", file, remedy="Start with `name: …`.")
    return tree


def _alone(code: str, message: str, file: str, line: int | None = None, remedy: str = "") -> ConfigErrors:
    return ConfigErrors([ConfigError(code, message, remedy=remedy, file=file, line=line)])


def _plain(node: object) -> Any:
    """Return what the YAML says as plain Python values, which is all that may reach a model or a row."""
    if isinstance(node, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, str):
        return str(node)
    if isinstance(node, Sequence):
        return [_plain(value) for value in node]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    return str(node)


def _explain(detail: ErrorDetails, tree: CommentedMap, file: str) -> ConfigError:
    location = detail["loc"]
    line = line_of(tree, location)
    dotted = _dotted(location)
    if detail["type"] == "extra_forbidden":
        return ConfigError(
            "agent_key_unknown", f"There is no key {dotted!r}.", remedy=_home(location), file=file, line=line
        )
    if detail["type"] == "missing":
        return ConfigError("agent_key_missing", f"The key {dotted!r} is missing.", file=file, line=line)
    context = {key: value for key, value in (detail.get("ctx") or {}).items() if key != "error"}
    template = _EXPECTED.get(detail["type"])
    expected = template.format(**context) if template else detail["msg"]
    value = detail["input"]
    quoted = detail["type"] == "string_type" and isinstance(value, int) and not isinstance(value, bool)
    return ConfigError(
        "agent_value_wrong",
        f"{dotted} {expected}, is {_shown(value)}.",
        remedy=f"Put it in quotes: {_in_quotes(location, value)}." if quoted else "",
        file=file,
        line=line,
    )


def _in_quotes(location: Location, value: object) -> str:
    return f'"+{value}"' if location and location[0] == "numbers" else f'"{value}"'


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a group of keys"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "empty"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def keys_of(model: type[BaseModel]) -> list[str]:
    """Return the keys of a configuration object as a file spells them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _home(location: Location) -> str:
    """Return the remedy for an unknown key: the nearest key of its group, or the group it belongs to."""
    model: type[BaseModel] = AgentConfig
    for part in location[:-1]:
        if isinstance(part, str):
            field = next((f for name, f in model.model_fields.items() if part in (f.alias, name)), None)
            model = (_model_in(field.annotation) if field else None) or model
    key, valid = str(location[-1]), keys_of(model)
    if nearest(key, valid) is None:
        for group, field in AgentConfig.model_fields.items():
            inner = _model_in(field.annotation)
            if inner and key in keys_of(inner):
                return f"It belongs under {field.alias or group!r}."
    return did_you_mean(key, valid)


def _as_written(node: CommentedMap, key: str) -> object | None:
    folded = key.replace("_", "").lower()
    return next((written for written in node if str(written).replace("_", "").lower() == folded), None)


def _numbers(found: AgentFile) -> tuple[list[str], list[ConfigError]]:
    numbers: list[str] = []
    problems: list[ConfigError] = []
    for index, written in enumerate(found.agent.numbers):
        number = to_e164(written)
        if number is None:
            problems.append(
                found.problem(
                    "agent_number_invalid",
                    ("numbers", index),
                    f"{written!r} is not a phone number.",
                    'Write it in E.164, in quotes: "+12015550123".',
                )
            )
        elif number in numbers:
            problems.append(found.problem("agent_number_twice", ("numbers", index), f"{number} stands here twice."))
        else:
            numbers.append(number)
    return numbers, problems


def _contradictions(found: AgentFile) -> list[ConfigError]:
    agent, problems = found.agent, []
    if agent.prompt and agent.system_prompt:
        problems.append(
            found.problem(
                "agent_prompt_twice",
                ("prompt",),
                "Both prompt and systemPrompt are given.",
                "Keep one: a file's name, or the text.",
            )
        )
    if not agent.prompt and not agent.system_prompt.strip():
        problems.append(
            found.problem(
                "agent_prompt_missing",
                (),
                "The agent has no instructions.",
                "Add `prompt: <name of a file in prompts/>`, or `systemPrompt: …`.",
            )
        )
    pauses = agent.turn_handling.endpointing
    if pauses.min_delay is not None and pauses.max_delay is not None and pauses.min_delay > pauses.max_delay:
        problems.append(
            found.problem(
                "agent_value_wrong",
                ("turnHandling", "endpointing", "minDelay"),
                "turnHandling.endpointing.minDelay is longer than maxDelay.",
            )
        )
    seen: set[str] = set()
    for index, tool in enumerate(agent.tools):
        if tool.name in seen:
            problems.append(
                found.problem("agent_tool_twice", ("tools", index), f"The tool {tool.name!r} is listed twice.")
            )
        seen.add(tool.name)
    return problems
