"""Lists of calls: filters, pages and totals, each a merge of a few ranges of an index.

What a list is filtered by mostly, whether a call went well, its direction, whether it is done or deleted, is one
number of the row, its facet. Every list is the newest of a few ranges `(scope, facet, created_at)`: one for each facet
that passes, in the narrowest scope the filters name (a number, a campaign, agents, or the organization). So no page
reads more rows than it shows, whatever is filtered, except by what no range holds (an agent within a campaign).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select, union_all
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
class Range:
    """A part of an index: one scope, one facet."""

    scope: ColumnElement[bool] | None
    facet: int
    more: tuple[ColumnElement[bool], ...] = field(default=())

    def times(self, filters: Filters) -> Select[tuple[datetime]]:
        """Return the times of its calls, which tell calls of an organization apart, newest first."""
        found = select(calls.c.created_at).where(calls.c.organization_id == filters.organization_id)
        if self.scope is not None:
            found = found.where(self.scope)
        return found.where(calls.c.facet == self.facet, *between(filters), *self.more)


def ranges_of(filters: Filters) -> list[Range]:
    """Return the ranges whose newest calls are the list's."""
    column = calls.c
    more: list[ColumnElement[bool]] = []
    scopes: list[ColumnElement[bool] | None] = [None]
    if filters.statuses is not None:
        more.append(column.status.in_(filters.statuses))
    if filters.number is not None:
        more += _rest(column.agent_id, filters.agent_ids) + _rest(column.campaign_id, filters.campaign_ids)
        scopes = [column.caller_number == filters.number, column.dialed_number == filters.number]
    elif filters.campaign_ids is not None:
        more += _rest(column.agent_id, filters.agent_ids)
        scopes = [column.campaign_id == campaign for campaign in sorted(filters.campaign_ids)]
    elif filters.agent_ids is not None:
        scopes = [column.agent_id == agent for agent in sorted(filters.agent_ids)]
    return [Range(scope, facet, tuple(more)) for scope, facet in product(scopes, filters.facets())]


def _rest(column: ColumnElement[Any], values: frozenset[str] | None) -> list[ColumnElement[bool]]:
    # the empty string keeps the planner from taking this column's index instead of the scope's
    return [] if values is None else [column.concat("").in_(sorted(values))]


def between(filters: Filters) -> list[ColumnElement[bool]]:
    """Return the conditions on when a call began."""
    at = calls.c.created_at
    conditions: list[ColumnElement[bool]] = []
    ends = [moment for moment in (filters.until, filters.before) if moment is not None]
    if filters.since is not None:
        conditions.append(at >= filters.since)
    if ends:
        conditions.append(at < min(ends))
    return conditions


def newest(dialect: str, filters: Filters, ranges: Sequence[Range], most: int) -> Select[tuple[datetime]]:
    """Return the times of the newest calls of these ranges."""
    at = calls.c.created_at
    parts = [part.times(filters) for part in ranges]
    if dialect == "postgresql":
        # told how many of each are enough, it merges the ranges as they come; else it reads them all and sorts
        parts = [select(part.order_by(at.desc()).limit(most).subquery().c.created_at) for part in parts]
    merged = union_all(*parts).subquery() if len(parts) > 1 else parts[0].subquery()
    return select(merged.c.created_at).order_by(merged.c.created_at.desc()).limit(most)


def a_few(ranges: Sequence[Range]) -> Iterator[Sequence[Range]]:
    """Cut ranges into as many as one statement merges."""
    for start in range(0, len(ranges), MOST_RANGES):
        yield ranges[start : start + MOST_RANGES]


async def times_of(connection: AsyncConnection, filters: Filters, limit: int, offset: int = 0) -> list[datetime]:
    """Return when the calls of a page began, newest first: the calls' keys."""
    found: set[datetime] = set()
    for some in a_few(ranges_of(filters)):
        # a call from a number to itself is in two ranges
        most = 2 * (limit + offset) if filters.number is not None else limit + offset
        query = newest(connection.dialect.name, filters, some, most)
        found.update(await column_of(connection, query))
    return sorted(found, reverse=True)[offset : offset + limit]


async def column_of(connection: AsyncConnection, query: Select[Any]) -> list[datetime]:
    """Return what a query for times finds, in its order."""
    return list((await connection.execute(query)).scalars())


async def count(connection: AsyncConnection, filters: Filters) -> int:
    """Return how many calls there are, exactly."""
    total = 0
    for some in a_few(ranges_of(filters)):
        parts = union_all(*(part.times(filters) for part in some)).subquery()
        counted = func.count(parts.c.created_at.distinct()) if filters.number is not None else func.count()
        total += await connection.scalar(select(counted).select_from(parts)) or 0
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
        .order_by(calls.c.created_at.desc())
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def page(
    connection: AsyncConnection, filters: Filters, limit: int, offset: int = 0, *, whole: bool = False
) -> list[Record]:
    """Return a page of calls as `entries` does."""
    if filters.search is not None:
        from agent_worker.store.call_search import found_ids

        ids = await found_ids(connection, filters, limit, offset)
        return await by_id(connection, filters.organization_id, ids, whole=whole) if ids else []
    times = await times_of(connection, filters, limit, offset)
    if not times:
        return []
    mine = calls.c.organization_id == filters.organization_id
    return await entries(connection, mine, calls.c.created_at.in_(times), whole=whole)


async def by_id(
    connection: AsyncConnection, organization_id: str, call_ids: Sequence[str], *, whole: bool = False
) -> list[Record]:
    """Return those of these calls that are there, as `entries` does; deleted ones too."""
    mine = calls.c.organization_id == organization_id
    return await entries(connection, mine, calls.c.id.in_(call_ids), whole=whole)
