"""A blind transfer: the caller's own carrier is asked to call somebody else (SIP REFER)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agent_worker.call.transfer.attempt import Attempt
from agent_worker.call.transfer.hold import away_from_agent
from agent_worker.call.transfer.warm import put_through_unasked
from agent_worker.domain.transfer import REFER_UNKNOWN, TransferStatus, dial_uri
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.rooms import consultation_room
from agent_worker.telephony.transfer import SipOutcome, refer

if TYPE_CHECKING:
    from agent_worker.call.transfer.transfers import Transfers

HEARD_OUT_SECONDS = 10.0


async def hand_over(transfers: Transfers, attempt: Attempt) -> None:
    """Ask, and believe only what the carrier reports; a refusal gives the caller back to the agent.

    A carrier that takes no REFER at all is done without, where that is configured: the person is dialled.
    """
    call, plan, settings = transfers.call, attempt.plan, transfers.services.settings
    await _heard_out(transfers)
    away_from_agent(call)
    attempt.referring = True
    try:
        outcome = await _refer(transfers, attempt)
    finally:
        attempt.referring = False
    if outcome.ok:
        attempt.change(TransferStatus.COMPLETED, sip=outcome)
        call.finish(transfers.bridged)
        return
    dials = (plan.refer_fallback or settings.refer_fallback) == "dial"
    if dials and outcome.sip_status_code in REFER_UNKNOWN:
        room_name = consultation_room(call.line.room_name, len(transfers.attempts))
        attempt.dialled_instead(room_name, attempt.destination.outbound_trunk_id or plan.outbound_trunk_id, outcome)
        await put_through_unasked(transfers, attempt)
        return
    assert outcome.cause is not None
    attempt.change(TransferStatus.FAILED, outcome.cause.value, sip=outcome)
    await transfers.give_back(plan.fallback, outcome.cause.value, attempt)


async def _refer(transfers: Transfers, attempt: Attempt) -> SipOutcome:
    call, plan = transfers.call, attempt.plan
    async with livekit_client(transfers.services.settings) as client:
        return await refer(
            client,
            room=call.line.room_name,
            identity=call.offer.caller_identity or "",
            to=dial_uri(transfers.services.policy.check(attempt.destination.to)),
            headers=plan.headers,
            play_dialtone=plan.play_dialtone,
            ringing_seconds=plan.ringing_timeout,
            leg_gone=asyncio.shield(call.line.closed),
        )


async def _heard_out(transfers: Transfers) -> None:
    """Wait until the announcement has been heard: what follows it is the carrier's to play."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(HEARD_OUT_SECONDS):
            while transfers.call.line.playout.speaking:  # noqa: ASYNC110 - the playout has no event for it
                await asyncio.sleep(0.02)
