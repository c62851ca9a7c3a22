"""One attempt to reach one person: its row, as facts, and what an operator can say to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent_worker.call.journal import Journal
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import TransferChanged
from agent_worker.domain.transfer import (
    OPEN_STATUSES,
    TransferDestination,
    TransferPlan,
    TransferStatus,
)
from agent_worker.telephony.transfer import SipOutcome

EVENTS: dict[TransferStatus, str] = {
    TransferStatus.REQUESTED: "call.transfer.initiated",
    TransferStatus.SCREENING: "transfer.screening",
    TransferStatus.BRIDGING: "transfer.bridging",
    TransferStatus.COMPLETED: "call.transfer.completed",
    TransferStatus.FAILED: "call.transfer.failed",
    TransferStatus.CANCELLED: "transfer.cancelled",
}


@dataclass(frozen=True)
class Cancelled:
    """An operator's word that this person is not to be had.

    Attributes:
        cause: kept as the row's failure cause.
        try_next: go on with the next destination.
    """

    cause: str
    try_next: bool = False


@dataclass
class Attempt:
    """One row of a transfer.

    Attributes:
        owner: ids of the call and of its organization.
        accepted: done when an operator has said that the person takes the call.
        cancelled: done when an operator has said that they do not.
        summary: what the person is told of the call, or what an operator says of the transfer in the end.
        referring: whether the caller's carrier is being asked, and the leg may go down before it has answered.
    """

    journal: Journal
    owner: tuple[str, str]
    plan: TransferPlan
    destination: TransferDestination
    room_name: str
    caller_identity: str | None
    consultation_room: str | None
    trunk_id: str | None
    id: str = field(default_factory=lambda: f"tr_{uuid.uuid4().hex}")
    status: TransferStatus = TransferStatus.REQUESTED
    failure_cause: str | None = None
    created_at: datetime = field(default_factory=utc_now)
    completed_at: datetime | None = None

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.cancelled: asyncio.Future[Cancelled] = loop.create_future()
        self.summary = self.destination.summary or self.plan.summary
        self.referring = False
        self.updated_at = self.created_at
        self.metadata: dict[str, Any] = {**self.plan.metadata, **self.destination.metadata, **self._label}

    @property
    def _label(self) -> dict[str, str]:
        return {"label": self.destination.label} if self.destination.label else {}

    @property
    def named(self) -> dict[str, Any]:
        """What every event about it says."""
        return {"transfer_id": self.id, "kind": self.plan.kind.value, **self._label}

    @property
    def recipient_identity(self) -> str | None:
        """The person's identity in the consultation room."""
        return f"transfer-{self.id}" if self.consultation_room is not None else None

    @property
    def is_open(self) -> bool:
        """Whether it is still on its way."""
        return self.status in OPEN_STATUSES

    def announce(self) -> None:
        """Write down that it has begun."""
        self._write()
        self._event()

    def change(self, status: TransferStatus, cause: str | None = None, *, sip: SipOutcome | None = None) -> None:
        """Write down where it stands now; what is over stays as it is."""
        if not self.is_open:
            return
        self.status, self.failure_cause = status, cause
        if status is TransferStatus.COMPLETED:
            self.completed_at = utc_now()
        if sip is not None and sip.sip_status_code is not None:
            self.metadata["sip_status_code"] = sip.sip_status_code
        self._write()
        self._event(sip)

    def dialled_instead(self, room_name: str, trunk_id: str | None, refused: SipOutcome) -> None:
        """The carrier takes no REFER, and the person of a blind transfer is dialled: the row stays this one."""
        self.consultation_room, self.trunk_id = room_name, trunk_id
        self.metadata["refer_sip_status_code"] = refused.sip_status_code
        self._write()

    def consulted(self, entries: Sequence[tuple[str, str]]) -> None:
        """Keep what was said to the person, apart from the caller's transcript."""
        self.metadata["consultation"] = [{"source": source, "text": text} for source, text in entries]
        self._write()

    def _event(self, sip: SipOutcome | None = None) -> None:
        self.journal.event(
            EVENTS[self.status],
            status=self.status.value,
            failure_cause=self.failure_cause,
            sip_status_code=sip.sip_status_code if sip else None,
            sip_status=sip.sip_status if sip else None,
            payload=self.named,
        )

    def row(self) -> dict[str, Any]:
        """Return the attempt in the contract's shape, times in ISO form."""
        call_id, organization_id = self.owner
        fact = self._fields()
        fact["id"], fact["kind"] = fact.pop("transfer_id"), fact.pop("transfer_kind").value
        times = {name: fact[name].isoformat() if fact[name] else None for name in ("created_at", "completed_at")}
        row = {**fact, "status": self.status.value, **times, "updated_at": self.updated_at.isoformat()}
        return {"session_id": call_id, "organization_id": organization_id, **row}

    def _write(self) -> None:
        self.updated_at = utc_now()
        self.journal.write(TransferChanged, **self._fields())

    def _fields(self) -> dict[str, Any]:
        return {
            "transfer_id": self.id,
            "transfer_kind": self.plan.kind,
            "status": self.status,
            "transfer_to": self.destination.to,
            "from_room_name": self.room_name,
            "consultation_room_name": self.consultation_room,
            "caller_participant_identity": self.caller_identity,
            "recipient_participant_identity": self.recipient_identity,
            "outbound_trunk_id": self.trunk_id,
            "screening_prompt": self.destination.screening_prompt or self.plan.screening_prompt,
            "summary": self.summary,
            "failure_cause": self.failure_cause,
            "metadata": dict(self.metadata),
            "created_at": self.created_at,
            "completed_at": self.completed_at,
        }
