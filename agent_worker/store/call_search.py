"""Finds calls by words: their id, their numbers, and what their report says of who called and why.

Words that are everywhere are found among the newest calls, and words that are rare in the database's full-text index;
neither way alone is fast for both. So the newest calls that pass the other filters are looked at first, which answers
all of the former and every list that is short anyway; the index is asked for the rarest word of what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, column, func, or_, select, table, text
from sqlalchemy import exists as there_is
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store import call_lists
from agent_worker.store.call_lists import Filters
from agent_worker.store.search_words import Alternative, asked, is_found, position_of, words_of
from agent_worker.store.tables import call_search, calls, reports
from agent_worker.store.upsert import insert

LOOKED_AT = 1_000
"""So many of the newest calls are read for a search before an index is asked."""

MOST_COUNTED = 10_000
"""What a search finds is counted up to here."""

_full_text = table("call_search_words", column("rowid"))


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
        "words": words_of(call_id, numbers, texts).replace("\x00", ""),
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


async def found_times(connection: AsyncConnection, filters: Filters, limit: int, offset: int) -> list[datetime]:
    """Return when the calls of a page of what is found began, newest first."""
    alternatives = asked(filters.search or "")
    if not alternatives:
        return []
    looked_at = await _newest_words(connection, filters)
    found = [at for at, words in looked_at if is_found(words, alternatives)]
    if len(found) < offset + limit and len(looked_at) == LOOKED_AT:
        query = _query(connection.dialect.name, filters, alternatives, [words for _, words in looked_at])
        found = await call_lists.column_of(connection, query.limit(offset + limit))
    return found[offset : offset + limit]


async def count_found(connection: AsyncConnection, filters: Filters) -> int:
    """Return how many calls a search finds, up to one more than `MOST_COUNTED`."""
    alternatives = asked(filters.search or "")
    if not alternatives:
        return 0
    looked_at = await _newest_words(connection, filters)
    if len(looked_at) < LOOKED_AT:
        return sum(is_found(words, alternatives) for _, words in looked_at)
    query = _query(connection.dialect.name, filters, alternatives, [words for _, words in looked_at])
    some = query.limit(MOST_COUNTED + 1).subquery()
    return await connection.scalar(select(func.count()).select_from(some)) or 0


async def _newest_words(connection: AsyncConnection, filters: Filters) -> Sequence[Any]:
    times = await call_lists.times_of(connection, filters, LOOKED_AT)
    if not times:
        return []
    query = (
        select(calls.c.created_at, call_search.c.words)
        .join(call_search, call_search.c.call_id == calls.c.id)
        .where(calls.c.organization_id == filters.organization_id, calls.c.created_at.in_(times))
        .order_by(calls.c.created_at.desc())
    )
    return (await connection.execute(query)).all()


def _query(
    dialect: str, filters: Filters, alternatives: Sequence[Alternative], sample: Sequence[str]
) -> Select[tuple[datetime]]:
    """Return what reads all that is found, newest first, by the full-text index."""
    rarest = [
        min(alternative, key=lambda word: (sum(f" {word}" in words for words in sample), -len(word)))
        for alternative in alternatives
    ]
    words = call_search.c.words
    all_of_it = or_(*(and_(*(words.contains(f" {word}") for word in some)) for some in alternatives))
    if dialect == "postgresql":
        lexemes = text("lexemes @@ CAST(:asked AS tsquery)").bindparams(
            bindparam("asked", " | ".join(f"'{word}':*" for word in rarest))
        )
        # by itself: what is found is little, and must not be looked for along the calls
        found = (
            select(call_search.c.position, call_search.c.call_id)
            .where(lexemes, *_positions(filters), all_of_it)
            .cte("found")
            .prefix_with("MATERIALIZED")
        )
        read = select(calls.c.created_at).join(found, found.c.call_id == calls.c.id).order_by(found.c.position.desc())
        return read.where(*_rest(filters))
    matches = text("call_search_words MATCH :asked").bindparams(
        bindparam("asked", " OR ".join(f'"{word}"*' for word in rarest))
    )
    rowid = _full_text.c.rowid
    return (
        select(calls.c.created_at)
        # the plus keeps SQLite from beginning with the other tables
        .select_from(_full_text)
        .join(call_search, call_search.c.position == text("+call_search_words.rowid"))
        .join(calls, calls.c.id == call_search.c.call_id)
        .where(matches, *_positions(filters, rowid), all_of_it, *_rest(filters))
        .order_by(rowid.desc())
    )


def _positions(filters: Filters, position: ColumnElement[Any] = call_search.c.position) -> list[ColumnElement[bool]]:
    ends = [moment for moment in (filters.until, filters.before) if moment is not None]
    conditions = [] if filters.since is None else [position >= position_of(filters.since)]
    # a position may be a little later than the call's own time
    return conditions + ([position < position_of(min(ends) + timedelta(milliseconds=1))] if ends else [])


def _rest(filters: Filters) -> list[ColumnElement[bool]]:
    row = calls.c
    conditions = [
        row.organization_id == filters.organization_id,
        row.facet.in_(filters.facets()),
        *call_lists.between(filters),
    ]
    if filters.number is not None:
        conditions.append(or_(row.caller_number == filters.number, row.dialed_number == filters.number))
    for column_, values in (
        (row.agent_id, filters.agent_ids),
        (row.campaign_id, filters.campaign_ids),
        (row.status, filters.statuses),
    ):
        if values is not None:
            conditions.append(column_.in_(sorted(values)))
    return conditions
