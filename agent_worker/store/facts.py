"""The write side: facts become rows, each once, in whatever order and however often they arrive.

No list of applied facts is kept. Every row a fact can touch knows the sequence number of the fact it stands
for, and only a later fact replaces it; events have the fact's id as their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Update, delete, exists, func, select
from sqlalchemy import insert as plain_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import (
    EventOccurred,
    Fact,
    RecordingChanged,
    TranscriptSpoken,
    TransferChanged,
    UsageCounted,
    UsageLine,
)
from agent_worker.domain.transfer import OPEN_STATUSES, TransferCause, TransferStatus
from agent_worker.store import tables
from agent_worker.store.call_row import changed_call, first_row, sequence_of, without_words
from agent_worker.store.call_search import index_call
from agent_worker.store.upsert import insert, insert_new, insert_or_replace, storable

MICROSECOND = timedelta(microseconds=1)


@dataclass
class Applied:
    """What a batch of facts changed.

    Attributes:
        calls: calls whose rows changed, so that a report made of them is out of date.
        ended: calls that were over for the first time, or whose end is now known better.
        events: events that were not known before, in order.
        recordings: calls whose recording stands elsewhere than before.
    """

    calls: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    events: list[EventOccurred] = field(default_factory=list)
    recordings: set[str] = field(default_factory=set)


async def apply_facts(
    connection: AsyncConnection,
    facts: Sequence[Fact],
    *,
    organization_id: str,
    lease_until: datetime | None = None,
) -> Applied:
    """Apply facts of any number of calls inside the connection's transaction.

    Args:
        organization_id: of calls whose first fact has not arrived yet.
        lease_until: until when a call that is new is taken to be alive without further word.
    """
    by_call: dict[str, list[Fact]] = {}
    for fact in facts:
        by_call.setdefault(fact.call_id, []).append(fact)
    applied = Applied()
    # sorted: two writers that lock the same calls lock them in the same order
    for call_id in sorted(by_call):
        ordered = sorted(by_call[call_id], key=sequence_of)
        await _apply_to_call(connection, call_id, ordered, organization_id, lease_until, applied)
    return applied


async def _apply_to_call(
    connection: AsyncConnection,
    call_id: str,
    facts: list[Fact],
    organization_id: str,
    lease_until: datetime | None,
    applied: Applied,
) -> None:
    row, is_new = await _locked_row(connection, call_id, facts, organization_id, lease_until)
    is_purged = row["purged_at"] is not None
    if is_purged:
        facts = without_words(facts)
    changes = changed_call(row, facts)
    if "created_at" in changes:
        changes["created_at"] = await _free_moment(connection, row, changes)
    usage = _latest_usage(facts, row["usage_sequence"])
    if usage is not None:
        changes["usage_sequence"] = sequence_of(usage)
        await _replace_usage(connection, call_id, usage.lines)
    new_events = await insert_new(connection, tables.events, await _event_rows(connection, call_id, facts))
    written = await insert_or_replace(
        connection, tables.transcript_entries, _transcript_rows(facts), newer_by="sequence"
    )
    if await insert_or_replace(connection, tables.recordings, _recording_rows(facts), newer_by="sequence"):
        written += 1
        applied.recordings.add(call_id)
    written += await insert_or_replace(connection, tables.transfers, _transfer_rows(facts, row), newer_by="sequence")
    if ended_at := changes.get("ended_at", row["ended_at"]):
        # a process that was killed has left its transfer open; a later word of its own still wins
        await connection.execute(_lost_transfers(call_id, ended_at))
    if not is_purged:
        applied.events += [fact for fact in facts if isinstance(fact, EventOccurred) and fact.id in new_events]
    if changes or written or new_events:
        changes["revision"] = row["revision"] + 1
        values = {name: storable(value) for name, value in changes.items()}
        await connection.execute(tables.calls.update().where(tables.calls.c.id == call_id).values(values))
    if is_new or changes.keys() & _SEARCHED:
        await index_call(connection, call_id)
    if is_purged:  # nobody is told any more, and no report is made
        return
    if is_new or changes:
        applied.calls.add(call_id)
    if "ended_by" in changes:
        applied.ended.add(call_id)


async def _locked_row(
    connection: AsyncConnection,
    call_id: str,
    facts: list[Fact],
    organization_id: str,
    lease_until: datetime | None,
) -> tuple[dict[str, Any], bool]:
    """Return the call's row, made if missing, held until the transaction ends, and whether it was made."""
    query = select(tables.calls).where(tables.calls.c.id == call_id).with_for_update()
    found = (await connection.execute(query)).mappings().one_or_none()
    if found is not None:
        return dict(found), False
    values = {name: storable(value) for name, value in first_row(call_id, facts, organization_id, lease_until).items()}
    statement = insert(connection, tables.calls).on_conflict_do_nothing().returning(tables.calls.c.id)
    while True:
        made = (await connection.execute(statement, values)).scalar_one_or_none() is not None
        if made or await _is_there(connection, call_id):
            break
        values["created_at"] += MICROSECOND  # another call of the organization has this very microsecond
    return dict((await connection.execute(query)).mappings().one()), made


