"""Finds calls by words: their id, their numbers, and what their report says of who called and why.

What is everywhere is found among the newest calls, what is rare by the database's full-text index; neither way alone
is fast for both. So the newest calls that pass the other filters are looked at first, which answers all of the former
and every list that is short anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, cast, func, or_, select
from sqlalchemy import exists as there_is
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.call_lists import Filters, count, times_of
from agent_worker.store.full_text import PLAN_EACH, Span, fts5, gin, has, is_among, passing
from agent_worker.store.search_words import Alternative, asked, position_of, words_of
from agent_worker.store.tables import call_search, calls, reports
from agent_worker.store.upsert import insert

LOOKED_AT = 300
"""So many of the newest calls are read for a search before an index is asked."""

FEW = 4_000
"""Where no more calls than this pass the other filters, all of them are read, and no index is asked."""

READ = 2_000
"""Calls that have the words, read at once."""

MOST_COUNTED = 300
"""What a search finds is counted up to here."""

LAST = 2**63 - 1

RARE = 0.003
"""A word that fewer of the newest calls have is rare: an index finds all its calls at once."""


EVERYWHERE = 0.2
"""A word that more of the newest calls have is not worth being looked up beside a rarer one."""


async def index_call(connection: AsyncConnection, call_id: str) -> None:
    """Have the call found by what its rows say now."""
    query = (
        select(
            calls.c.created_at,
            calls.c.caller_number,
            calls.c.dialed_number,
            reports.c.summary,
            reports.c.customer_name,
            reports.c.customer_request,
        )
        .join(reports, reports.c.call_id == calls.c.id, isouter=True)
        .where(calls.c.id == call_id)
    )
    row = (await connection.execute(query)).mappings().one_or_none()
    if row is None:
        return
    numbers = (row["caller_number"], row["dialed_number"])
    # the name first: there is an end to how many words are kept
    texts = (row["customer_name"], row["customer_request"], row["summary"])
    values = {
        "call_id": call_id,
        "position": await _free_position(connection, call_id, row["created_at"]),
        "words": words_of(call_id, numbers, texts),
    }
    statement = insert(connection, call_search).values(values)
    changed = or_(*(call_search.c[name] != values[name] for name in ("position", "words")))
    await connection.execute(
        statement.on_conflict_do_update(index_elements=[call_search.c.call_id], set_=values, where=changed)
    )


async def _free_position(connection: AsyncConnection, call_id: str, created_at: datetime) -> int:
    position, taken = position_of(created_at), call_search.c
    # only a call of another organization can have it
    while await connection.scalar(select(there_is().where(taken.position == position, taken.call_id != call_id))):
        position += 1
    return position


async def found_ids(
    connection: AsyncConnection, filters: Filters, limit: int, offset: int = 0
) -> Select[tuple[str]] | None:
    """Return a query for the ids of a page of what is found; None where nothing is."""
    alternatives = asked(filters.search or "")
    positions = (await _found(connection, filters, alternatives, offset + limit))[offset:] if alternatives else []
    return select(call_search.c.call_id).where(call_search.c.position.in_(positions)) if positions else None


async def count_found(connection: AsyncConnection, filters: Filters) -> int:
    """Return how many calls a search finds, up to one more than `MOST_COUNTED`."""
    alternatives = asked(filters.search or "")
    return len(await _found(connection, filters, alternatives, MOST_COUNTED + 1)) if alternatives else 0


@dataclass(frozen=True)
class _Looked:
    """What looking at the newest calls said.

    Attributes:
        calls: how many they were.
        positions: of those that are found, newest first.
        having: how many have each word.
    """

    calls: int
    positions: list[int]
    having: dict[str, int]


async def _found(
    connection: AsyncConnection, filters: Filters, alternatives: Sequence[Alternative], most: int
) -> list[int]:
    number = await count(connection, filters, FEW + 1)
    looked = await _look(connection, filters, alternatives, FEW if number <= FEW else LOOKED_AT)
    if len(looked.positions) >= most or number <= FEW:
        return looked.positions[:most]
    if connection.dialect.name == "postgresql":
        return await _by_gin(connection, filters, alternatives, looked, most)
    query = await fts5(connection, alternatives, _conditions(filters), _span(filters))
    return await _positions(connection, query.limit(most))


async def _positions(connection: AsyncConnection, query: Select[Any]) -> list[int]:
    return [at for (at,) in await connection.execute(query)]


async def _by_gin(
    connection: AsyncConnection,
    filters: Filters,
    alternatives: Sequence[Alternative],
    looked: _Looked,
    most: int,
) -> list[int]:
    conditions, (first, last) = _conditions(filters), _span(filters)
    rarest = [min(some, key=lambda word: (looked.having[word], -len(word))) for some in alternatives]
    looked_up = [
        tuple(word for word in some if word == least or looked.having[word] < EVERYWHERE * looked.calls)
        for some, least in zip(alternatives, rarest, strict=True)
    ]
    nearer = await _start(connection, (first, last), looked, rarest, most)
    found: list[int] = []
    await connection.execute(PLAN_EACH)
    while True:
        query = gin(looked_up, alternatives, (nearer or first, last)).limit(READ)
        having = await _positions(connection, query)
        for start in range(0, len(having), 2 * most):
            found += await _positions(connection, passing(having[start : start + 2 * most], conditions))
            if len(found) >= most:
                return found[:most]
        if len(having) == READ:
            last = having[-1]
        elif nearer is not None:
            last, nearer = nearer, None
        else:
            return found


async def _look(
    connection: AsyncConnection, filters: Filters, alternatives: Sequence[Alternative], most: int
) -> _Looked:
    words, position = call_search.c.words, call_search.c.position
    every = sorted({word for some in alternatives for word in some})
    times = await times_of(connection, filters, most)
    if not times:
        return _Looked(0, [], dict.fromkeys(every, 0))
    query = select(
        func.count(position),
        func.aggregate_strings(cast(case((has(alternatives), position)), String), ","),
        *(func.count(case((words.contains(f" {word}"), 1))) for word in every),
    ).where(is_among(connection.dialect.name, [position_of(at) for at in times]))
    looked_at, found, *counts = (await connection.execute(query)).one()
    positions = sorted((int(at) for at in (found or "").split(",") if at), reverse=True)
    return _Looked(looked_at, positions, dict(zip(every, counts, strict=True)))


async def _start(
    connection: AsyncConnection, span: Span, looked: _Looked, rarest: Sequence[str], most: int
) -> int | None:
    """Return from which position on enough is likely found; None where a rare word is looked for, wherever it is."""
    if sum(looked.having[word] for word in rarest) < RARE * looked.calls:
        return None
    enough = round(2 * most * looked.calls / max(len(looked.positions), 1))
    position = call_search.c.position
    newest_first = select(position).where(position >= span[0], position < span[1]).order_by(position.desc())
    return await connection.scalar(newest_first.offset(enough).limit(1))


def _span(filters: Filters) -> Span:
    since, until = filters.between()
    # a position may be a little later than the call's own time
    last = LAST if until is None else position_of(until + timedelta(milliseconds=1))
    return 0 if since is None else position_of(since), last


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    row = calls.c
    conditions: list[ColumnElement[bool]] = [
        row.organization_id == filters.organization_id,
        row.facet.in_(filters.facets()),
    ]
    since, until = filters.between()
    if since is not None:
        conditions.append(row.created_at >= since)
    if until is not None:
        conditions.append(row.created_at < until)
    if filters.number is not None:
        conditions.append(or_(row.caller_number == filters.number, row.dialed_number == filters.number))
    values: list[tuple[ColumnElement[Any], frozenset[str] | None]] = [
        (row.agent_id, filters.agent_ids),
        (row.campaign_id, filters.campaign_ids),
        (row.status, filters.statuses),
    ]
    conditions += [column.in_(sorted(wanted)) for column, wanted in values if wanted is not None]
    return conditions
