"""An agent's own webhooks as endpoints: named by where they stand, read from the configuration when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.lifecycle_hook import LifecycleHook, LifecycleHooks

HOOK_OF_EVENT: Mapping[str, str] = {
    "call.status": "status",
    "call.report": "postCall",
    "call.analysis": "analysis",
    "call.recording": "recording",
}
"""Event -> the key under `webhooks` of the hook that is told it."""

_ATTRIBUTES = {"status": "status", "postCall": "post_call", "analysis": "analysis", "recording": "recording"}

AGENT = "agent:"
NUMBER = "number:"


def is_hook(endpoint_id: str) -> bool:
    """Return whether this is a hook of the configuration, not an endpoint of the workspace."""
    return endpoint_id.startswith((AGENT, NUMBER))


def hook_for(catalog: AgentCatalog, call: Mapping[str, Any], event: str) -> str | None:
    """Return the endpoint id of the hook that is told this event of the call, None where nobody configured one.

    Args:
        call: its `agent_id`, `direction` and `dialed_number`. As with all configuration, what the agent says wins over
            what the dialled number's template says.
    """
    key = HOOK_OF_EVENT.get(event)
    if key is None:
        return None
    candidates = [f"{AGENT}{call['agent_id']}:{key}"] if call["agent_id"] else []
    number = catalog.find_number(call["dialed_number"]) if call["direction"] == "inbound" else None
    if number is not None:
        candidates.append(f"{NUMBER}{number.id}:{key}")
    return next((endpoint_id for endpoint_id in candidates if find_hook(catalog, endpoint_id)), None)


def find_hook(catalog: AgentCatalog, endpoint_id: str) -> LifecycleHook | None:
    """Return the hook with this endpoint id, None where the configuration has it no more."""
    owner, _, key = endpoint_id.partition(":")[2].rpartition(":")
    hooks: LifecycleHooks | None = None
    if endpoint_id.startswith(AGENT):
        agent = catalog.agents.get(owner)
        hooks = agent.webhooks if agent else None
    elif endpoint_id.startswith(NUMBER):
        hooks = _of_number(catalog, owner)
    return getattr(hooks, _ATTRIBUTES[key], None) if hooks and key in _ATTRIBUTES else None


def name_of(catalog: AgentCatalog, endpoint_id: str) -> str:
    """Return what people read for a hook: `front-desk postCall`."""
    owner, _, key = endpoint_id.partition(":")[2].rpartition(":")
    agent = catalog.agents.get(owner)
    return f"{agent.name if agent else owner} {key}"


def all_hooks(catalog: AgentCatalog) -> list[str]:
    """Return the endpoint ids of every hook in the configuration."""
    owners = [f"{AGENT}{agent_id}" for agent_id in catalog.agents]
    owners += [f"{NUMBER}{entry.id}" for entry in catalog.numbers.values()]
    every = (f"{owner}:{key}" for owner in owners for key in _ATTRIBUTES)
    return [endpoint_id for endpoint_id in every if find_hook(catalog, endpoint_id)]


def _of_number(catalog: AgentCatalog, number_id: str) -> LifecycleHooks | None:
    entry = next((entry for entry in catalog.numbers.values() if entry.id == number_id), None)
    template = entry.config.dispatch_metadata_template if entry else None
    if not template or not template.get("webhooks"):
        return None
    try:
        return LifecycleHooks.model_validate(template["webhooks"])
    except ValidationError:
        return None  # `check` names what is wrong; a call does without it as well
