"""Sums what calls used day by day, and remembers days that are long over: a month is not read anew for each request."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from agent_worker.domain.call import utc_now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from agent_worker.store.usage import Talked, Used

DAY = timedelta(days=1)
SETTLED = timedelta(days=1)
"""After its end a day hardly changes: calls are over, their reports are made."""

KEEP_SECONDS = 600.0
MOST_KEPT = 400


class UsageDays:
    """Reads usage between two times.

    Args:
        monotonic: clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._kept: OrderedDict[datetime, tuple[float, tuple[list[Talked], list[Used]]]] = OrderedDict()

    async def between(
        self, connection: AsyncConnection, organization_id: str, since: datetime, until: datetime
    ) -> tuple[list[Talked], list[Used]]:
        """Return what the calls that began then used; of days before yesterday as it was within `KEEP_SECONDS`."""
        talked: list[Talked] = []
        used: list[Used] = []
        for start, end in days(since, until):
            some = await self._of(connection, organization_id, start, end)
            talked += some[0]
            used += some[1]
        return talked, used

    async def _of(
        self, connection: AsyncConnection, organization_id: str, start: datetime, end: datetime
    ) -> tuple[list[Talked], list[Used]]:
        from agent_worker.store.usage import usage_between

        is_kept = end - start == DAY and end + SETTLED < utc_now()
        known = self._kept.get(start) if is_kept else None
        if known is not None and self._monotonic() - known[0] < KEEP_SECONDS:
            return known[1]
        found = await usage_between(connection, organization_id, start, end)
        if is_kept:
            self._kept[start] = (self._monotonic(), found)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return found


def days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Cut a stretch of time at each midnight in UTC."""
    start = since.astimezone(UTC)
    while start < until:
        end = min(until, start.replace(hour=0, minute=0, second=0, microsecond=0) + DAY)
        yield start, end
        start = end
