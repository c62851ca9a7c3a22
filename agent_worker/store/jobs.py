"""Durable jobs: work that follows from a call and is done after it, by whichever process claims it, until it is done.

A job is written in the transaction that makes it necessary. A claim is a lease: a process that dies lets go of its
jobs when the lease runs out, so a job may be done twice and its work must be harmless to repeat.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, delete, exists, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import jobs
from agent_worker.store.upsert import insert, insert_new, storable

PENDING = "pending"
FAILED = "failed"
ERROR_CHARS = 500


@dataclass(frozen=True)
class Job:
    """A claimed job.

    Attributes:
        attempts: claims so far, this one included.
        due_at: when the claim runs out.
        claimed_at: when it was claimed.
    """

    id: str
    kind: str
    call_id: str | None
    payload: Mapping[str, Any]
    attempts: int
    due_at: datetime
    claimed_at: datetime


async def enqueue(
    connection: AsyncConnection,
    kind: str,
    about: str,
    *,
    now: datetime,
    call_id: str | None = None,
    payload: Mapping[str, Any] | None = None,
    host: str | None = None,
    due_at: datetime | None = None,
    again: bool = False,
) -> bool:
    """Write a job that is not there yet; returns whether it was written.

    Args:
        about: names the job among its kind.
        host: only a process of this host can do it.
        due_at: not before then; at once where not given.
        again: start a job that is there already, or has failed, from the beginning.
    """
    row: dict[str, Any] = {
        "id": f"{kind}:{about}",
        "kind": kind,
        "call_id": call_id,
        "host": host,
        "payload": dict(payload or {}),
        "status": PENDING,
        "attempts": 0,
        "due_at": due_at or now,
        "claimed_by": None,
        "error": None,
        "created_at": now,
        "updated_at": now,
    }
    if not again:
        return bool(await insert_new(connection, jobs, [row]))
    statement = insert(connection, jobs)
    renewed = {name: statement.excluded[name] for name in row if name not in ("id", "created_at")}
    values = {name: storable(value) for name, value in row.items()}
    await connection.execute(statement.on_conflict_do_update(index_elements=[jobs.c.id], set_=renewed), values)
    return True


async def any_due(connection: AsyncConnection, kinds: Collection[str], *, host: str, now: datetime) -> bool:
    """Return whether there is anything to claim; asked first, because a claim takes the write lock of SQLite."""
    found = select(literal(1)).where(*_due(kinds, host, now)).limit(1)
    return await connection.scalar(found) is not None


def _due(kinds: Collection[str], host: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    table = jobs.c
    # as a literal: SQLite uses the partial index only where it can see that the condition is the index's
    pending = table.status == literal(PENDING, Text, literal_execute=True)
    return pending, table.due_at <= now, table.kind.in_(kinds), or_(table.host.is_(None), table.host == host)


async def claim(
    connection: AsyncConnection,
    kinds: Collection[str],
    *,
    by: str,
    host: str,
    now: datetime,
    until: datetime,
    limit: int,
) -> list[Job]:
    """Claim jobs that are due, oldest first; nobody else gets them before `until`.

    Args:
        by: names the process, for people.
        host: this host; jobs of others are left to them.
    """
    table = jobs.c
    due = (
        select(table.id)
        .where(*_due(kinds, host, now))
        .order_by(table.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list((await connection.execute(due)).scalars())
    if not ids:
        return []
    claimed = {"attempts": table.attempts + 1, "due_at": until, "claimed_by": by, "updated_at": now}
    await connection.execute(update(jobs).where(table.id.in_(ids)).values(claimed))
    rows = (await connection.execute(select(jobs).where(table.id.in_(ids)).order_by(table.created_at))).mappings()
    return [Job(r["id"], r["kind"], r["call_id"], r["payload"], r["attempts"], r["due_at"], now) for r in rows]


async def waiting(connection: AsyncConnection, kind: str, *, host: str) -> bool:
    """Return whether this host has a job of this kind to do or to finish."""
    table = jobs.c
    query = select(exists().where(table.status == PENDING, table.kind == kind, table.host == host))
    return bool(await connection.scalar(query))


async def is_pending(connection: AsyncConnection, kind: str, about: str) -> bool:
    """Return whether this job waits or is being done."""
    query = select(exists().where(jobs.c.id == f"{kind}:{about}", jobs.c.status == PENDING))
    return bool(await connection.scalar(query))


async def renew(connection: AsyncConnection, job: Job, *, by: str, until: datetime) -> bool:
    """Keep a claim for longer; returns False where it is somebody else's by now."""
    changed = await connection.execute(update(jobs).where(*_mine(job, by)).values(due_at=until))
    return changed.rowcount == 1


async def finish(connection: AsyncConnection, job: Job, *, by: str) -> bool:
    """Delete a job that is done; returns False where it is somebody else's by now, or was started anew."""
    return (await connection.execute(delete(jobs).where(*_mine(job, by)))).rowcount == 1


async def finish_with(connection: AsyncConnection, job: Job) -> bool:
    """Delete a job in the transaction that writes its result, so that the result is written once.

    Returns:
        False where the claim ran out and somebody else has it, or it was started anew: the result is then not wanted.
    """
    mine = jobs.c.id == job.id, jobs.c.attempts == job.attempts, jobs.c.updated_at == job.claimed_at
    return (await connection.execute(delete(jobs).where(*mine))).rowcount == 1


async def put_off(connection: AsyncConnection, job: Job, *, by: str, due_at: datetime, error: str) -> None:
    """Give a job back, to be tried again then."""
    values = {"due_at": due_at, "claimed_by": None, "error": error[:ERROR_CHARS]}
    await connection.execute(update(jobs).where(*_mine(job, by)).values(values))


async def give_up(connection: AsyncConnection, job: Job, *, by: str, now: datetime, error: str) -> None:
    """Leave a job as failed, with what went wrong."""
    values = {"status": FAILED, "claimed_by": None, "error": error[:ERROR_CHARS], "updated_at": now}
    await connection.execute(update(jobs).where(*_mine(job, by)).values(values))


def _mine(job: Job, by: str) -> tuple[Any, ...]:
    # the number of attempts tells this claim from an earlier one of the same process
    return jobs.c.id == job.id, jobs.c.claimed_by == by, jobs.c.attempts == job.attempts
