"""The read side: calls, events, reports and recordings, in the shapes of the wire contract (1.2, 1.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store import tables
from agent_worker.store.columns import wire_time
from agent_worker.store.tables import (
    calls,
    events,
    recordings,
    transcript_entries,
    transfers,
)

Record = dict[str, Any]


async def call_detail(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return the contract's CallDetail, or None where there is no such call."""
    row = await _one(connection, calls, call_id, key="id")
    if row is None:
        return None
    from agent_worker.store.reports import call_report  # which reads the transcript here

    recording = await _one(connection, recordings, call_id) or {}
    entries = await transcript(connection, call_id)
    return {
        **_summary(row, recording.get("status")),
        "pipeline_config": row["pipeline_config"],
        "provenance": row["provenance"],
        "metadata": call_metadata(row),
        "updated_at": wire_time(row["updated_at"]),
        "answered_at": wire_time(row["answered_at"]),
        "failure_cause": row["failure_cause"],
        "sip_status_code": row["sip_status_code"],
        "sip_status": row["sip_status"],
        "recording_duration_ms": recording.get("duration_ms"),
        "recording_resource_uri": f"/v1/calls/{call_id}/recording",
        "report": await call_report(connection, call_id),
        "transfers": await call_transfers(connection, call_id),
        "transcript": {"entries": entries},
        "span_tree": {},
    }


async def call_events(connection: AsyncConnection, call_id: str) -> list[Record]:
    """Return the contract's CallEvents of a call, in the order they happened."""
    query = (
        select(events, calls.c.organization_id)
        .join(calls, calls.c.id == events.c.call_id)
        .where(events.c.call_id == call_id)
        .order_by(events.c.occurred_at, events.c.sequence, events.c.id)
    )
    return [event_record(row) for row in await _all(connection, query)]


def event_record(row: Record) -> Record:
    """Return the contract's CallEvent of a row of the event list that also has the call's `organization_id`."""
    return {
        "id": row["id"],
        "session_id": row["call_id"],
        "organization_id": row["organization_id"],
        "provider": row["provider"],
        "event_type": row["event_type"],
        "status": row["status"],
        "failure_cause": row["failure_cause"],
        "sip_status_code": row["sip_status_code"],
        "sip_status": row["sip_status"],
        "occurred_at": wire_time(row["occurred_at"]),
        "payload": row["payload"],
        "created_at": wire_time(row["created_at"]),
    }


async def call_recording(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return `{status, path, duration_ms, detail}` of the recording, or None where nothing was recorded."""
    row = await _one(connection, recordings, call_id)
    return row and {name: row[name] for name in ("status", "path", "duration_ms", "detail")}


async def transcript(connection: AsyncConnection, call_id: str) -> list[Record]:
    """Return the contract's transcript entries of a call, by index."""
    entries = transcript_entries.c
    query = select(transcript_entries).where(entries.call_id == call_id).order_by(entries.index)
    return [turn_record(row) for row in await _all(connection, query)]


def turn_record(row: Record) -> Record:
    """Return the contract's transcript entry of a row of the transcript."""
    return {
        "id": f"{row['call_id']}:{row['index']}",
        "index": row["index"],
        "source": row["source"],
        "text": row["text"],
        "started_at": wire_time(row["started_at"]),
        "ended_at": wire_time(row["ended_at"]),
        "provider": row["provider"],
        "model": row["model"],
        "metadata": row["metadata"],
        "eou_ms": row["eou_ms"],
        "llm_ttft_ms": row["llm_ttft_ms"],
        "tts_ttfb_ms": row["tts_ttfb_ms"],
        "conversational_latency_ms": row["conversational_latency_ms"],
        "latency_status": row["latency_status"],
    }


async def call_transfers(connection: AsyncConnection, call_id: str) -> list[Record]:
    """Return the contract's CallTransfers of a call, all attempts in order."""
    query = select(transfers).where(transfers.c.call_id == call_id).order_by(transfers.c.created_at, transfers.c.id)
    found = []
    for row in await _all(connection, query):
        transfer = {name: value for name, value in row.items() if name not in ("call_id", "sequence")}
        for name in ("created_at", "updated_at", "completed_at"):
            transfer[name] = wire_time(row[name])
        found.append({**transfer, "session_id": call_id})
    return found


async def call_usage(connection: AsyncConnection, call_id: str) -> list[Record]:
    """Return `{provider, model, metric, quantity}` of everything the call used."""
    table = tables.usage
    query = (
        select(table.c.provider, table.c.model, table.c.metric, table.c.quantity)
        .where(table.c.call_id == call_id)
        .order_by(table.c.position)
    )
    return [dict(row) for row in await _all(connection, query)]


async def expired_leases(connection: AsyncConnection, now: datetime) -> list[tuple[str, str, datetime]]:
    """Return call id, room name and end of lease of each call that nobody has vouched for since then."""
    query = (
        select(calls.c.id, calls.c.room_name, calls.c.lease_until)
        .where(calls.c.ended_at.is_(None), calls.c.lease_until < now)
        .order_by(calls.c.lease_until)
    )
    return [(row["id"], row["room_name"] or "", row["lease_until"]) for row in await _all(connection, query)]


def call_metadata(row: Record) -> Record:
    """Return the call's metadata with what clients look for there: who called whom, and why it ended."""
    return {
        **row["metadata"],
        "direction": row["direction"],
        "from": row["caller_number"],
        "to": row["dialed_number"],
        "disconnection_reason": row["disconnection_reason"],
    }


async def call_row(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return the call's own row, by column."""
    return await _one(connection, calls, call_id, key="id")


def _summary(row: Record, recording_status: str | None) -> Record:
    return {
        "id": row["id"],
        "call_id": row["id"],
        "resource_uri": f"/v1/calls/{row['id']}",
        "agent_id": row["agent_id"],
        "status": row["status"],
        "kind": row["kind"],
        "room_name": row["room_name"],
        "language": row["language"],
        "created_at": wire_time(row["created_at"]),
        "ended_at": wire_time(row["ended_at"]),
        "duration_seconds": row["duration_seconds"],
        "recording_status": recording_status,
    }


async def _all(connection: AsyncConnection, query: Select[Any]) -> list[Record]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def _one(connection: AsyncConnection, table: Table, call_id: str, *, key: str = "call_id") -> Record | None:
    found = (await connection.execute(select(table).where(table.c[key] == call_id))).mappings().one_or_none()
    return None if found is None else dict(found)
