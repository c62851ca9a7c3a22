"""An operator's commands about transfers, as the call's process answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from pydantic import ValidationError

from agent_worker.call.line import Command
from agent_worker.call.live_call import TransferRefused
from agent_worker.call.transfer.attempt import Attempt, Cancelled
from agent_worker.call.transfer.transfers import Transfers
from agent_worker.domain.transfer import OPEN_STATUSES, TransferCause, TransferStatus
from agent_worker.domain.transfer_command import (
    BEGIN,
    CANCEL,
    COMPLETE,
    BeginTransfer,
    CancelTransfer,
    CompleteTransfer,
    TransferAnswer,
)

SETTLE_SECONDS = 1.5
"""How long an answer waits for what it is asked for to have happened; the asker gives up after 2 s."""


def transfer_commands(transfers: Transfers) -> Mapping[str, Command]:
    """Return what is answered to whom, by name."""
    commands = _Commands(transfers)
    return {
        BEGIN: _answered(commands.begin),
        COMPLETE: _answered(commands.complete),
        CANCEL: _answered(commands.cancel),
    }


def _answered(command: Callable[[str], Awaitable[TransferAnswer]]) -> Command:
    async def answer(payload: str) -> str:
        try:
            answered = await command(payload)
        except ValidationError:
            answered = TransferAnswer(code="VALIDATION_ERROR", message="The call does not understand the request.")
        except TransferRefused as refused:
            answered = TransferAnswer(code=refused.code, message=str(refused))
        return answered.model_dump_json()

    return answer


class _Commands:
    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    async def begin(self, payload: str) -> TransferAnswer:
        asked = BeginTransfer.model_validate_json(payload)
        call = self._transfers.call
        if not call.line.picked_up:
            raise TransferRefused("CALL_NOT_LIVE", "The call is still ringing.")
        if asked.participant_identity not in (None, call.offer.caller_identity):
            raise TransferRefused("PARTICIPANT_MISMATCH", "The caller has another participantIdentity.")
        return self._about(self._transfers.begin(asked.plan))

    async def complete(self, payload: str) -> TransferAnswer:
        asked = CompleteTransfer.model_validate_json(payload)
        attempt = self._transfers.complete(asked.transfer_id, asked.recipient_identity, asked.summary)
        await self._until(lambda: attempt.status not in OPEN_STATUSES)
        if not attempt.is_open and attempt.status is not TransferStatus.COMPLETED:
            raise TransferRefused("TRANSFER_NOT_ACTIVE", f"The transfer is {attempt.status.value}.")
        return self._about(attempt)

    async def cancel(self, payload: str) -> TransferAnswer:
        asked = CancelTransfer.model_validate_json(payload)
        cause = (
            TransferCause.VOICEMAIL.value if asked.voicemail_detected else (asked.reason or "").strip() or "cancelled"
        )
        attempt = self._transfers.cancel(asked.transfer_id, Cancelled(cause, asked.try_next), asked.summary)
        if asked.voicemail_detected:
            self._transfers.call.record_event("transfer.voicemail_detected", mode="operator", **attempt.named)
        following = asked.try_next and attempt.destination is not attempt.plan.destinations[-1]
        attempts = self._transfers.attempts
        await self._until(lambda: not attempt.is_open and (not following or attempts[-1] is not attempt))
        answer = self._about(attempt)
        if following and attempts[-1] is not attempt:
            return answer.model_copy(update={"following": attempts[-1].row()})
        if following or self._transfers.call.line.operators.speaking:
            return answer  # the next one is on its way, or the caller has somebody: no fallback runs
        fallback = attempt.plan.fallback
        told = {
            "action": fallback.strategy,
            "message": fallback.message or "",
            "take_message_prompt": fallback.take_message_prompt,
            "hold_audio_url": fallback.hold_audio_url,
            "voicemail_detected": asked.voicemail_detected,
        }
        return answer.model_copy(update={"fallback": told})

    def _about(self, attempt: Attempt) -> TransferAnswer:
        same = [other.row() for other in self._transfers.attempts if other.plan is attempt.plan]
        return TransferAnswer(row=attempt.row(), attempts=same)

    async def _until(self, done: Callable[[], bool]) -> None:
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS
        while not done() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - rows have no event
            await asyncio.sleep(0.02)
