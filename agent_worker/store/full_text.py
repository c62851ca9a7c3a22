"""The databases' own full-text indexes over the words of calls: SQLite's FTS5, PostgreSQL's GIN.

Both return everything a search finds, newest first. SQLite reads as many as are taken where it is asked for whole
words, so beginnings are replaced by the words of its vocabulary. PostgreSQL reads all there are, so it is asked for the
rarest word of each alternative, and first among the newest calls only where that word is not rare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, TextClause, and_, column, or_, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.search_words import Alternative
from agent_worker.store.tables import call_search, calls

MOST_EXPANDED = 64
"""Words a beginning is replaced by; one with more is looked up as a beginning, which reads all its calls."""

Conditions = Sequence[ColumnElement[bool]]
Span = tuple[int, int]
"""Positions, from the first to before the last."""

_words = table("call_search_words", column("rowid"))

_EXPAND = text("""
    WITH RECURSIVE found (beginning, term) AS (
        SELECT value, (SELECT term FROM call_search_words_terms WHERE term >= value LIMIT 1)
        FROM json_each(:beginnings)
        UNION ALL
        SELECT beginning,
            (SELECT next.term FROM call_search_words_terms AS next WHERE next.term >= found.term || char(1) LIMIT 1)
        FROM found WHERE substr(found.term, 1, length(beginning)) = beginning
    )
    SELECT beginning, term FROM found WHERE substr(term, 1, length(beginning)) = beginning LIMIT :most
""")
"""The next word of each beginning in turn, so that none of them takes all that is read."""


def has(alternatives: Sequence[Alternative]) -> ColumnElement[bool]:
    """Return the condition on `call_search` that one of the alternatives holds, read from the words themselves."""
    words = call_search.c.words
    return or_(*(and_(*(words.contains(f" {beginning}") for beginning in some)) for some in alternatives))


def is_among(dialect: str, positions: Sequence[int]) -> TextClause:
    """Return the condition on `call_search` that a call is at one of these positions, as one parameter."""
    if dialect == "postgresql":
        among = text("call_search.position = ANY (CAST(:positions AS bigint[]))")
        return among.bindparams(positions="{" + ",".join(map(str, positions)) + "}")
    return text("call_search.position IN (SELECT value FROM json_each(:positions))").bindparams(
        positions=json.dumps(positions)
    )


async def fts5(
    connection: AsyncConnection, alternatives: Sequence[Alternative], conditions: Conditions, span: Span
) -> Select[Any]:
    """Return what reads the positions of the calls that are found, by SQLite's index."""
    beginnings = sorted({beginning for some in alternatives for beginning in some})
    values = {"beginnings": json.dumps(beginnings), "most": (MOST_EXPANDED + 1) * len(beginnings)}
    terms: dict[str, list[str]] = {beginning: [] for beginning in beginnings}
    for beginning, term in await connection.execute(_EXPAND, values):
        terms[beginning].append(f'"{term}"')
    expanded = {
        beginning: f"({' OR '.join(found)})" if 0 < len(found) <= MOST_EXPANDED else f'"{beginning}"*'
        for beginning, found in terms.items()
    }
    asked = " OR ".join("(" + " AND ".join(expanded[beginning] for beginning in some) + ")" for some in alternatives)
    rowid: ColumnElement[int] = _words.c.rowid
    matches = text("call_search_words MATCH :asked").bindparams(asked=asked)
    return (
        select(rowid)
        .select_from(_words)
        # the pluses keep SQLite from beginning with the other tables
        .join(call_search, call_search.c.position == text("+call_search_words.rowid"))
        .join(calls, calls.c.id == text("+call_search.call_id"))
        .where(matches, rowid >= span[0], rowid < span[1], *conditions)
        .order_by(rowid.desc())
    )


PLAN_EACH = text("SET LOCAL plan_cache_mode = force_custom_plan")
"""For `gin`: a plan that PostgreSQL keeps for any words reads far too many calls for rare ones."""


def gin(looked_up: Sequence[Alternative], alternatives: Sequence[Alternative], span: Span) -> Select[tuple[int]]:
    """Return what reads the positions of the calls that have the words, by PostgreSQL's index.

    Args:
        looked_up: of each alternative, the beginnings that are not everywhere; the others are read from the words.
    """
    position = call_search.c.position
    asked = " | ".join("(" + " & ".join(f"'{beginning}':*" for beginning in some) + ")" for some in looked_up)
    matches = text("lexemes @@ CAST(:asked AS tsquery)").bindparams(asked=asked)
    # by itself and in no order, or it may be looked for along the calls, all of them
    found = (
        select(position)
        .where(matches, position >= span[0], position < span[1], has(alternatives))
        .cte("found")
        .prefix_with("MATERIALIZED")
    )
    return select(found.c.position).order_by(found.c.position.desc())


def passing(positions: Sequence[int], conditions: Conditions) -> Select[tuple[int]]:
    """Return which of these calls pass the conditions, for PostgreSQL, which would ask for all that have the words."""
    return (
        select(call_search.c.position)
        .join(calls, calls.c.id == call_search.c.call_id)
        .where(is_among("postgresql", positions), *conditions)
        .order_by(call_search.c.position.desc())
    )
