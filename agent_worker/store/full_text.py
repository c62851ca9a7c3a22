"""The databases' own full-text indexes over the words of calls: SQLite's FTS5, PostgreSQL's GIN.

Both return everything a search finds, newest first. SQLite reads as many as are taken where it is asked for whole
words, so beginnings are replaced by the words of its vocabulary. PostgreSQL reads all there are, so it is asked for the
rarest word of each alternative, and first among the newest calls only where that word is not rare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, column, or_, select, table, text
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
    WITH RECURSIVE found (term) AS (
        SELECT (SELECT term FROM call_search_words_terms WHERE term >= :beginning LIMIT 1)
        UNION ALL
        SELECT (SELECT next.term FROM call_search_words_terms AS next WHERE next.term >= found.term || char(1) LIMIT 1)
        FROM found WHERE substr(found.term, 1, length(:beginning)) = :beginning
    )
    SELECT term FROM found WHERE substr(term, 1, length(:beginning)) = :beginning LIMIT :most
""")


def has(alternatives: Sequence[Alternative]) -> ColumnElement[bool]:
    """Return the condition on `call_search` that one of the alternatives holds, read from the words themselves."""
    words = call_search.c.words
    return or_(*(and_(*(words.contains(f" {beginning}") for beginning in some)) for some in alternatives))


async def fts5(
    connection: AsyncConnection, alternatives: Sequence[Alternative], conditions: Conditions, span: Span
) -> Select[Any]:
    """Return what reads the positions of the calls that are found, by SQLite's index."""
    expanded = {}
    for beginning in {beginning for some in alternatives for beginning in some}:
        values = {"beginning": beginning, "most": MOST_EXPANDED + 1}
        terms = list((await connection.execute(_EXPAND, values)).scalars())
        quoted = [f'"{term}"' for term in terms] if len(terms) <= MOST_EXPANDED else []
        expanded[beginning] = f"({' OR '.join(quoted)})" if quoted else f'"{beginning}"*'
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


def gin(rarest: Sequence[str], alternatives: Sequence[Alternative], conditions: Conditions, span: Span) -> Select[Any]:
    """Return what reads the positions of the calls that are found, by PostgreSQL's index.

    Args:
        rarest: of each alternative, the one beginning that is looked up.
    """
    position = call_search.c.position
    asked = " | ".join(f"'{beginning}':*" for beginning in rarest)
    matches = text("lexemes @@ CAST(:asked AS tsquery)").bindparams(asked=asked)
    # by itself: what is found is little, and must not be looked for along the calls
    found = (
        select(position, call_search.c.call_id)
        .where(matches, position >= span[0], position < span[1], has(alternatives))
        .cte("found")
        .prefix_with("MATERIALIZED")
    )
    return (
        select(found.c.position)
        .join(calls, found.c.call_id == calls.c.id)
        .where(*conditions)
        .order_by(found.c.position.desc())
    )
