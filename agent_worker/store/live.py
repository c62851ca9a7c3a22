"""What has become known of calls that somebody watches: which of them changed, and what is new on each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.queries import Record
from agent_worker.store.tables import calls, events, transcript_entries

ROOM_MARGIN = timedelta(minutes=5)
"""A room is there before its call and after it, by less than this."""


@dataclass(frozen=True)
class LiveState:
    """Where a call stands, and what of it was asked for.

    Attributes:
        turns: rows of the transcript, by index.
        events: rows of the event list with their `organization_id`, in the order they came to be known.
    """

    revision: int
    status: str
    ended_at: datetime | None
    turns: list[Record]
    events: list[Record]


async def revisions(connection: AsyncConnection, call_ids: Collection[str]) -> dict[str, int]:
    """Return a number for each of these calls that differs whenever facts have changed it."""
    query = select(calls.c.id, calls.c.revision).where(calls.c.id.in_(call_ids))
    return {row.id: row.revision for row in await connection.execute(query)}


async def live_state(
    connection: AsyncConnection, call_id: str, *, from_turn: int, events_after: datetime | None
) -> LiveState | None:
    """Return where a call stands with what is new of it, None where there is no such call.

    Args:
        from_turn: the first turn of interest.
        events_after: only events that came to be known later.
    """
    query = select(calls.c.revision, calls.c.status, calls.c.ended_at, calls.c.organization_id)
    row = (await connection.execute(query.where(calls.c.id == call_id))).mappings().one_or_none()
    if row is None:
        return None
    turn = transcript_entries.c
    said = select(transcript_entries).where(turn.call_id == call_id, turn.index >= from_turn).order_by(turn.index)
    happened = select(events).where(events.c.call_id == call_id).order_by(events.c.created_at, events.c.id)
    if events_after is not None:
        happened = happened.where(events.c.created_at > events_after)
    return LiveState(
        revision=row["revision"],
        status=row["status"],
        ended_at=row["ended_at"],
        turns=[dict(found) for found in (await connection.execute(said)).mappings()],
        events=[
            {**found, "organization_id": row["organization_id"]}
            for found in (await connection.execute(happened)).mappings()
        ],
    )


async def call_of_room(connection: AsyncConnection, room_name: str, at: datetime) -> str | None:
    """Return the call that was in this room at this time, None where there was none: names of rooms come again."""
    query = (
        select(calls.c.id, calls.c.created_at, calls.c.ended_at)
        .where(calls.c.room_name == room_name)
        .order_by(calls.c.created_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None or at < row.created_at - ROOM_MARGIN or (row.ended_at and at > row.ended_at + ROOM_MARGIN):
        return None
    return str(row.id)
