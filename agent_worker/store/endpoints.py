"""Webhook endpoints of the workspace, as rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import webhook_endpoints
from agent_worker.store.upsert import storable

Record = dict[str, Any]

_table = webhook_endpoints.c


async def endpoints_of(
    connection: AsyncConnection, organization_id: str, *, with_deleted: bool = False
) -> list[Record]:
    """Return the organization's webhook endpoints, by column, oldest first."""
    query = select(webhook_endpoints).where(_table.organization_id == organization_id)
    if not with_deleted:
        query = query.where(_table.deleted_at.is_(None))
    rows = (await connection.execute(query.order_by(_table.created_at, _table.id))).mappings()
    return [dict(row) for row in rows]


async def find_endpoints(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Record]:
    """Return the endpoints with these ids, also deleted ones."""
    query = select(webhook_endpoints).where(_table.id.in_(ids))
    return {row["id"]: dict(row) for row in (await connection.execute(query)).mappings()}


async def find_endpoint(
    connection: AsyncConnection, organization_id: str, endpoint_id: str, *, locked: bool = False
) -> Record | None:
    """Return the endpoint; None where the organization has none with this id.

    Args:
        locked: until the transaction ends nobody else changes it.
    """
    query = select(webhook_endpoints).where(
        _table.organization_id == organization_id, _table.id == endpoint_id, _table.deleted_at.is_(None)
    )
    query = query.with_for_update() if locked else query
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def count_endpoints(connection: AsyncConnection, organization_id: str) -> int:
    """Return how many endpoints the organization has."""
    query = select(func.count()).where(_table.organization_id == organization_id, _table.deleted_at.is_(None))
    return int((await connection.execute(query)).scalar_one())


async def add_endpoint(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Write a new endpoint, by column."""
    await connection.execute(insert(webhook_endpoints).values({name: storable(value) for name, value in row.items()}))


async def change_endpoint(connection: AsyncConnection, endpoint_id: str, values: Mapping[str, Any]) -> None:
    """Change columns of an endpoint."""
    kept = {name: storable(value) for name, value in values.items()}
    await connection.execute(update(webhook_endpoints).where(_table.id == endpoint_id).values(kept))
