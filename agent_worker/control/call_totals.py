"""How many calls a list has: counted exactly, and where they are many no more than every so often."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from agent_worker.domain.call import utc_now

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from agent_worker.store.call_lists import Filters

MANY = 10_000
"""A total up to here is counted at each request."""

KEEP_SECONDS = 30.0
MOST_KEPT = 256


@dataclass(frozen=True)
class Total:
    """How many calls there are.

    Attributes:
        is_exact: False where there are more, which only a search leaves open.
        as_of: when they were counted.
    """

    calls: int
    is_exact: bool
    as_of: datetime


class CallTotals:
    """Counts, and remembers for `KEEP_SECONDS` what is costly to count: large lists, and what a search finds.

    The larger a list, the less one call more or less matters.

    Args:
        monotonic: clock in seconds.
        many: what a large count is.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, *, many: int = MANY) -> None:
        self._monotonic = monotonic
        self._many = many
        self._kept: OrderedDict[Filters, tuple[float, Total]] = OrderedDict()

    async def total(self, connection: AsyncConnection, filters: Filters) -> Total:
        """Return how many calls pass the filters."""
        from agent_worker.store.call_lists import count
        from agent_worker.store.call_search import MOST_COUNTED, count_found

        known = self._kept.get(filters)
        if known is not None and self._monotonic() - known[0] < KEEP_SECONDS:
            return known[1]
        if filters.search is None:
            total = Total(await count(connection, filters), True, utc_now())
        else:
            found = await count_found(connection, filters)
            total = Total(min(found, MOST_COUNTED), found <= MOST_COUNTED, utc_now())
        self._keep(filters, total)
        return total

    def _keep(self, filters: Filters, total: Total) -> None:
        self._kept.pop(filters, None)
        if total.calls >= self._many or filters.search is not None:
            self._kept[filters] = (self._monotonic(), total)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
