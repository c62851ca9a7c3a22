"""Inserts that meet an existing row, written once for SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Table, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

Row = Mapping[str, Any]


def insert(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an `INSERT` that knows `ON CONFLICT`."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


async def insert_new(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> set[str]:
    """Insert the rows that are not there yet; returns the ids of those that were not."""
    if not rows:
        return set()
    statement = insert(connection, table).on_conflict_do_nothing().returning(table.c.id)
    return set((await connection.execute(statement, _filled(table, rows))).scalars())


async def insert_or_replace(
    connection: AsyncConnection, table: Table, rows: Sequence[Row], *, newer_by: str | None = None
) -> int:
    """Insert rows, replacing those with the same primary key.

    Args:
        newer_by: a column; a row is replaced only by one with a higher value there.

    Returns:
        How many rows were written.
    """
    if not rows:
        return 0
    statement = insert(connection, table)
    keys: list[Column[Any]] = list(table.primary_key.columns)
    replaced = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
    newer = None if newer_by is None else func.coalesce(table.c[newer_by], -1) < statement.excluded[newer_by]
    upsert = statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=newer)
    upsert = upsert.execution_options(preserve_rowcount=True)  # else PostgreSQL's count of an INSERT is -1
    written = 0
    for row in rows:
        written += (await connection.execute(upsert, _filled(table, [row]))).rowcount
    return written


def _filled(table: Table, rows: Sequence[Row]) -> list[dict[str, Any]]:
    # Rows of one statement need the same keys, and PostgreSQL takes no NUL in any text.
    names = sorted({name for row in rows for name in row})
    return [{name: storable(row.get(name)) for name in names} for row in rows]


def storable(value: Any) -> Any:
    """Return the value without the character U+0000, which PostgreSQL cannot hold in text or JSON."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, Mapping):
        return {storable(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [storable(inner) for inner in value]
    return value
