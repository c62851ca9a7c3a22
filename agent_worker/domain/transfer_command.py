"""What an operator tells a live call about transfers, and what the call answers; both go through LiveKit as JSON."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from agent_worker.domain.command import Wire
from agent_worker.domain.transfer import TransferPlan

BEGIN = "agent_worker.transfer.begin"
COMPLETE = "agent_worker.transfer.complete"
CANCEL = "agent_worker.transfer.cancel"

MOST_REASON_CHARS = 200

MAX_BYTES = 14_000
"""LiveKit carries 15 KiB in one request."""


class BeginTransfer(Wire):
    """Put the caller through.

    Attributes:
        participant_identity: the caller's, where whoever asks wants to be sure.
    """

    plan: TransferPlan
    participant_identity: str | None = None


class CompleteTransfer(Wire):
    """The person takes the caller."""

    transfer_id: str
    recipient_identity: str | None = None
    summary: str | None = None


class CancelTransfer(Wire):
    """The person does not take the caller.

    Attributes:
        reason: in the operator's own words; kept as the attempt's failure cause until the call is purged.
    """

    transfer_id: str
    reason: str | None = Field(None, max_length=MOST_REASON_CHARS)
    summary: str | None = None
    try_next: bool = False
    voicemail_detected: bool = False


class TransferAnswer(Wire):
    """What the call says.

    Attributes:
        code: why it was not done, "" where it was.
        row: the attempt that was asked for, in the contract's shape.
        attempts: all attempts of its transfer, in order.
        following: the attempt that follows a cancelled one.
        fallback: what becomes of the caller, where nobody follows.
    """

    code: str = ""
    message: str = ""
    row: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = Field(default_factory=list)
    following: dict[str, Any] | None = None
    fallback: dict[str, Any] | None = None
