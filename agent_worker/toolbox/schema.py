"""What a model reads about a tool: signature and docstring become JSON Schema and a validator."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from agent_worker.toolbox.base import FromConfig

_SCALARS: dict[object, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_ARGUMENT = re.compile(r"^\s*(?P<name>\w+)(?:\s*\([^)]*\))?:\s*(?P<text>.+)$")


@dataclass(frozen=True)
class Signature:
    """A tool's name for the model, its arguments, and the check of what the model sends.

    Attributes:
        choices: argument -> where in the agent's file its allowed values stand.
    """

    description: str
    parameters: Mapping[str, Any]
    arguments: type[BaseModel]
    choices: Mapping[str, FromConfig]

    def parameters_for(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON Schema of the arguments, with the choices this agent's configuration gives."""
        properties = {name: dict(schema) for name, schema in self.parameters["properties"].items()}
        for name, choice in self.choices.items():
            allowed = choice.values(config)
            if choice.is_open(config):
                described = properties[name]["description"]
                properties[name] |= {"description": f"{described} {choice.otherwise}", "examples": allowed}
            elif allowed:
                properties[name]["enum"] = allowed
        return {**self.parameters, "properties": properties}

    def read(self, raw: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments, typed.

        Raises:
            ValueError: an argument is missing, unknown or not of its type; the sentence is for the model.
        """
        try:
            read = self.arguments.model_validate(dict(raw)).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{name}: {first['msg']}.") from error
        for name, choice in self.choices.items():
            allowed = choice.values(config)
            left_out = (None, self.arguments.model_fields[name].default)
            if allowed and read[name] not in (*left_out, *allowed) and not choice.is_open(config):
                raise ValueError(f"{name}: must be one of {', '.join(allowed)}.")
        return read


def read_signature(function: Callable[..., Any]) -> Signature:
    """Return what a model may know about this tool.

    Raises:
        ValueError: no docstring, or an argument with a type a model cannot fill in; the sentence says which.
    """
    description, told = _docstring(function)
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise ValueError("its first argument must be the CallControl")
    properties: dict[str, Any] = {}
    required: list[str] = []
    fields: dict[str, Any] = {}
    choices: dict[str, FromConfig] = {}
    for parameter in parameters[1:]:
        name = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or name not in hints:
            raise ValueError(f"argument {name!r} needs a type: str, int, float, bool, Literal or Optional of these")
        if name not in told:
            raise ValueError(f"argument {name!r} is not described in the docstring's Args")
        hint, choice = _split(hints[name])
        properties[name] = {**_schema(name, hint), "description": told[name]}
        if choice:
            choices[name] = choice
        if parameter.default is parameter.empty:
            required.append(name)
            fields[name] = (hint, ...)
        else:
            fields[name] = (hint, parameter.default)
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    arguments = create_model(f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    return Signature(description, schema, arguments, choices)


def _split(hint: Any) -> tuple[Any, FromConfig | None]:
    if get_origin(hint) is not Annotated:
        return hint, None
    inner, *notes = get_args(hint)
    return inner, next((note for note in notes if isinstance(note, FromConfig)), None)


def _schema(name: str, hint: Any) -> dict[str, Any]:
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    if get_origin(hint) is Literal:
        values = list(get_args(hint))
        kinds = {_SCALARS.get(type(value)) for value in values}
        if len(kinds) == 1 and None not in kinds:
            return {"type": kinds.pop(), "enum": values}
    if get_origin(hint) in (Union, types.UnionType):
        kinds_of = [part for part in get_args(hint) if part is not types.NoneType]
        if len(kinds_of) == 1:
            inner = _schema(name, kinds_of[0])
            return {**inner, "type": [inner["type"], "null"]} if "enum" not in inner else inner
    raise ValueError(f"argument {name!r} has a type no model can fill in; use str, int, float, bool or Literal")


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the text before `Args:`, and each argument's line."""
    text = inspect.getdoc(function) or ""
    head, _, tail = text.partition("\nArgs:\n")
    description = " ".join(head.split())
    if not description:
        raise ValueError("it has no docstring; the model reads it to know when to use the tool")
    told: dict[str, str] = {}
    current = ""
    for line in tail.splitlines():
        if line and not line.startswith(" "):
            break
        match = _ARGUMENT.match(line)
        if match and len(line) - len(line.lstrip()) <= 4:
            current = match["name"]
            told[current] = match["text"].strip()
        elif current and line.strip():
            told[current] += " " + line.strip()
    return description, told
