"""What Prometheus is told of the database: how many calls are open, and what waits to be done."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import calls, deliveries, jobs


@dataclass(frozen=True)
class Gauges:
    """One moment of the database; every count reads an index that holds only what waits.

    Attributes:
        open_calls: by direction.
        deliveries: not made yet, by event.
        oldest_delivery: since when the oldest of them has been waiting.
        jobs: by kind and status.
        oldest_job: since when the oldest pending one has been waiting.
    """

    open_calls: dict[str, int]
    deliveries: dict[str, int]
    oldest_delivery: datetime | None
    jobs: dict[tuple[str, str], int]
    oldest_job: datetime | None


async def gauges(connection: AsyncConnection) -> Gauges:
    """Return how many of everything there are now."""
    live = select(calls.c.direction, func.count()).where(calls.c.ended_at.is_(None)).group_by(calls.c.direction)
    waiting = deliveries.c.status.in_(("pending", "delivering"))
    due = (
        select(deliveries.c.event, func.count(), func.min(deliveries.c.created_at))
        .where(waiting)
        .group_by(deliveries.c.event)
    )
    work = select(jobs.c.kind, jobs.c.status, func.count(), func.min(jobs.c.created_at)).group_by(
        jobs.c.kind, jobs.c.status
    )
    open_calls = (await connection.execute(live)).all()
    told = (await connection.execute(due)).all()
    done_later = (await connection.execute(work)).all()
    return Gauges(
        open_calls={row[0]: row[1] for row in open_calls},
        deliveries={event: count for event, count, _ in told},
        oldest_delivery=min((oldest for _, _, oldest in told), default=None),
        jobs={(kind, status): count for kind, status, count, _ in done_later},
        oldest_job=min((oldest for _, status, _, oldest in done_later if status == "pending"), default=None),
    )
