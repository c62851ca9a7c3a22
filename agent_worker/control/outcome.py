"""One word for how a call went, and one sentence for why it ended: decided from facts, by nobody's model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from agent_worker.domain.call import DisconnectionReason as Reason


class Outcome(StrEnum):
    """The closed set of outcomes (contract 7.3)."""

    COMPLETED = "completed"
    TRANSFERRED = "transferred"
    CALLBACK_SCHEDULED = "callback_scheduled"
    MESSAGE_TAKEN = "message_taken"
    VOICEMAIL = "voicemail"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"
    FAILED = "failed"
    ABANDONED = "abandoned"
    UNKNOWN = "unknown"


SETTLED_BY_REASON = {
    Reason.CALL_TRANSFER: Outcome.TRANSFERRED,
    Reason.VOICEMAIL: Outcome.VOICEMAIL,
    Reason.DIAL_NO_ANSWER: Outcome.NO_ANSWER,
    Reason.DIAL_BUSY: Outcome.BUSY,
    Reason.CANCELLED: Outcome.ABANDONED,
    Reason.DIAL_FAILED: Outcome.FAILED,
    Reason.UNKNOWN_NUMBER: Outcome.FAILED,
    Reason.REJECTED: Outcome.DECLINED,
    Reason.NOT_A_PHONE_CALL: Outcome.FAILED,
    Reason.CONFIG_ERROR: Outcome.FAILED,
    Reason.STT_ERROR: Outcome.FAILED,
    Reason.LLM_ERROR: Outcome.FAILED,
    Reason.TTS_ERROR: Outcome.FAILED,
    Reason.WORKER_LOST: Outcome.FAILED,
    Reason.ERROR: Outcome.FAILED,
}
"""Reasons that leave no choice; with every other one it depends on what was said and done."""

HOW_IT_ENDED = {
    Reason.USER_HANGUP: "The caller hung up.",
    Reason.AGENT_HANGUP: "The agent ended the call.",
    Reason.CALL_TRANSFER: "The caller was transferred.",
    Reason.CANCELLED: "The caller gave up before the call was answered.",
    Reason.IDLE: "The caller stayed silent and the agent ended the call.",
    Reason.MAX_DURATION: "The call reached its longest duration.",
    Reason.MEDIA_TIMEOUT: "The caller's audio stopped arriving.",
    Reason.UNKNOWN_NUMBER: "No agent answers the number that was called.",
    Reason.REJECTED: "The pre-call webhook declined the call.",
    Reason.NOT_A_PHONE_CALL: "No phone line joined the room.",
    Reason.CONFIG_ERROR: "The agent's configuration could not be used.",
    Reason.STT_ERROR: "Speech recognition failed.",
    Reason.LLM_ERROR: "The language model failed.",
    Reason.TTS_ERROR: "Speech synthesis failed.",
    Reason.WORKER_LOST: "The worker that held the call was lost.",
    Reason.WORKER_SHUTDOWN: "The worker was shut down.",
    Reason.TIMEOUT: "The call timed out.",
    Reason.DIAL_NO_ANSWER: "Nobody answered.",
    Reason.DIAL_BUSY: "The line was busy.",
    Reason.DIAL_FAILED: "The call could not be placed.",
    Reason.VOICEMAIL: "A voicemail answered.",
    Reason.ERROR: "The call failed.",
}

DECLINED_SIP_CODES = frozenset({603})


def outcome_of(
    reason: Reason | None,
    *,
    answered: bool,
    user_spoke: bool,
    sip_status_code: int | None = None,
    structured_data: Mapping[str, Any] | None = None,
    transfer_statuses: Collection[str] = (),
) -> Outcome:
    """Return the outcome of a call; `unknown` while it is not over.

    Args:
        user_spoke: whether the transcript has anything the person said.
        structured_data: what the agent's tools collected.
        transfer_statuses: of the call's transfers, if any.
    """
    collected = structured_data or {}
    if reason is None:
        return Outcome.UNKNOWN
    if reason is Reason.DIAL_FAILED and sip_status_code in DECLINED_SIP_CODES:
        return Outcome.DECLINED
    if "completed" in transfer_statuses:
        return Outcome.TRANSFERRED
    if reason in SETTLED_BY_REASON:
        return SETTLED_BY_REASON[reason]
    if collected.get("callback"):
        return Outcome.CALLBACK_SCHEDULED
    if collected.get("message"):
        return Outcome.MESSAGE_TAKEN
    if user_spoke:
        return Outcome.COMPLETED
    if reason in (Reason.WORKER_SHUTDOWN, Reason.TIMEOUT):
        return Outcome.UNKNOWN
    return Outcome.ABANDONED if answered or reason is Reason.USER_HANGUP else Outcome.UNKNOWN
