"""Agents made up for properties: every key of the models, texts that YAML could take for something else."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from agent_worker.domain.agent import AgentConfig

NUMBERS = ("+12015550101", "+12015550123", "+493012345678")

# PostgreSQL holds no U+0000
_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00")
_PIECES = (
    *(
        "'",
        '"',
        ":",
        ": ",
        "#",
        " #",
        "- ",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "`",
        "&a",
        "*a",
        "!t",
        "!!int 1",
        "<<",
        "=",
        "---",
    ),
    *("{{ name }}", "{% if a %}", "[", "]", "{", "}", ",", "\\", "\\n", "null", "~", "yes", "y", "True", "OFF", ".inf"),
    *(
        "1",
        "-1",
        "0o17",
        "0x1f",
        "1e5",
        "1_000",
        "12:30",
        "2026-03-02",
        "+12015550123",
        "Grüße",
        "日本",
        "😀",
        "e\u0301",
    ),
    *("\n", "\n\n", " ", "  ", "\t", "\r\n", "\r", "\x85", "\u2028", "\u2029", "\ufeff", "\xa0", "\x07", "\x7f", "a b"),
)
TEXTS = st.one_of(
    st.sampled_from(("", *_PIECES)),
    st.lists(st.sampled_from(_PIECES), max_size=8).map("".join),
    st.text(_CHARACTERS, max_size=12),
    st.just("First line: 'one'.\n\n  Second \"line\"\n# third\n"),
)
_NUMBERS = st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-6)
JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def made_agents(always: str | None = None) -> st.SearchStrategy[AgentConfig]:
    """Return agents that an agent file could hold.

    Args:
        always: a field that each of them has, beside some others.
    """
    optional = [name for name in AgentConfig.model_fields if name != "name"]
    some = st.sets(st.sampled_from(optional), max_size=5)
    return some.map(lambda names: names | {"name"} | ({always} if always else set())).flatmap(_agents)


def said(value: Any) -> Any:
    """Return which keys were given, all the way down: what was left unsaid is not in it."""
    if isinstance(value, BaseModel):
        return {name: said(getattr(value, name)) for name in value.model_fields_set}
    if isinstance(value, Mapping):
        return {key: said(inner) for key, inner in value.items()}
    return [said(inner) for inner in value] if isinstance(value, list) else value


def _agents(names: set[str]) -> st.SearchStrategy[AgentConfig]:
    fields = {name: field for name, field in AgentConfig.model_fields.items() if name in names}
    return _group(fields, all_of_them=True).map(_readable).map(AgentConfig.model_validate)


def _group(fields: Mapping[str, FieldInfo], *, all_of_them: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    values = {field.alias or name: _field(name, field) for name, field in fields.items()}
    needed = {
        key: value
        for (key, value), field in zip(values.items(), fields.values(), strict=True)
        if all_of_them or field.is_required() or key == "kind"
    }
    return st.fixed_dictionaries(needed, optional={key: value for key, value in values.items() if key not in needed})


def _field(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    match name:
        case "timezone":
            return st.sampled_from(("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"))
        case "numbers":
            return st.lists(st.sampled_from(NUMBERS), unique=True)
    return _values(field.annotation, field.metadata)


def _values(annotation: Any, limits: list[Any]) -> st.SearchStrategy[Any]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(inner[0], [*_unfolded(inner[1:]), *limits])
    if origin in (Union, types.UnionType):
        return st.one_of([_values(kind, limits) for kind in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    low, high = _limit(limits, "min_length") or 0, _limit(limits, "max_length")
    few = min(3, high or 3)
    if origin is list:
        return st.lists(_values(inner[0], []), min_size=low, max_size=max(low, few))
    if origin is dict:
        return st.dictionaries(_values(inner[0], []), _values(inner[1], []), min_size=low, max_size=few)
    if annotation is str:
        return _texts(low, high, _limit(limits, "pattern"))
    if annotation is int:
        return st.integers(_limit(limits, "ge"), _limit(limits, "le"))
    if annotation is float:
        return st.floats(_limit(limits, "ge"), _limit(limits, "le"))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _group(annotation.model_fields).map(_one_sound if "sound_id" in annotation.model_fields else dict)
    simple: dict[Any, st.SearchStrategy[Any]] = {bool: st.booleans(), type(None): st.none(), Any: JSON}
    return simple[annotation]


def _texts(low: int, high: int | None, pattern: str | None) -> st.SearchStrategy[str]:
    if pattern is None:
        return TEXTS.map(lambda text: text[:high].ljust(low, "x"))
    made = st.from_regex(re.sub(r"\$\Z", r"\\Z", pattern)).map(lambda text: text.replace("\x00", ""))
    return made.map(lambda text: text[:high].ljust(low, "x")).filter(lambda text: text != "system")


def _one_sound(sound: dict[str, Any]) -> dict[str, Any]:
    # a tool's departure from the agent's sound has `enabled` and may have neither
    if "enabled" not in sound and (sound.get("clip") is None) == (sound.get("soundId") is None):
        return {**sound, "clip": "office-ambience", "soundId": None}
    return sound


def _unfolded(marks: tuple[Any, ...]) -> list[Any]:
    return [limit for mark in marks for limit in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _limit(limits: list[Any], name: str) -> Any:
    return next((getattr(limit, name) for limit in limits if getattr(limit, name, None) is not None), None)


def _readable(agent: dict[str, Any]) -> dict[str, Any]:
    """Settle what two keys contradict each other in, as a file must."""
    if agent.get("prompt") or not agent.get("systemPrompt", "").strip():
        agent.pop("systemPrompt", None)
        agent["prompt"] = agent.get("prompt") or "front-desk"
    pauses = agent.get("turnHandling", {}).get("endpointing", {})
    if None not in (pauses.get("minDelay"), pauses.get("maxDelay")):
        pauses["minDelay"], pauses["maxDelay"] = sorted((pauses["minDelay"], pauses["maxDelay"]))
    for key in ("tools", "promptVariables", "extractionFields"):
        if key in agent:
            agent[key] = list({entry["name"]: entry for entry in agent[key]}.values())
    for key, hook in agent.get("webhooks", {}).items():
        for misplaced in {"preCall": ("extractionFields",), "postCall": ("onFailure",)}.get(
            key, ("extractionFields", "onFailure")
        ):
            (hook or {}).pop(misplaced, None)
    return agent
