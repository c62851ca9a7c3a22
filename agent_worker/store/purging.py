"""Which columns hold what people said, and what is left in them: one place, so that none is forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.call_row import IN_AN_OPERATORS_WORDS
from agent_worker.store.call_search import index_call
from agent_worker.store.tables import (
    attempts,
    callbacks,
    calls,
    deliveries,
    events,
    jobs,
    recordings,
    reports,
    transcript_entries,
    transfers,
)

PURGED = "purged"
_OPEN_DELIVERIES = ("pending", "delivering")

_CALL: dict[str, Any] = {
    "caller_number": None,
    "dialed_number": None,
    "room_name": None,  # the server may have made it of a number
    "pipeline_config": {},  # prompts with the caller's data in them
    "provenance": {},
    "metadata": {},
    "structured_data": {},
    "note": None,
}
_REPORT: dict[str, Any] = {
    "summary": "",
    "structured_data": {},
    "custom_data": {},
    "artifacts": {},
    "scheduled_callback": None,
    "analysis_error": None,
    "customer_name": None,
    "customer_request": None,
    "score_reason": None,
}
_FIGURES = ("latency", "unpriced", "disconnection_reason")
"""What stays of a report's metadata; the rest came with the call."""

_TRANSFER: dict[str, Any] = {
    "transfer_to": "",
    "from_room_name": None,
    "consultation_room_name": None,
    "caller_participant_identity": None,
    "recipient_participant_identity": None,
    "screening_prompt": None,
    "summary": None,
    "failure_cause": None,  # an operator's own words, where they cancelled it
    "metadata": {},
}
_CALLBACK: dict[str, Any] = {
    "to_number": "",
    "from_number": None,
    "reason": None,
    "instructions": None,
    "summary": None,
    "pipeline_config": {},
    "metadata": {},
}


async def lock_for_purge(connection: AsyncConnection, call_id: str) -> dict[str, Any] | None:
    """Return `ended_at` and `purged_at` of a call, which nobody else changes until the transaction ends."""
    query = select(calls.c.ended_at, calls.c.purged_at).where(calls.c.id == call_id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def forget_recording(connection: AsyncConnection, call_id: str, now: datetime, why: str) -> dict[str, Any] | None:
    """Blank where a recording is; returns `{path, location, host}`, None where there is no file to delete."""
    query = select(recordings).where(recordings.c.call_id == call_id).with_for_update()
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return None
    blank = {"status": "suppressed", "path": None, "location": None, "host": None, "size_bytes": None}
    await connection.execute(
        update(recordings)
        .where(recordings.c.call_id == call_id)
        .values(**blank, duration_ms=None, detail=why, updated_at=now)
    )
    return dict(row) if row["path"] or row["location"] else None


async def blank_call(connection: AsyncConnection, call_id: str, at: datetime) -> None:
    """Take everything of people out of a call's rows, wherever it is."""
    await connection.execute(
        update(calls).where(calls.c.id == call_id).values(**_CALL, purged_at=at, revision=calls.c.revision + 1)
    )
    await connection.execute(delete(transcript_entries).where(transcript_entries.c.call_id == call_id))
    # an analysis that is under way finds its job gone and writes nothing
    await connection.execute(delete(jobs).where(jobs.c.call_id == call_id))
    told = events.c.call_id == call_id
    await connection.execute(update(events).where(told).values(payload={}))
    explained = events.c.event_type == IN_AN_OPERATORS_WORDS
    await connection.execute(update(events).where(told, explained).values(failure_cause=None))
    await connection.execute(update(transfers).where(transfers.c.call_id == call_id).values(_TRANSFER))
    await _blank_report(connection, call_id)
    await _blank_deliveries(connection, call_id)
    await _blank_callbacks(connection, call_id, at)
    await index_call(connection, call_id)


async def _blank_report(connection: AsyncConnection, call_id: str) -> None:
    mine = reports.c.call_id == call_id
    known = await connection.scalar(select(reports.c.metadata).where(mine)) or {}
    figures = {name: known[name] for name in _FIGURES if name in known}
    await connection.execute(update(reports).where(mine).values(**_REPORT, metadata=figures))


async def _blank_deliveries(connection: AsyncConnection, call_id: str) -> None:
    mine = deliveries.c.call_id == call_id
    await connection.execute(update(deliveries).where(mine).values(payload={}, webhook_tags={}))
    stopped = {"status": "cancelled", "error": PURGED, "next_attempt_at": None}
    await connection.execute(update(deliveries).where(mine, deliveries.c.status.in_(_OPEN_DELIVERIES)).values(stopped))
    sent = attempts.c.delivery_id.in_(select(deliveries.c.id).where(mine))
    await connection.execute(update(attempts).where(sent).values(response_body=None, request_headers={}))


async def _blank_callbacks(connection: AsyncConnection, call_id: str, at: datetime) -> None:
    mine = callbacks.c.source_session_id == call_id
    cancelled = {"status": "cancelled", "cancelled_at": at}
    await connection.execute(update(callbacks).where(mine, callbacks.c.status == "scheduled").values(cancelled))
    await connection.execute(update(callbacks).where(mine).values(**_CALLBACK, updated_at=at))


async def aged_calls(connection: AsyncConnection, before: datetime, limit: int) -> Sequence[str]:
    """Return calls that began before then, are over and not purged, and that nobody else is purging; oldest first."""
    query = (
        select(calls.c.id)
        .where(calls.c.purged_at.is_(None), calls.c.created_at < before, calls.c.ended_at.is_not(None))
        .order_by(calls.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await connection.execute(query)).scalars().all()


async def aged_recordings(connection: AsyncConnection, before: datetime, limit: int) -> Sequence[str]:
    """Return calls whose recording has been ready since before then, oldest first, as `aged_calls` does."""
    query = (
        select(recordings.c.call_id)
        .where(recordings.c.status == "ready", recordings.c.updated_at < before)
        .order_by(recordings.c.updated_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return (await connection.execute(query)).scalars().all()
