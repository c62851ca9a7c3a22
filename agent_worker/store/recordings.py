"""Where each call's recording stands: its row, read beside what became of the call."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import calls, recordings
from agent_worker.store.upsert import storable

Record = dict[str, Any]


async def recording_of(connection: AsyncConnection, call_id: str, *, lock: bool = False) -> Record | None:
    """Return what is known of a call's recording; None where there is no such call.

    Args:
        lock: keep the call from changing until the transaction ends.

    Returns:
        The recording's columns, all None where nothing was recorded, and the call's `ended_at` and `purged_at`.
    """
    query = (
        select(
            calls.c.ended_at,
            calls.c.purged_at,
            recordings.c.status,
            recordings.c.path,
            recordings.c.host,
            recordings.c.location,
            recordings.c.duration_ms,
            recordings.c.size_bytes,
            recordings.c.detail,
        )
        .join(recordings, recordings.c.call_id == calls.c.id, isouter=True)
        .where(calls.c.id == call_id)
    )
    if lock:
        query = query.with_for_update(of=calls)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


def is_wanted(row: Record | None) -> bool:
    """Return whether a call may have a recording: it is recorded, and what there was has not been erased."""
    return row is not None and row["purged_at"] is None and row["status"] not in (None, "suppressed")


async def change_recording(connection: AsyncConnection, call_id: str, now: datetime, **values: Any) -> None:
    """Change columns of a recording's row."""
    changed = {name: storable(value) for name, value in values.items()}
    statement = update(recordings).where(recordings.c.call_id == call_id).values(updated_at=now, **changed)
    await connection.execute(statement)
