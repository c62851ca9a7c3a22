"""Callbacks people asked for, as rows, and in the contract's shape (1.7)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.columns import wire_time
from agent_worker.store.tables import callbacks
from agent_worker.store.upsert import insert, storable

Record = dict[str, Any]

SCHEDULED = "scheduled"
CANCELLED = "cancelled"

_table = callbacks.c
_TIMES = ("scheduled_at", "attempted_at", "dispatched_at", "cancelled_at", "created_at", "updated_at")
_MOVED = ("scheduled_at", "reason", "summary", "updated_at")
"""What a second analysis of the same call may change."""


async def schedule(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Write a callback; one with its id that still waits is moved to the new time, any other is left alone."""
    statement = insert(connection, callbacks)
    moved = {name: statement.excluded[name] for name in _MOVED}
    upsert = statement.on_conflict_do_update(index_elements=[_table.id], set_=moved, where=_table.status == SCHEDULED)
    await connection.execute(upsert, {name: storable(value) for name, value in row.items()})


async def list_callbacks(
    connection: AsyncConnection,
    organization_id: str,
    *,
    status: str | None = None,
    source_session_id: str | None = None,
    agent_ids: Collection[str] | None = None,
    limit: int,
) -> list[Record]:
    """Return callbacks, the next one first.

    Args:
        agent_ids: only of these agents; None for all.
    """
    query = select(callbacks).where(_table.organization_id == organization_id)
    if status is not None:
        query = query.where(_table.status == status)
    if source_session_id is not None:
        query = query.where(_table.source_session_id == source_session_id.replace("\x00", ""))
    if agent_ids is not None:
        query = query.where(_table.agent_id.in_(agent_ids))
    rows = (await connection.execute(query.order_by(_table.scheduled_at, _table.id).limit(limit))).mappings()
    return [_wire(row) for row in rows]


async def find_callback(connection: AsyncConnection, organization_id: str, callback_id: str) -> Record | None:
    """Return a callback, or None where the organization has none with this id."""
    if "\x00" in callback_id:  # PostgreSQL cannot even ask for it
        return None
    query = select(callbacks).where(_table.organization_id == organization_id, _table.id == callback_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else _wire(row)


async def cancel_callback(connection: AsyncConnection, callback_id: str, *, reason: str | None, now: datetime) -> bool:
    """Cancel a callback that waits; returns False where it does not wait any more."""
    values: Record = {"status": CANCELLED, "cancelled_at": now, "updated_at": now}
    if reason:
        values["failure_cause"] = storable(reason)
    waiting = update(callbacks).where(_table.id == callback_id, _table.status == SCHEDULED)
    return (await connection.execute(waiting.values(values))).rowcount == 1


def _wire(row: Mapping[Any, Any]) -> Record:
    return {**row, **{name: wire_time(row[name]) for name in _TIMES}}
