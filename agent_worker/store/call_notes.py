"""What people do to a call's row: note something about it, or take it out of the lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import calls
from agent_worker.store.upsert import storable


async def note_call(connection: AsyncConnection, call_id: str, changes: Mapping[str, Any]) -> None:
    """Change `done`, `note` or `employee` of a call; when its facts changed last is another matter."""
    values = {name: storable(value) for name, value in changes.items()}
    await connection.execute(update(calls).where(calls.c.id == call_id).values(values))


async def delete_call(connection: AsyncConnection, call_id: str, now: datetime) -> bool:
    """Mark a call as deleted; returns whether it was not before."""
    listed = update(calls).where(calls.c.id == call_id, calls.c.deleted_at.is_(None))
    return (await connection.execute(listed.values(deleted_at=now))).rowcount == 1
