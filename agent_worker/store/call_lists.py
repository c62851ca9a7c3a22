"""Lists of calls: filters, pages and totals, each a merge of a few ranges of an index.

What a list is filtered by mostly, whether a call went well, its direction, whether it is done or deleted, is one
number of the row, its facet. Every list is the newest of a few ranges `(scope, facet, created_at)`: one for each facet
that passes, in the narrowest scope the filters name (a number, a campaign, agents, or the organization). So no page
reads more rows than it shows, whatever is filtered, except by what no range holds (an agent within a campaign).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Integer, TextClause, TextualSelect, bindparam, column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import calls, recordings, reports

Record = dict[str, Any]

IN_PROGRESS, COMPLETED, FAILED, NO_ANSWER, BUSY = range(5)
"""What became of a call, as its facet says it."""

MOST_RANGES = 80
"""Ranges merged by one statement; planning more of them takes longer than reading them."""


@dataclass(frozen=True)
class Filters:
    """Which calls are listed; what is not said lets all pass.

    Attributes:
        agent_ids: of the agents that took them.
        results: of `IN_PROGRESS` to `BUSY`.
        statuses: the row's own, for calls in progress, of which there are never many.
        number: on either side, exactly.
        since, until: when they began, from the first to before the second.
        before: began before this, the cursor.
    """

    organization_id: str
    agent_ids: frozenset[str] | None = None
    campaign_ids: frozenset[str] | None = None
    number: str | None = None
    results: frozenset[int] | None = None
    statuses: frozenset[str] | None = None
    outbound: bool | None = None
    done: bool | None = None
    include_deleted: bool = False
    since: datetime | None = None
    until: datetime | None = None
    before: datetime | None = None
    search: str | None = None

    def between(self) -> tuple[datetime | None, datetime | None]:
        """Return from when on and before when a call began."""
        ends = [moment for moment in (self.until, self.before) if moment is not None]
        return self.since, min(ends, default=None)

    def facets(self) -> list[int]:
        """Return the facets that pass; see `store.tables.FACET`."""
        results = range(5) if self.results is None else sorted(self.results)
        directions = (False, True) if self.outbound is None else (self.outbound,)
        dones = (False, True) if self.done is None else (self.done,)
        deleted = (False, True) if self.include_deleted else (False,)
        return [
            20 * is_deleted + 4 * result + 2 * outbound + done
            for is_deleted, result, outbound, done in product(deleted, results, directions, dones)
        ]


@dataclass(frozen=True)
class Ranges:
    """Parts of indexes whose newest calls are a list's, each as a query for times, and the values in them.

    They are written as text: a statement of eighty of them takes longer to build than to run.

    Attributes:
        overlap: a call may be in two of them.
    """

    queries: Sequence[str]
    values: Mapping[str, Any]
    overlap: bool

    def few(self) -> Iterator[Ranges]:
        """Cut them into as many as one statement merges."""
        for start in range(0, len(self.queries), MOST_RANGES):
            yield replace(self, queries=self.queries[start : start + MOST_RANGES])

    def newest(self, dialect: str, limit: int, offset: int = 0) -> TextualSelect:
        """Return the times of their newest calls; within an organization a time is one call's."""
        newest_first = "ORDER BY created_at DESC LIMIT"
        union = "UNION" if self.overlap else "UNION ALL"
        if dialect == "postgresql":
            # told how many of each are enough, it merges the ranges as they come; else it reads them all and sorts
            each = f" {union} ".join(f"({query} {newest_first} {offset + limit})" for query in self.queries)
            query = f"SELECT created_at FROM ({each}) AS merged"
        else:
            query = f" {union} ".join(self.queries)
        return self._read(f"{query} {newest_first} {limit} OFFSET {offset}").columns(calls.c.created_at)

    def number(self, most: int | None = None) -> TextualSelect:
        """Return how many calls they have, counted up to `most`."""
        bound = "" if most is None else f" LIMIT {most}"
        union = " UNION " if self.overlap else " UNION ALL "
        merged = f"SELECT 1 FROM ({union.join(self.queries)}) AS merged{bound}"
        query = f"SELECT count(*) AS number FROM ({merged}) AS counted"
        return self._read(query).columns(column("number", Integer))

    def _read(self, query: str) -> TextClause:
        used = {name: value for name, value in self.values.items() if f":{name}" in query}
        return text(query).bindparams(
            *(
                bindparam(name, value, calls.c.created_at.type if name in _TIMES else None)
                for name, value in used.items()
            )
        )


_TIMES = ("since", "until")


