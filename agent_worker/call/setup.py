"""Who calls whom, which agent takes it and how it is configured: everything that is decided while the phone rings."""

from __future__ import annotations

import asyncio
import logging

import av
from livekit.agents import llm

from agent_worker.call.journal import Journal
from agent_worker.call.line import Line
from agent_worker.call.live_call import LiveCall
from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.call.recording import Recording
from agent_worker.call.services import CallServices
from agent_worker.call.session import build_session
from agent_worker.call.transcript import TranscriptWriter
from agent_worker.domain.call import (
    CallOffer,
    CallPlan,
    CallRefusal,
    Direction,
    DisconnectionReason,
)
from agent_worker.domain.fact import CallOpened
from agent_worker.errors import AgentWorkerError, CallError, ProviderError
from agent_worker.toolbox.loader import bind

logger = logging.getLogger("agent_worker.call")

SORRY = "I'm sorry, we have a technical problem. Please call again later. Goodbye."


async def open_call(line: Line, journal: Journal, services: CallServices) -> tuple[CallOffer, CallPlan | CallRefusal]:
    """Find out about the call and write its first facts.

    Returns:
        The offer, and either the plan to take it with or why it is refused.
    """
    organization = services.settings.organization_id
    answer: CallPlan | CallRefusal
    offer = CallOffer(call_id=line.call_id, direction=Direction.INBOUND, room_name=line.room_name)
    try:
        offer = await line.ring()
        async with asyncio.timeout(services.settings.answer_budget_ms / 1000):
            answer = await services.control.open_call(offer)
    except CallError as error:
        answer = CallRefusal(
            organization_id=organization,
            reason=DisconnectionReason(error.disconnection_reason),
            sentence="",
            detail=error.message,
        )
    except Exception as error:  # whatever the control plane raises, the caller hears a sentence
        logger.exception("call not planned", extra={"call_id": line.call_id})
        answer = CallRefusal(
            organization_id=organization,
            reason=DisconnectionReason.ERROR,
            sentence=SORRY,
            detail=f"The control plane did not say which agent takes the call: {type(error).__name__}",
        )
    _write_opened(journal, offer, answer, services)
    return offer, answer


def _write_opened(journal: Journal, offer: CallOffer, answer: CallPlan | CallRefusal, services: CallServices) -> None:
    plan = answer if isinstance(answer, CallPlan) else None
    refused = {"refused": answer.detail} if isinstance(answer, CallRefusal) else {}
    journal.write(
        CallOpened,
        organization_id=answer.organization_id,
        direction=offer.direction,
        room_name=offer.room_name,
        agent_id=plan.agent_id if plan else None,
        caller_number=offer.caller_number,
        dialed_number=offer.dialed_number,
        worker_id=services.worker_id,
        language=plan.agent.intent.language if plan else "en",
        pipeline_config=plan.pipeline_config if plan else {},
        provenance=plan.provenance if plan else {},
        metadata={**(plan.metadata if plan else {}), **refused},
    )
    journal.event("call.initiated", payload={"direction": offer.direction.value})
    if offer.attributes.get("sip.callStatus") == "ringing":
        journal.event("call.ringing", provider="livekit", sip_status_code=180, sip_status="Ringing")
    journal.event("worker.room_connected", payload={"room": offer.room_name})


def prepare(
    line: Line, journal: Journal, offer: CallOffer, plan: CallPlan, services: CallServices
) -> LiveCall | CallRefusal:
    """Build what the conversation needs; nothing here waits for the network."""
    try:
        stack = services.stack_for(plan.agent)
    except ProviderError as error:
        return _refuse(plan, error)
    missing = [ref.name for ref in plan.agent.tools if ref.name not in services.tools]
    for name in missing:
        journal.event("tool.missing", status="failed", payload={"name": name})
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
    tools: list[llm.Tool | llm.Toolset] = [
        bind(services.tools[ref.name], call, ref.config) for ref in plan.agent.tools if ref.name not in missing
    ]
    call.phone_agent = PhoneAgent(instructions=plan.agent.system_prompt, tools=tools)
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


def _refuse(plan: CallPlan, error: AgentWorkerError) -> CallRefusal:
    logger.error("call refused", extra={"agent": plan.agent_id, "code": error.code})
    return CallRefusal(
        organization_id=plan.organization_id,
        reason=DisconnectionReason.CONFIG_ERROR,
        sentence=plan.agent.fallbacks.goodbye,
        detail=str(error),
    )
