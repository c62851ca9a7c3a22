"""Reads configuration from outside an agent's file: a number's template, a dispatch, a request, a webhook's reply.

Names that clients use besides ours are understood (contract 3.7), and every key is checked on its own, so that one
wrong value can be told apart from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from agent_worker.config.resolve import LayerName
from agent_worker.domain.agent import MAX_DURATION_SECONDS, MIN_DURATION_SECONDS, AgentConfig

ALIASES: Mapping[str, str] = {"llm": "llmOptions", "constraints": "stackPreferences"}
"""Names of requests -> the agent's own."""

INNER_ALIASES: Mapping[str, str] = {
    "pronunciationDictionary": "speechNormalization",
    "textReplacements": "speechNormalization",
}
"""Keys that may stand alone -> the object they belong to."""

CONFIG_KEYS = frozenset(field.alias or name for name, field in AgentConfig.model_fields.items())

IDENTITY_KEYS = frozenset({"name", "description", "prompt", "numbers"})
"""What makes an agent that agent; no other layer sets it."""

AGENT_ONLY_KEYS = IDENTITY_KEYS | {"webhooks", "promptVariables", "extractionFields"}
"""What a request or a webhook's reply cannot set: whom we ask and tell is the operator's own configuration."""

MAX_UNKNOWN = 100
MAX_NAME_CHARS = 100


@dataclass(frozen=True)
class Overrides:
    """What a source says, by canonical key.

    Attributes:
        values: checked values; None clears a key. Objects hold only what the source says.
        unknown: keys that configure nothing, with their values.
        ignored: keys that this source may not set.
        wrong: key -> one sentence on what is wrong with its value.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)


def read_overrides(raw: Mapping[str, Any], layer: LayerName) -> Overrides:
    """Return what this source sets; nothing in it is an error that ends a call."""
    found = Overrides()
    forbidden = AGENT_ONLY_KEYS if layer in ("per_call", "pre_call") else IDENTITY_KEYS
    # the agent's own names come last, so that they win over another name for the same thing
    for written, value in sorted(raw.items(), key=lambda item: str(item[0]) in CONFIG_KEYS):
        name = str(written)
        key, value = canonical(name, value)
        if key not in CONFIG_KEYS:
            if len(found.unknown) < MAX_UNKNOWN:
                found.unknown[name[:MAX_NAME_CHARS]] = value
        elif key in forbidden or (key == "systemPrompt" and layer != "agent" and _is_blank(value)):
            # an agent without instructions takes no call: leaving them blank says nothing
            found.ignored.append(name)
        else:
            _take(found, key, value)
    return found


def is_config_key(key: str) -> bool:
    """Return whether this, or what it is another name for, is a key of an agent's configuration."""
    return canonical(key, None)[0] in CONFIG_KEYS


def canonical(key: str, value: Any) -> tuple[str, Any]:
    """Return the agent's own key for this one, and the value as it stands under that."""
    camel = to_camel(key) if "_" in key else key
    if owner := INNER_ALIASES.get(camel):
        return owner, {camel: value}
    known = ALIASES.get(camel, camel)
    return (known if known in CONFIG_KEYS else key), value


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _take(found: Overrides, key: str, value: Any) -> None:
    if key == "firstMessage" and value is None:
        value = ""  # no first message: the caller speaks first (contract 1.4)
    if key == "maxDurationSeconds" and isinstance(value, int | float) and not isinstance(value, bool):
        value = min(max(value, MIN_DURATION_SECONDS), MAX_DURATION_SECONDS)  # clamped, not refused (contract 1.1)
    if value is None:
        found.values[key] = None
        return
    cleared: dict[str, Any] = {}
    if isinstance(value, Mapping) and key != "metadata":
        cleared = {_inner_name(key, str(name)): None for name, inner in value.items() if inner is None}
        value = {name: inner for name, inner in value.items() if inner is not None}
        if strangers := cleared.keys() - _INNER_KEYS.get(key, cleared.keys()):
            found.wrong[key] = f"{key}: there is no key {min(strangers)[:MAX_NAME_CHARS]!r}"
            return
    try:
        checked = AgentConfig.model_validate({"name": "-", key: value})
    except ValidationError as error:
        found.wrong[key] = sentence_of(error)
        return
    plain = checked.model_dump(mode="json", by_alias=True, exclude_unset=True)[key]
    below = found.values.get(key)
    if isinstance(plain, dict):
        plain = {**(below if isinstance(below, dict) else {}), **plain, **cleared}
    found.values[key] = plain


def _inner_name(key: str, name: str) -> str:
    """Return a key of an object as the agent's file has it; names in free objects are the operator's own."""
    return to_camel(name) if key in _INNER_KEYS and "_" in name else name


def _inner_keys() -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for name, model_field in AgentConfig.model_fields.items():
        annotation = model_field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            inner = frozenset(inner.alias or key for key, inner in annotation.model_fields.items())
            found[model_field.alias or name] = inner
    return found


_INNER_KEYS: Mapping[str, frozenset[str]] = _inner_keys()
"""The keys of each object that has keys of ours; what is not here is the operator's own."""


def sentence_of(error: ValidationError) -> str:
    """Return the first mistake in one sentence, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"
