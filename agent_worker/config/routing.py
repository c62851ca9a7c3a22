"""Who takes a call: what is known before anybody picks up leads to a number of ours and to an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent_worker.config.catalog import AgentCatalog, NumberEntry
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallRefusal, Direction, DisconnectionReason
from agent_worker.settings import Settings

IGNORED = "ignored_job_metadata"
"""Key of the call's metadata under which unusable job metadata is listed, for the operator."""

AGENT_KEYS = ("agentId", "agent_id")


@dataclass(frozen=True)
class Route:
    """Who takes the call.

    Attributes:
        agent: None where the number's template is the whole configuration.
        number: the number of ours that was dialled, where it is one.
        routed_by: `job_metadata`, `dialed_number` or `default_agent`.
        ignored: what in the job's metadata could not be followed, for the operator.
    """

    agent_id: str | None
    agent: AgentConfig | None
    number: NumberEntry | None
    routed_by: str
    ignored: tuple[str, ...] = ()


def find_route(offer: CallOffer, catalog: AgentCatalog, settings: Settings) -> Route | CallRefusal:
    """Return who takes the call: the agent the dispatch names, else the number's, else the default one.

    Junk in the job's metadata is ignored and noted on the route; it never costs a call.
    """
    number = catalog.find_number(_number_of_ours(offer))
    ignored: list[str] = []
    named = _named_agent(offer.job_metadata, catalog, ignored)
    if named is not None:
        return Route(named[0], named[1], number, "job_metadata", tuple(ignored))
    if number is not None:
        if offer.direction is Direction.INBOUND and not number.config.takes_calls:
            return _refused(
                catalog, settings, "The dialled number only places calls: its direction is outbound.", ignored
            )
        agent_id = number.config.agent_id
        agent = catalog.find_agent(agent_id) if agent_id is not None else None
        if agent is not None:
            return Route(agent[0], agent[1], number, "dialed_number", tuple(ignored))
        if agent_id is None and number.config.dispatch_metadata_template:
            return Route(None, None, number, "dialed_number", tuple(ignored))
        if agent_id is not None:
            ignored.append("the dialled number's agent does not exist")
    fallback = catalog.find_agent(settings.default_agent) if settings.default_agent else None
    if fallback is not None:
        return Route(fallback[0], fallback[1], number, "default_agent", tuple(ignored))
    return _refused(catalog, settings, _why_nobody(offer, number, settings), ignored)


def _number_of_ours(offer: CallOffer) -> str | None:
    return offer.dialed_number if offer.direction is Direction.INBOUND else offer.caller_number


def _named_agent(
    job_metadata: dict[str, Any], catalog: AgentCatalog, ignored: list[str]
) -> tuple[str, AgentConfig] | None:
    named = next((job_metadata[key] for key in AGENT_KEYS if job_metadata.get(key) is not None), None)
    if named is None:
        return None
    if not isinstance(named, str):
        ignored.append(f"agentId: must be text, is {type(named).__name__}")
        return None
    found = catalog.find_agent(named)
    if found is None and named:
        ignored.append(f"agentId: there is no agent {named[:120]!r}")
    return found


def refusing_voice(catalog: AgentCatalog) -> AgentConfig | None:
    """Return the agent in whose voice callers nobody takes are told so: the first one."""
    return next(iter(catalog.agents.values()), None)


def own_refusal(settings: Settings) -> str:
    """Return the operator's own sentence for such callers, "" where it is the one that ships as a clip."""
    shipped = type(settings).model_fields["unknown_number_message"].default
    return "" if settings.unknown_number_message == shipped else settings.unknown_number_message


def _refused(catalog: AgentCatalog, settings: Settings, detail: str, ignored: list[str]) -> CallRefusal:
    spoken = settings.unknown_number_policy == "speak"
    return CallRefusal(
        organization_id=settings.organization_id,
        reason=DisconnectionReason.UNKNOWN_NUMBER,
        sentence=settings.unknown_number_message if spoken else "",
        detail=detail,
        voice=refusing_voice(catalog) if own_refusal(settings) else None,
        metadata={IGNORED: ignored} if ignored else {},
    )


def _why_nobody(offer: CallOffer, number: NumberEntry | None, settings: Settings) -> str:
    if offer.dialed_number is None:
        dialed = "The room names no dialled number"
    elif number is None:
        dialed = "No agent answers the dialled number"
    else:
        dialed = "The dialled number has no agent that exists"
    default = (
        f"the default agent {settings.default_agent!r} does not exist"
        if settings.default_agent
        else "AGENT_WORKER_DEFAULT_AGENT is not set"
    )
    return f"{dialed}, and {default}."
