"""A blind transfer: the caller's own carrier is asked to call somebody else (SIP REFER)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent_worker.call.transfer.attempt import Attempt
from agent_worker.domain.transfer import TransferStatus, dial_uri
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.transfer import refer

if TYPE_CHECKING:
    from agent_worker.call.transfer.transfers import Transfers

HEARD_OUT_SECONDS = 10.0


async def hand_over(transfers: Transfers, attempt: Attempt) -> None:
    """Ask, and believe only what the carrier reports; a refusal gives the caller back to the agent."""
    call, plan = transfers.call, attempt.plan
    await _heard_out(transfers)
    async with livekit_client(transfers.services.settings) as client:
        outcome = await refer(
            client,
            room=call.line.room_name,
            identity=call.offer.caller_identity or "",
            to=dial_uri(transfers.services.policy.check(attempt.destination.to)),
            headers=plan.headers,
            play_dialtone=plan.play_dialtone,
            ringing_seconds=plan.ringing_timeout,
            leg_gone=asyncio.shield(call.line.closed),
        )
    if outcome.ok:
        attempt.change(TransferStatus.COMPLETED, sip=outcome)
        call.finish(transfers.bridged)
        return
    assert outcome.cause is not None
    attempt.change(TransferStatus.FAILED, outcome.cause.value, sip=outcome)
    await transfers.give_back(plan.fallback, outcome.cause.value)


async def _heard_out(transfers: Transfers) -> None:
    """Wait until the announcement has been heard: what follows it is the carrier's to play."""
    async with asyncio.timeout(HEARD_OUT_SECONDS):
        while transfers.call.line.playout.speaking:  # noqa: ASYNC110 - the playout has no event for it
            await asyncio.sleep(0.02)
