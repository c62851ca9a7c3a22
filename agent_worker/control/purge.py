"""Erases what a call says of people: their words, numbers, names and voice. That there was a call remains."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

ERASE = "erase_recording"
"""Kind of the job that deletes the files."""

PURGED = "purged"


@dataclass(frozen=True)
class Purged:
    """A call nobody's words are left of.

    Attributes:
        anew: whether it was not so before.
    """

    at: datetime
    anew: bool


async def purge_call(connection: AsyncConnection, call_id: str, now: datetime) -> Purged | None:
    """Purge a call that is over; returns None where it is live, or where there is none.

    What was written since an earlier purge goes too: everything is blanked again.
    """
    from agent_worker.store.purging import blank_call, lock_for_purge

    row = await lock_for_purge(connection, call_id)
    if row is None or row["ended_at"] is None:
        return None
    at: datetime = row["purged_at"] or now
    await erase_recording(connection, call_id, now)
    await blank_call(connection, call_id, at)
    return Purged(at, row["purged_at"] is None)


async def erase_recording(connection: AsyncConnection, call_id: str, now: datetime, *, why: str = PURGED) -> bool:
    """Have a recording's files deleted and forget where they are; returns whether there was anything."""
    from agent_worker.store import jobs
    from agent_worker.store.purging import forget_recording

    kept = await forget_recording(connection, call_id, now, why)
    if kept is None:
        return False
    payload = {"path": kept["path"], "location": kept["location"]}
    # without the call's id of its own: the files have to go also where the row does
    await jobs.enqueue(connection, ERASE, call_id, now=now, host=kept["host"], payload=payload, again=True)
    return True