async def _is_there(connection: AsyncConnection, call_id: str) -> bool:
    return bool(await connection.scalar(select(exists().where(tables.calls.c.id == call_id))))


async def _free_moment(connection: AsyncConnection, row: dict[str, Any], changes: dict[str, Any]) -> datetime:
    organization_id = changes.get("organization_id", row["organization_id"])
    moment: datetime = changes["created_at"]
    calls = tables.calls.c
    while await connection.scalar(
        select(
            exists().where(calls.organization_id == organization_id, calls.created_at == moment, calls.id != row["id"])
        )
    ):
        moment += MICROSECOND
    return moment


def _latest_usage(facts: list[Fact], known: int) -> UsageCounted | None:
    counted = [fact for fact in facts if isinstance(fact, UsageCounted) and sequence_of(fact) > known]
    return counted[-1] if counted else None


async def _replace_usage(connection: AsyncConnection, call_id: str, lines: list[UsageLine]) -> None:
    await connection.execute(delete(tables.usage).where(tables.usage.c.call_id == call_id))
    if lines:
        await connection.execute(
            plain_insert(tables.usage),
            [
                {"call_id": call_id, "position": position, **storable(line.model_dump())}
                for position, line in enumerate(lines)
            ],
        )


async def _event_rows(connection: AsyncConnection, call_id: str, facts: list[Fact]) -> list[dict[str, Any]]:
    happened = [fact for fact in {fact.id: fact for fact in facts}.values() if isinstance(fact, EventOccurred)]
    if not happened:
        return []
    # `created_at` is when an event came to be known here, whenever it happened: who follows a call by it misses
    # none that comes late. It only grows within a call, whatever the clocks of several control planes say.
    stored = tables.events.c
    last: datetime | None = await connection.scalar(
        select(func.max(stored.created_at)).where(stored.call_id == call_id)
    )
    now = utc_now() if last is None else max(utc_now(), last + MICROSECOND)
    return [
        {
            **fact.model_dump(include=_EVENT_FIELDS),
            "occurred_at": fact.at,
            "created_at": now + place * MICROSECOND,
            "sequence": sequence_of(fact),
        }
        for place, fact in enumerate(happened)
    ]


def _transcript_rows(facts: list[Fact]) -> list[dict[str, Any]]:
    latest = {fact.index: fact for fact in facts if isinstance(fact, TranscriptSpoken)}
    return [
        {**fact.model_dump(exclude={"id", "at", "kind"}), "sequence": sequence_of(fact)} for fact in latest.values()
    ]


def _recording_rows(facts: list[Fact]) -> list[dict[str, Any]]:
    changed = [fact for fact in facts if isinstance(fact, RecordingChanged)]
    return [
        {
            **fact.model_dump(exclude={"id", "at", "kind"}),
            "updated_at": fact.at,
            "sequence": sequence_of(fact),
        }
        for fact in changed[-1:]
    ]


def _transfer_rows(facts: list[Fact], row: dict[str, Any]) -> list[dict[str, Any]]:
    latest = {fact.transfer_id: fact for fact in facts if isinstance(fact, TransferChanged)}
    return [
        {
            **fact.model_dump(mode="json", exclude={"id", "at", "kind", "transfer_id", "transfer_kind"}),
            "id": fact.transfer_id,
            "kind": fact.transfer_kind.value,
            "organization_id": row["organization_id"],
            "created_at": fact.created_at,
            "updated_at": fact.at,
            "completed_at": fact.completed_at,
            "sequence": sequence_of(fact),
        }
        for fact in latest.values()
    ]


def _lost_transfers(call_id: str, at: datetime) -> Update:
    transfers = tables.transfers
    open_ones = transfers.c.status.in_([status.value for status in OPEN_STATUSES])
    lost = {"status": TransferStatus.FAILED.value, "failure_cause": TransferCause.WORKER_LOST.value, "updated_at": at}
    return (
        transfers.update()
        .where(transfers.c.call_id == call_id, open_ones)
        .values({name: storable(value) for name, value in lost.items()})
    )


_SEARCHED = {"created_at", "caller_number", "dialed_number"}
_EVENT_FIELDS = {
    "id",
    "call_id",
    "provider",
    "event_type",
    "status",
    "failure_cause",
    "sip_status_code",
    "sip_status",
    "payload",
}