def ranges_of(filters: Filters) -> Ranges:
    """Return the ranges of a list: the narrowest scope there is, once for each facet."""
    values: dict[str, Any] = {"organization": filters.organization_id}

    def named(name: str, wanted: Iterable[str]) -> list[str]:
        found = {f"{name}_{index}_": value for index, value in enumerate(sorted(wanted))}
        values.update(found)
        return [f":{key}" for key in found]

    rest = _times(filters, values)
    scopes = [""]
    if filters.statuses is not None:
        rest += _among("status", named("status", filters.statuses))
    if filters.number is not None:
        values["number"] = filters.number
        scopes = [" AND caller_number = :number", " AND dialed_number = :number"]
    elif filters.campaign_ids is not None:
        scopes = [f" AND campaign_id = {key}" for key in named("campaign", filters.campaign_ids)]
    elif filters.agent_ids is not None:
        scopes = [f" AND agent_id = {key}" for key in named("agent", filters.agent_ids)]
    # the empty string keeps a planner from taking this column's index instead of the scope's
    if filters.number is not None and filters.campaign_ids is not None:
        rest += _among("campaign_id || ''", named("campaign", filters.campaign_ids))
    if (filters.number is not None or filters.campaign_ids is not None) and filters.agent_ids is not None:
        rest += _among("agent_id || ''", named("agent", filters.agent_ids))
    queries = [
        f"SELECT created_at FROM calls WHERE organization_id = :organization{scope} AND facet = {facet}{rest}"
        for scope, facet in product(scopes, filters.facets())
    ]
    # a call from a number to itself has it on both sides
    return Ranges(queries, values, overlap=filters.number is not None)


def _times(filters: Filters, values: dict[str, Any]) -> str:
    first, last = filters.between()
    conditions = ""
    if first is not None:
        values["since"] = first
        conditions += " AND created_at >= :since"
    if last is not None:
        values["until"] = last
        conditions += " AND created_at < :until"
    return conditions


def _among(column: str, keys: Sequence[str]) -> str:
    return f" AND {column} IN ({', '.join(keys)})" if keys else " AND 1 = 0"


async def times_of(connection: AsyncConnection, filters: Filters, limit: int, offset: int = 0) -> list[datetime]:
    """Return when the calls of a page began, newest first: the calls' keys."""
    dialect = connection.dialect.name
    parts = list(ranges_of(filters).few())
    if len(parts) == 1:
        return await _read(connection, parts[0].newest(dialect, limit, offset))
    found: list[datetime] = []
    for some in parts:
        found += await _read(connection, some.newest(dialect, offset + limit))
    return sorted(found, reverse=True)[offset : offset + limit]


async def _read(connection: AsyncConnection, times: TextualSelect) -> list[datetime]:
    return [at for (at,) in await connection.execute(times)]


async def count(connection: AsyncConnection, filters: Filters, most: int | None = None) -> int:
    """Return how many calls there are, exactly; up to `most` where that is said."""
    total = 0
    for some in ranges_of(filters).few():
        total += (await connection.execute(some.number(most))).scalar_one()
    return total


_ENTRY = [
    column
    for column in calls.c
    if column.name not in ("pipeline_config", "provenance", "metadata", "structured_data", "facet")
]
_OF_REPORT = [
    reports.c[name]
    for name in (
        "summary",
        "outcome",
        "customer_name",
        "customer_request",
        "general_success",
        "final_score",
        "cost_micro_usd",
    )
] + [reports.c.metadata.label("report_metadata")]
_EVERYTHING = [column for column in calls.c if column.name != "facet"]


async def entries(connection: AsyncConnection, *conditions: ColumnElement[bool], whole: bool = False) -> list[Record]:
    """Return calls, by column, with what their recording and report say, newest first.

    Args:
        whole: with their configuration and metadata.
    """
    query = (
        select(*(_EVERYTHING if whole else _ENTRY), recordings.c.status.label("recording_status"), *_OF_REPORT)
        .join(recordings, recordings.c.call_id == calls.c.id, isouter=True)
        .join(reports, reports.c.call_id == calls.c.id, isouter=True)
        .where(*conditions)
    )
    rows = [dict(row) for row in (await connection.execute(query)).mappings()]
    # here and not there: SQLite would read all calls in this order for the few that are asked for
    return sorted(rows, key=lambda row: row["created_at"], reverse=True)


async def page(
    connection: AsyncConnection, filters: Filters, limit: int, offset: int = 0, *, whole: bool = False
) -> list[Record]:
    """Return a page of calls as `entries` does."""
    if filters.search is not None:
        from agent_worker.store.call_search import found_ids

        ids = await found_ids(connection, filters, limit, offset)
        return [] if ids is None else await entries(connection, calls.c.id.in_(ids), whole=whole)
    times = await times_of(connection, filters, limit, offset)
    if not times:
        return []
    mine = calls.c.organization_id == filters.organization_id
    return await entries(connection, mine, calls.c.created_at.in_(times), whole=whole)


async def by_id(
    connection: AsyncConnection, organization_id: str, call_ids: Sequence[str], *, whole: bool = False
) -> list[Record]:
    """Return those of these calls that are there, as `entries` does; deleted ones too."""
    rows = await entries(connection, calls.c.id.in_(call_ids), whole=whole)
    return [row for row in rows if row["organization_id"] == organization_id]
