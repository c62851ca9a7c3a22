"""What the agent is told and says first: verbatim, or a Liquid template where variables are in play (contract 3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_worker.config.number_template import fill_tokens
from agent_worker.config.resolve import Resolved
from agent_worker.domain.agent import FIRST_MESSAGE_CHARS, SYSTEM_PROMPT_CHARS, AgentConfig
from agent_worker.domain.call import PlanEvent
from agent_worker.errors import ConfigError
from agent_worker.prompting.liquid import MISSING, render

FIRST_MESSAGE, SYSTEM_PROMPT = "firstMessage", "systemPrompt"
LIMITS: Mapping[str, int] = {FIRST_MESSAGE: FIRST_MESSAGE_CHARS, SYSTEM_PROMPT: SYSTEM_PROMPT_CHARS}
INVALID = "template.invalid"


def variables_in_play(values: Mapping[str, Any]) -> bool:
    """Whether both texts are templates: the agent declares variables, or somebody gave values, even none."""
    return values.get("variables") is not None or bool(values.get("promptVariables"))


def variable_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each variable that has one: the call's own, else the declared default."""
    declared = {
        entry["name"]: entry["defaultValue"]
        for entry in values.get("promptVariables") or []
        if entry.get("defaultValue") is not None
    }
    return {**declared, **(values.get("variables") or {})}


def render_texts(
    resolved: Resolved, *, system: Mapping[str, Any], tokens: Mapping[str, str | None], includes: Mapping[str, str]
) -> tuple[dict[str, str], tuple[PlanEvent, ...]]:
    """Return both texts as they are used, and an event for what kept a template from being filled in.

    A text that a webhook sent is never a template, and no value is. A variable without a value is empty: a caller is
    on the line, and the operator reads of it in the event.
    """
    texts: dict[str, str] = {}
    events: list[PlanEvent] = []
    missing: set[str] = set()
    active = variables_in_play(resolved.values)
    for key in (SYSTEM_PROMPT, FIRST_MESSAGE):
        text = str(resolved.values.get(key) or "")
        origin = resolved.provenance.get(key, "")
        if origin == "pre_call":
            texts[key] = text
        elif not active:
            texts[key] = str(fill_tokens({key: text}, tokens)[key] or "") if origin == "number" else text
        else:
            own = tokens if origin == "number" else {}
            values = {**own, **variable_values(resolved.values), **system}
            texts[key], names, failure = _rendered(key, text, values, includes)
            missing.update(names)
            events += [failure] if failure else []
        if len(texts[key]) > LIMITS[key]:
            texts[key] = texts[key][: LIMITS[key]]
            events.append(PlanEvent(event_type="template.cut", payload={"key": key, "characters": LIMITS[key]}))
    if missing:
        events.append(
            PlanEvent(
                event_type="template.variables_missing",
                status="failed",
                failure_cause=MISSING,
                payload={"names": sorted(missing)},
            )
        )
    return texts, tuple(events)


def _rendered(
    key: str, text: str, values: Mapping[str, Any], includes: Mapping[str, str]
) -> tuple[str, tuple[str, ...], PlanEvent | None]:
    try:
        rendered = render(text, values, includes)
    except ConfigError as error:
        failure = PlanEvent(
            event_type=INVALID,
            status="failed",
            failure_cause=error.code,
            payload={"key": key, "detail": str(error)[:500]},
        )
        # a template that cannot be filled in is not read out to a caller
        return (AgentConfig(name="-").first_message if key == FIRST_MESSAGE else text), (), failure
    return rendered.text, rendered.missing, None
