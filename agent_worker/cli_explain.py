"""`explain`: how a call to a number would be configured, and which layer each value comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.inactive import inactive_keys
from agent_worker.config.overrides import Overrides, read_overrides
from agent_worker.config.plan import Draft, draft, finish, resolved_layers
from agent_worker.config.resolve import LAYERS, Resolved, without_secrets
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, Direction, PlanEvent, utc_now
from agent_worker.errors import ConfigError
from agent_worker.prompting.liquid import MISSING, missing_variables_error
from agent_worker.settings import Settings
from agent_worker.webhooks.pre_call_reply import NotUsable, Said, read_reply

CALL_ID = "00000000-0000-4000-8000-000000000000"
MAX_SHOWN = 100


@dataclass(frozen=True)
class Explanation:
    """How one call would be configured.

    Attributes:
        inactive: keys that are set and change nothing yet, each with the reason.
        unheard: what in the overrides or the reply was not followed.
        declined: whether the reply declines the call.
    """

    prepared: Draft
    plan: CallPlan | CallRefusal
    resolved: Resolved
    inactive: Mapping[str, str]
    unheard: list[str]
    declined: bool = False


def explain(
    offer: CallOffer, reply: Mapping[str, Any] | None, catalog: AgentCatalog, settings: Settings
) -> Explanation:
    """Return how this call would be configured.

    Args:
        reply: what the pre-call webhook would answer; it is not asked.

    Raises:
        ConfigError: nobody takes the call, or the reply is none.
    """
    prepared = draft(offer, catalog, settings)
    if isinstance(prepared, CallRefusal):
        raise ConfigError("nobody_takes_the_call", prepared.detail, remedy=_known_numbers(catalog))
    said = _said(reply)
    overrides = read_overrides(said.overrides, "pre_call")
    # as on a call: one wrong value, and nothing of the reply is in force
    followed = overrides if reply is not None and not overrides.wrong else None
    plan = finish(prepared, followed, catalog, settings, now=utc_now())
    resolved = resolved_layers(prepared, followed)
    unheard = [*prepared.ignored, *_not_followed(overrides)]
    inactive = inactive_keys(resolved.values, resolved.provenance)
    return Explanation(prepared, plan, resolved, inactive, unheard, declined=said.reject)


def _said(reply: Mapping[str, Any] | None) -> Said:
    try:
        return read_reply(json.dumps(reply or {}).encode())
    except NotUsable as error:
        raise ConfigError("pre_call_reply_unusable", str(error)) from error


def offer_of(number: str | None, agent: str | None, caller: str | None, overrides: Mapping[str, Any]) -> CallOffer:
    """Return the offer of a call that nobody makes."""
    job: dict[str, Any] = dict(overrides)
    if "pipelineConfig" not in job:
        own: dict[str, Any] = {key: job.pop(key) for key in ("agentId", "metadata") if key in job}
        job = {**own, "pipelineConfig": {key: value for key, value in job.items() if key not in ("to", "from")}}
    if agent is not None:
        job["agentId"] = agent
    return CallOffer(
        call_id=CALL_ID,
        direction=Direction.INBOUND,
        room_name="explain",
        caller_number=caller,
        dialed_number=number,
        job_metadata=job,
    )


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON or YAML file.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        value = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError("overrides_unreadable", "The file cannot be read as JSON or YAML.", file=str(path)) from error
    if not isinstance(value, dict):
        raise ConfigError(
            "overrides_unreadable", "The file holds no object.", remedy='Write {"firstMessage": "…"}.', file=str(path)
        )
    return json.loads(json.dumps(value, default=str))  # type: ignore[no-any-return]


def as_json(told: Explanation) -> dict[str, Any]:
    """Return the explanation for machines."""
    route, plan = told.prepared.route, told.plan
    values = {**told.resolved.values, **_texts(plan)}
    hook = told.prepared.hook
    return {
        "agentId": route.agent_id,
        "routedBy": route.routed_by,
        "phoneNumberId": route.number.id if route.number else None,
        "layers": [layer.name for layer in told.prepared.layers],
        "values": without_secrets(values),
        "provenance": told.resolved.provenance,
        "notActive": dict(told.inactive),
        "metadata": plan.metadata,
        "ignored": told.unheard,
        "preCall": {"url": hook.url, "onFailure": hook.on_failure} if hook else None,
        "events": [event.model_dump(mode="json", exclude_none=True) for event in plan.events],
        "refused": plan.detail if isinstance(plan, CallRefusal) else None,
        "declined": told.declined,
    }


def print_explanation(told: Explanation, *, everything: bool) -> None:
    """Print a table of values and layers; built-in defaults only where `everything` is asked for."""
    out = Console(highlight=False)
    route = told.prepared.route
    who = route.agent_id or "no agent: the number's template is the whole configuration"
    number = f", number {route.number.id}" if route.number else ""
    out.print(f"Agent: {who} (by {route.routed_by}{number})", markup=False, soft_wrap=True)
    out.print(f"Layers, low to high: {' < '.join(LAYERS)}", markup=False)
    if hook := told.prepared.hook:
        out.print(f"Before the call is answered, {hook.url} is asked; --pre-call FILE shows what a reply changes.")
    table = Table("key", "value", "from")
    values = without_secrets({**told.resolved.values, **_texts(told.plan)})
    for key in sorted(told.resolved.provenance):
        origin = told.resolved.provenance[key]
        if everything or origin != "default":
            note = " · not yet active" if key in told.inactive else ""
            table.add_row(key, _shown(_value(values, key)), origin + note)
    out.print(table)
    for key, reason in told.inactive.items():
        out.print(f"not yet active: {key}: {reason}", markup=False, soft_wrap=True)
    for line in told.unheard:
        out.print(f"ignored: {line}", markup=False, soft_wrap=True)
    for event in told.plan.events:
        out.print(f"warning: {_warning(event)}", markup=False, soft_wrap=True)
    if told.declined:
        out.print("declined: the reply says reject, and the call is not taken.", markup=False, soft_wrap=True)
    if isinstance(told.plan, CallRefusal):
        out.print(f"refused: {told.plan.detail}", markup=False, soft_wrap=True)
    if not everything:
        out.print("Everything else is built in; --all shows it.", markup=False)


def _warning(event: PlanEvent) -> str:
    if event.failure_cause == MISSING:
        return f"{MISSING}: {missing_variables_error(event.payload['names'])} On an inbound call they are empty."
    return f"{event.event_type}: {_shown(dict(event.payload))}"


def _texts(plan: CallPlan | CallRefusal) -> dict[str, str]:
    if isinstance(plan, CallRefusal):
        return {}
    return {"systemPrompt": plan.agent.system_prompt, "firstMessage": plan.agent.first_message}


def _not_followed(overrides: Overrides) -> list[str]:
    return [
        *(f"pre_call: {sentence} (the whole reply is ignored)" for sentence in overrides.wrong.values()),
        *(f"pre_call: {key} cannot be set here" for key in overrides.ignored),
        *(f"pre_call: there is no key {key!r}" for key in overrides.unknown),
    ]


def _value(values: Mapping[str, Any], dotted: str) -> Any:
    key, _, inner = dotted.partition(".")
    value = values.get(key)
    return value.get(inner) if inner and isinstance(value, Mapping) else value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def _known_numbers(catalog: AgentCatalog) -> str:
    known = ", ".join(sorted(catalog.numbers)[:20])
    return f"Numbers here: {known}." if known else "Give an agent `numbers`, or name it with --agent."
