"""Deliveries as a queue: claimed by whoever is free, sent in order for each endpoint and call, and settled.

A claim is a lease, as with jobs: while a delivery is `delivering`, `next_attempt_at` is when the claim runs out, and
the number of attempts tells this claim from an earlier one. Of the deliveries of one call to one endpoint only the
oldest that is open can be claimed, so that none overtakes another.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, delete, exists, func, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.columns import UtcDateTime
from agent_worker.store.tables import attempts, deliveries
from agent_worker.store.upsert import insert_new, storable

PENDING = "pending"
DELIVERING = "delivering"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"
EXPIRED = "expired"

AUTOMATIC = "automatic"
MANUAL = "manual"
INTERRUPTED = "The process that sent this ended before the answer was known; it is sent again."
UNTAKEN = "Nobody took it in time."

Record = dict[str, Any]

# `min` over the partial index, from one endpoint to the next: what is pending to one of them is not read
_DUE_ENDPOINTS = text(
    """
    WITH RECURSIVE waiting(endpoint_id) AS (
        SELECT min(endpoint_id) FROM deliveries WHERE status IN ('pending', 'delivering')
        UNION ALL
        SELECT (SELECT min(d.endpoint_id) FROM deliveries d
                WHERE d.status IN ('pending', 'delivering') AND d.endpoint_id > w.endpoint_id)
        FROM waiting w WHERE w.endpoint_id IS NOT NULL
    )
    SELECT endpoint_id FROM waiting
    WHERE endpoint_id IS NOT NULL
      AND (SELECT min(d.next_attempt_at) FROM deliveries d
           WHERE d.status IN ('pending', 'delivering') AND d.endpoint_id = waiting.endpoint_id) <= :now
    """
).bindparams(bindparam("now", type_=UtcDateTime()))


@dataclass(frozen=True)
class Claimed:
    """A delivery that is this process's to send, until `lease_until`.

    Attributes:
        attempt: its number, from 1.
    """

    id: str
    endpoint_id: str
    event: str
    call_id: str | None
    durable: bool
    attempt: int
    expires_at: datetime
    payload: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Settled:
    """What came of a claim.

    Attributes:
        status: what the delivery is now; `pending` where it is tried again at `next_attempt_at`.
        tried: the attempt's own row, by column; None where none was made.
        held_as: the status it has had since it was claimed.
    """

    delivery: Claimed
    status: str
    http_status: int | None = None
    error: str | None = None
    next_attempt_at: datetime | None = None
    delivered_at: datetime | None = None
    tried: Mapping[str, Any] | None = field(default=None, repr=False)
    held_as: str = DELIVERING


async def due_endpoints(connection: AsyncConnection, now: datetime) -> list[str]:
    """Return the endpoints that something is due for; how much is waiting for one of them costs nothing."""
    return list((await connection.execute(_DUE_ENDPOINTS.columns(endpoint_id=Text), {"now": now})).scalars())


async def claim(
    connection: AsyncConnection, endpoint_id: str, *, now: datetime, until: datetime, limit: int
) -> list[Claimed]:
    """Claim deliveries to one endpoint, the longest due first and of each call the oldest; nobody else gets them.

    Args:
        until: when the claim runs out.
    """
    table, earlier = deliveries.c, deliveries.alias("earlier")
    overtakes = exists(
        select(literal(1)).where(
            _is_open(earlier.c.status),
            earlier.c.endpoint_id == table.endpoint_id,
            earlier.c.call_id == table.call_id,
            earlier.c.created_at < table.created_at,
        )
    )
    due = (
        select(deliveries)
        .where(
            _is_open(table.status),
            table.endpoint_id == endpoint_id,
            table.next_attempt_at <= now,
            table.expires_at > now,
            ~overtakes,
        )
        .order_by(table.next_attempt_at, table.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True, of=deliveries)
    )
    rows = (await connection.execute(due)).mappings().all()
    if not rows:
        return []
    cut_short = [_attempt_row(row["id"], row["attempt_count"], now) for row in rows if row["status"] == DELIVERING]
    await insert_new(connection, attempts, cut_short)
    values = {"status": DELIVERING, "attempt_count": table.attempt_count + 1, "next_attempt_at": until}
    await connection.execute(update(deliveries).where(table.id.in_([row["id"] for row in rows])).values(values))
    return [_claimed(dict(row)) for row in rows]


async def claim_one(
    connection: AsyncConnection, organization_id: str, delivery_id: str, *, until: datetime
) -> tuple[Claimed, str] | None:
    """Claim this delivery, whatever became of it and whatever comes before it; None where there is none.

    Returns:
        The delivery and the status it has now: `delivering` where it waits to be sent, else what it was. The attempt's
        number is 0 where somebody else is sending it at this moment, and it is not claimed.
    """
    table = deliveries.c
    query = select(deliveries).where(table.id == delivery_id, table.organization_id == organization_id)
    row = (await connection.execute(query.with_for_update())).mappings().one_or_none()
    if row is None:
        return None
    claimed = _claimed(dict(row))
    if row["status"] == DELIVERING:
        return replace(claimed, attempt=0), DELIVERING
    values: dict[str, Any] = {"attempt_count": claimed.attempt}
    if row["status"] == PENDING:
        values |= {"status": DELIVERING, "next_attempt_at": until}
    await connection.execute(update(deliveries).where(table.id == delivery_id).values(values))
    return claimed, values.get("status", row["status"])


async def settle(connection: AsyncConnection, settled: Sequence[Settled], *, now: datetime) -> None:
    """Write what came of claims; what is somebody else's by now is left alone."""
    ids = [one.delivery.id for one in settled]
    table = deliveries.c
    query = select(table.id, table.status, table.attempt_count).where(table.id.in_(ids)).with_for_update()
    found = {row.id: (row.status, row.attempt_count) for row in await connection.execute(query)}
    mine = [one for one in settled if found.get(one.delivery.id) == (one.held_as, one.delivery.attempt)]
    if not mine:
        return
    changed = update(deliveries).where(table.id == bindparam("delivery_id"))
    names = ("status", "http_status", "error", "next_attempt_at", "delivered_at")
    values = [{"delivery_id": one.delivery.id, **{name: getattr(one, name) for name in names}} for one in mine]
    await connection.execute(changed.values({name: bindparam(name) for name in names}), values)
    tried = [_attempt_row(one.delivery.id, one.delivery.attempt, **one.tried) for one in mine if one.tried is not None]
    await insert_new(connection, attempts, tried)
    for one in mine:
        if one.next_attempt_at is not None:
            await _move_followers(connection, one.delivery, one.next_attempt_at)
        elif one.delivery.attempt > 1:
            await _move_followers(connection, one.delivery, now)


