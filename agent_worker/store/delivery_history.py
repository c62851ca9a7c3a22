"""What became of deliveries, for people: pages of them, and each with its attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import attempts, deliveries

Record = dict[str, Any]


@dataclass(frozen=True)
class DeliveryFilter:
    """Which deliveries are asked for; None does not restrict.

    Attributes:
        since, until: when they were written, both included.
    """

    endpoint_id: str | None = None
    event: str | None = None
    agent_id: str | None = None
    status: str | None = None
    call_id: str | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_deliveries(
    connection: AsyncConnection,
    organization_id: str,
    wanted: DeliveryFilter,
    *,
    after: tuple[datetime, str] | None,
    limit: int,
) -> list[Record]:
    """Return deliveries by column, newest first, without what they say.

    Args:
        after: time and id of the last one of the page before.
    """
    table = deliveries.c
    columns = [column for column in table if column.name != "payload"]
    query = select(*columns, (table.payload != {}).label("has_payload")).where(table.organization_id == organization_id)
    for name in ("endpoint_id", "event", "agent_id", "status", "call_id", "event_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(table[name] == value)
    if wanted.since is not None:
        query = query.where(table.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(table.created_at <= wanted.until)
    if after is not None:
        at, last = after
        query = query.where(or_(table.created_at < at, and_(table.created_at == at, table.id < last)))
    query = query.order_by(table.created_at.desc(), table.id.desc()).limit(limit)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def find_delivery(connection: AsyncConnection, organization_id: str, delivery_id: str) -> Record | None:
    """Return the delivery by column, None where the organization has none with this id."""
    query = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.organization_id == organization_id)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else {**row, "has_payload": bool(row["payload"])}


async def attempts_of(connection: AsyncConnection, delivery_id: str) -> list[Mapping[str, Any]]:
    """Return the attempts of a delivery by column, in order."""
    query = select(attempts).where(attempts.c.delivery_id == delivery_id).order_by(attempts.c.attempt_number)
    return [dict(row) for row in (await connection.execute(query)).mappings()]
