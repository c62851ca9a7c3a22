"""Who calls whom, which agent takes it and how it is configured: everything that is decided while the phone rings."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import av

from agent_worker.call.journal import Journal
from agent_worker.call.line import Line
from agent_worker.call.live_call import LiveCall
from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.call.recording import Recording
from agent_worker.call.services import CallServices
from agent_worker.call.session import build_session
from agent_worker.call.transcript import TranscriptWriter
from agent_worker.call.transfer.make import make_transfers
from agent_worker.config.plan import JUNK_METADATA
from agent_worker.config.tool_configs import config_mistake
from agent_worker.domain.call import (
    CallOffer,
    CallPlan,
    CallRefusal,
    Direction,
    DisconnectionReason,
    new_call_id,
    utc_now,
)
from agent_worker.domain.fact import CallOpened, CallPlanned
from agent_worker.errors import CallError, ProviderError, place_of
from agent_worker.toolbox.binding import bind_all

logger = logging.getLogger("agent_worker.call")

LEAST_PLAN_SECONDS = 1.0
"""What planning a call is given, however late it is."""

SORRY = "I'm sorry, we have a technical problem. Please call again later. Goodbye."


async def open_call(
    line: Line, services: CallServices, *, answer_by: float
) -> tuple[Journal, CallOffer, CallPlan | CallRefusal]:
    """Find out about the call, open its journal and write its first facts.

    Args:
        answer_by: until when the call may ring, on the loop's clock.

    Returns:
        The journal, the offer, and either the plan to take the call with or why it is refused.
    """
    organization = services.settings.organization_id
    answer: CallPlan | CallRefusal
    try:
        offer = await line.ring()
    except CallError as error:
        offer = CallOffer(call_id=line.call_id, direction=Direction.INBOUND, room_name=line.room_name)
        answer = _refusal(organization, DisconnectionReason(error.disconnection_reason), "", error.message)
        journal = _open_journal(offer, line, services)
        _write_plan(journal, offer, answer, offer_at=utc_now())
        return journal, offer, answer
    # on disk before anything is waited for: a call whose process dies here is found by its journal
    offer_at = utc_now()
    try:
        journal = _open_journal(offer, line, services)
    except FileExistsError:
        # a dispatch has given its id to a second call: two calls are never one
        line.call_id = new_call_id()
        noted = {**offer.job_metadata, JUNK_METADATA: "callId: there is a call of this id already"}
        offer = offer.model_copy(update={"call_id": line.call_id, "job_metadata": noted})
        journal = _open_journal(offer, line, services)
    # a call that was late to join is planned all the same: past the budget it is answered as soon as can be
    now = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(max(answer_by, now + LEAST_PLAN_SECONDS)):
            left = max(0.0, answer_by - now)
            answer = await line.unless_closed(services.control.open_call(offer, budget_seconds=left))
    except CallError as error:
        answer = _refusal(organization, DisconnectionReason(error.disconnection_reason), "", error.message)
    except Exception as error:  # noqa: BLE001 - whatever the control plane raises, the caller hears a sentence
        logger.error("call not planned", extra={"call_id": line.call_id, "error": place_of(error)})
        detail = f"The control plane did not say which agent takes the call: {type(error).__name__}"
        answer = _refusal(organization, DisconnectionReason.ERROR, SORRY, detail)
    _write_plan(journal, offer, answer, offer_at=offer_at)
    return journal, offer, answer


def _refusal(organization: str, reason: DisconnectionReason, sentence: str, detail: str) -> CallRefusal:
    return CallRefusal(organization_id=organization, reason=reason, sentence=sentence, detail=detail)


def _open_journal(offer: CallOffer, line: Line, services: CallServices) -> Journal:
    """Open the call's journal and write that the call exists.

    Raises:
        FileExistsError: there is a call of this id on this host.
    """
    journal = Journal(services.settings.journal_dir, offer.call_id)
    journal.write(
        CallOpened,
        organization_id=services.settings.organization_id,
        direction=offer.direction,
        room_name=offer.room_name,
        caller_number=offer.caller_number,
        dialed_number=offer.dialed_number,
        worker_id=services.worker_id,
        job_id=line.job_id,
    )
    return journal


def _write_plan(journal: Journal, offer: CallOffer, answer: CallPlan | CallRefusal, *, offer_at: datetime) -> None:
    """Write the plan, and only then the events: whom they are told to depends on the agent."""
    plan = answer if isinstance(answer, CallPlan) else None
    refused = {"refused": answer.detail} if isinstance(answer, CallRefusal) else {}
    journal.write(
        CallPlanned,
        agent_id=answer.agent_id,
        language=plan.agent.intent.language if plan else "en",
        pipeline_config=plan.pipeline_config if plan else {},
        provenance=plan.provenance if plan else {},
        metadata={**answer.metadata, **refused},
    )
    forwarded = answer.metadata.get("forwardedFromNumber")
    payload = {"direction": offer.direction.value, **({"forwarded_from_number": forwarded} if forwarded else {})}
    journal.event("call.initiated", at=offer_at, payload=payload)
    if offer.attributes.get("sip.callStatus") == "ringing":
        journal.event("call.ringing", at=offer_at, provider="livekit", sip_status_code=180, sip_status="Ringing")
    journal.event("worker.room_connected", at=offer_at, payload={"room": offer.room_name})
    for event in answer.events:
        journal.event(
            event.event_type, status=event.status, failure_cause=event.failure_cause, payload=dict(event.payload)
        )


def prepare(
    line: Line, journal: Journal, offer: CallOffer, plan: CallPlan, services: CallServices
) -> LiveCall | CallRefusal:
    """Build what the conversation needs; nothing here waits for the network."""
    try:
        return _build(line, journal, offer, plan, services)
    except ProviderError as error:
        code, detail, reason = error.code, str(error), DisconnectionReason.CONFIG_ERROR
    except Exception as error:  # noqa: BLE001 - whatever cannot be built, the caller hears a sentence
        logger.error("call not set up", extra={"call_id": offer.call_id, "error": place_of(error)})
        code = type(error).__name__
        detail, reason = f"The call could not be set up: {code}.", DisconnectionReason.ERROR
    logger.error("call refused", extra={"call_id": offer.call_id, "agent": plan.agent_id, "code": code})
    journal.event("call.refused", status="failed", failure_cause=code, payload={"detail": detail})
    return _refusal(plan.organization_id, reason, plan.agent.fallbacks.goodbye, detail)


def _build(line: Line, journal: Journal, offer: CallOffer, plan: CallPlan, services: CallServices) -> LiveCall:
    stack = services.stack_for(plan.agent)
    for ref in plan.agent.tools:
        tool = services.tools.get(ref.function or "")
        if tool is None:
            cause = "tool_not_found" if ref.function else "tool_kind_not_active"
            journal.event("tool.missing", status="failed", failure_cause=cause, payload={"name": ref.name})
        elif tool.meta.config and (wrong := config_mistake(ref.function_config, tool.meta.config)):
            # a file is checked before it takes calls, what a dispatch or a webhook says is not
            payload = {"name": ref.name, "mistake": wrong}
            journal.event("tool.misconfigured", status="failed", failure_cause="tool_config_wrong", payload=payload)
    session = build_session(plan.agent, stack, line)
    call = LiveCall(
        offer=offer,
        plan=plan,
        line=line,
        journal=journal,
        stack=stack,
        speech=services.speech,
        session=session,
        transcript=TranscriptWriter(journal, line.playout, stack),
        recording=_recording(plan, offer, services),
        over=asyncio.get_running_loop().create_future(),
    )
    call.phone_agent = PhoneAgent(
        instructions=plan.agent.system_prompt,
        tools=[*bind_all(plan.agent.tools, services.tools, call)],
        stack=stack,
        wording=plan.agent.speech_normalization,
    )
    call.transfers = make_transfers(call, services)
    return call


def _recording(plan: CallPlan, offer: CallOffer, services: CallServices) -> Recording | None:
    """Return the recording, None where the agent is not recorded or the disk takes none: the call goes on without."""
    if not plan.agent.record:
        return None
    try:
        return Recording(services.settings.recordings_dir / f"{offer.call_id}.ogg")
    except (OSError, av.FFmpegError) as error:
        logger.error("call is not recorded", extra={"call_id": offer.call_id, "error": type(error).__name__})
        return None