async def _move_followers(connection: AsyncConnection, first: Claimed, to: datetime) -> None:
    """Let what follows a delivery wait as long as that does: before, it could not be claimed, only looked at."""
    table = deliveries.c
    followers = (table.status == PENDING, table.endpoint_id == first.endpoint_id, table.call_id == first.call_id)
    await connection.execute(update(deliveries).where(*followers, table.id != first.id).values(next_attempt_at=to))


async def expire(connection: AsyncConnection, now: datetime, *, limit: int) -> int:
    """Close deliveries nobody took in time; returns how many."""
    table = deliveries.c
    being_sent = and_(table.status == DELIVERING, table.next_attempt_at > now)
    # every id is above "": it leads SQLite to the index of what is open, which begins with it
    late = (_is_open(table.status), table.endpoint_id > "", table.expires_at <= now, ~being_sent)
    ids = select(table.id).where(*late).limit(limit).with_for_update(skip_locked=True)
    values = {"status": EXPIRED, "next_attempt_at": None, "error": func.coalesce(table.error, UNTAKEN)}
    return (await connection.execute(update(deliveries).where(table.id.in_(ids)).values(values))).rowcount


async def delete_old(connection: AsyncConnection, organization_id: str, before: datetime, *, limit: int) -> int:
    """Delete deliveries that are over and older than that, with their attempts; returns how many."""
    table = deliveries.c
    of_then = (table.organization_id == organization_id, table.created_at < before)
    old = select(table.id).where(*of_then, ~_is_open(table.status)).order_by(table.created_at).limit(limit)
    return (await connection.execute(delete(deliveries).where(table.id.in_(old)))).rowcount


async def cancel_for(connection: AsyncConnection, endpoint_id: str, error: str) -> None:
    """Cancel what is still to be sent to an endpoint."""
    table = deliveries.c
    waiting = and_(_is_open(table.status), table.endpoint_id == endpoint_id)
    values = {"status": CANCELLED, "next_attempt_at": None, "error": error}
    await connection.execute(update(deliveries).where(waiting).values(values))


async def retry_report_deliveries(
    connection: AsyncConnection, call_id: str, now: datetime, *, for_hours: int = 72
) -> int:
    """Send the reports of a call that nobody has taken yet again, now; returns how many there are."""
    table = deliveries.c
    statuses = (PENDING, FAILED, EXPIRED)
    # what has no content any more has nothing to tell
    untaken = and_(
        table.call_id == call_id, table.event == "call.report", table.status.in_(statuses), table.payload != {}
    )
    values = {"status": PENDING, "next_attempt_at": now, "expires_at": now + timedelta(hours=for_hours)}
    return (await connection.execute(update(deliveries).where(untaken).values(values))).rowcount


def _is_open(status: ColumnElement[str]) -> ColumnElement[bool]:
    # as literals: SQLite uses a partial index only where it can see that the condition is the index's
    return status.in_([literal(value, Text, literal_execute=True) for value in (PENDING, DELIVERING)])


def _claimed(row: Mapping[str, Any]) -> Claimed:
    names = ("id", "endpoint_id", "event", "call_id", "durable", "expires_at", "payload")
    return Claimed(attempt=row["attempt_count"] + 1, **{name: row[name] for name in names})


def _attempt_row(delivery_id: str, number: int, created_at: datetime, **values: Any) -> Record:
    return {
        "id": f"att_{uuid.uuid4().hex}",
        "delivery_id": delivery_id,
        "attempt_number": number,
        "trigger": AUTOMATIC,
        "request_url": "",
        "request_headers": {},
        "response_status": None,
        "response_body": None,
        "response_truncated": False,
        "duration_ms": None,
        "error": INTERRUPTED,
        "created_at": created_at,
        **{name: storable(value) for name, value in values.items()},
    }
