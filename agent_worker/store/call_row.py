"""What facts make of a call's row: pure, so that order and repetition can be proved harmless."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from agent_worker.domain.call import CallStatus, Direction, final_status
from agent_worker.domain.fact import (
    CallAnswered,
    CallEnded,
    CallOpened,
    CallPlanned,
    EventOccurred,
    Fact,
    RecordingChanged,
    UsageCounted,
)

PROVISIONAL = -1
"""Sequence number of facts that no journal holds: the sweeper's verdict on a call it heard no more of."""

CAMPAIGN_CHARS = 200

_PLANNED_FIELDS = {"agent_id", "language", "pipeline_config", "provenance", "metadata"}
_ENDED_FIELDS = {"disconnection_reason", "failure_cause", "sip_status_code", "sip_status", "structured_data"}


def sequence_of(fact: Fact) -> int:
    """Return the place of the fact in its call's journal, or `PROVISIONAL`."""
    return _sequence(fact.id)


def _sequence(fact_id: str) -> int:
    tail = fact_id.rpartition(":")[2]
    return int(tail) if tail.isascii() and tail.isdecimal() else PROVISIONAL


def first_row(
    call_id: str, facts: Sequence[Fact], organization_id: str, lease_until: datetime | None
) -> dict[str, Any]:
    """Return the row of a call nothing is known of but these facts; the first of them may be missing."""
    blank: dict[str, Any] = {
        "id": call_id,
        "organization_id": organization_id,
        "status": CallStatus.CONNECTING.value,
        "opened_status": CallStatus.CONNECTING.value,
        "direction": Direction.INBOUND.value,
        "created_at": min(fact.at for fact in facts),
        "updated_at": min(fact.at for fact in facts),
        "lease_until": lease_until,
    }
    for fact in facts:
        if isinstance(fact, CallOpened):
            return blank | _opened(fact) | {"status": fact.status.value}
    return blank


def changed_call(row: Mapping[str, Any], facts: Sequence[Fact]) -> dict[str, Any]:
    """Return the columns these facts, in order of their sequence, change in the row."""
    after = dict(row)
    for fact in facts:
        match fact:
            case CallOpened() if after["room_name"] is None:
                after |= _opened(fact)
            case CallPlanned():
                after |= fact.model_dump(mode="json", include=_PLANNED_FIELDS)
                after["campaign_id"] = campaign_of(fact.metadata)
            case CallAnswered():
                after["answered_at"] = min(after["answered_at"] or fact.at, fact.at)
            case CallEnded() if _is_better_end(after["ended_by"], fact):
                after |= fact.model_dump(mode="json", include=_ENDED_FIELDS)
                after |= {"ended_by": fact.id, "ended_at": fact.at, "lease_until": None}
            case _:
                pass
    after["updated_at"] = max([row["updated_at"], *(fact.at for fact in facts)])
    after |= _derived(after)
    return {name: value for name, value in after.items() if value != row[name]}


def campaign_of(metadata: Mapping[str, Any]) -> str | None:
    """Return the campaign a call's metadata names, by which calls are listed."""
    named = metadata.get("campaignId") or metadata.get("campaign_id")
    return str(named)[:CAMPAIGN_CHARS] if isinstance(named, str | int) and named else None


IN_AN_OPERATORS_WORDS = "transfer.cancelled"
"""The one event whose failure cause is free text."""


def without_words(facts: Sequence[Fact]) -> list[Fact]:
    """Return what of these facts a purged call may still be told: nothing anybody said, and no numbers."""
    kept: list[Fact] = []
    for fact in facts:
        match fact:
            case EventOccurred():
                said = {"failure_cause": None} if fact.event_type == IN_AN_OPERATORS_WORDS else {}
                kept.append(fact.model_copy(update={"payload": {}, **said}))
            case CallEnded():
                kept.append(fact.model_copy(update={"structured_data": {}}))
            case CallAnswered() | UsageCounted() | RecordingChanged():
                kept.append(fact)
            case _:
                pass
    return kept


def _opened(fact: CallOpened) -> dict[str, Any]:
    fields = fact.model_dump(mode="json", exclude={"id", "call_id", "at", "kind", "status"})
    return {**fields, "opened_status": fact.status.value, "created_at": fact.at}


def _is_better_end(ended_by: str | None, fact: CallEnded) -> bool:
    """Only what the call's own journal says replaces an end, and only the sweeper's."""
    if ended_by is None:
        return True
    return _sequence(ended_by) == PROVISIONAL and sequence_of(fact) != PROVISIONAL


def _derived(row: Mapping[str, Any]) -> dict[str, Any]:
    ended, answered = row["ended_at"], row["answered_at"]
    if ended is None:
        status = CallStatus.ACTIVE.value if answered else row["opened_status"]
        return {"status": status, "duration_seconds": None}
    duration = max(0, round((ended - answered).total_seconds())) if answered else 0
    return {"status": final_status(row["disconnection_reason"]).value, "duration_seconds": duration}
