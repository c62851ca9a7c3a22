"""Who takes a call: what is known before anybody picks up becomes an agent and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_worker.config.agent_files import keys_of
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.resolve import Layer, agent_layers, resolve, without_secrets
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, DisconnectionReason
from agent_worker.settings import Settings

JUNK_METADATA = "_ignored"
"""Key under which a reader of job metadata notes that it could not be read at all."""

_PIPELINE_KEYS = frozenset(keys_of(AgentConfig))

IGNORED = "ignored_job_metadata"
"""Key of the call's metadata under which unusable job metadata is listed, for the operator."""


def route(offer: CallOffer, catalog: AgentCatalog, settings: Settings) -> CallPlan | CallRefusal:
    """Return which agent takes the call: the one the dispatch names, else the number's, else the default one.

    Junk in the job's metadata is ignored and listed in the plan's metadata; it never costs a call.
    """
    ignored: list[str] = []
    chosen = _chosen(offer, catalog, settings, ignored)
    if chosen is None:
        return CallRefusal(
            organization_id=settings.organization_id,
            reason=DisconnectionReason.UNKNOWN_NUMBER,
            sentence=settings.unknown_number_message,
            detail=_why_nobody(offer, settings),
        )
    agent, routed_by = chosen
    layers = [*agent_layers(agent), Layer("job_metadata", {"metadata": _call_metadata(offer, ignored)})]
    resolved = resolve(layers)
    metadata = dict(resolved.values["metadata"])
    metadata["routed_by"] = routed_by
    if ignored:
        metadata[IGNORED] = ignored
    return CallPlan(
        organization_id=settings.organization_id,
        agent_id=agent.name,
        agent=agent,
        pipeline_config={
            **without_secrets(resolved.values),
            "kind": "cascade",
            "agentId": agent.name,
        },
        provenance={**resolved.provenance, "kind": "default", "agentId": routed_by},
        metadata=without_secrets(metadata),
    )


def _chosen(
    offer: CallOffer, catalog: AgentCatalog, settings: Settings, ignored: list[str]
) -> tuple[AgentConfig, str] | None:
    named = offer.job_metadata.get("agentId", offer.job_metadata.get("agent_id"))
    if isinstance(named, str) and named:
        agent = catalog.agent(named)
        if agent:
            return agent, "job_metadata"
        ignored.append(f"agentId: there is no agent {named[:120]!r}")
    elif named is not None:
        ignored.append(f"agentId: must be text, is {type(named).__name__}")
    agent = catalog.for_number(offer.dialed_number)
    if agent:
        return agent, "dialed_number"
    agent = catalog.agent(settings.default_agent) if settings.default_agent else None
    return (agent, "default_agent") if agent else None


def _call_metadata(offer: CallOffer, ignored: list[str]) -> Mapping[str, Any]:
    """Return what a dispatch says of the call; keys that configure nothing are metadata (contract 3.5)."""
    metadata: dict[str, Any] = {}
    for key, value in offer.job_metadata.items():
        if key in ("agentId", "agent_id", "metadata"):
            continue
        if key == JUNK_METADATA:
            ignored.append(str(value))
        elif key in _PIPELINE_KEYS:
            ignored.append(f"{key}: set in the agent file, not by a dispatch")
        else:
            metadata[key] = value
    given = offer.job_metadata.get("metadata", {})
    if isinstance(given, Mapping):
        return {**metadata, **given}
    ignored.append(f"metadata: must be an object, is {type(given).__name__}")
    return metadata


def _why_nobody(offer: CallOffer, settings: Settings) -> str:
    dialed = (
        "the room names no dialled number" if offer.dialed_number is None else "no agent answers the dialled number"
    )
    default = (
        f"the default agent {settings.default_agent!r} is in no file"
        if settings.default_agent
        else "AGENT_WORKER_DEFAULT_AGENT is not set"
    )
    return f"{dialed[0].upper()}{dialed[1:]}, and {default}."
