"""What calls used and cost, summed by the database over a stretch of time, for each agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Float, Select, case, cast, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import calls, reports


@dataclass(frozen=True)
class Talked:
    """Calls of one agent."""

    agent_id: str | None
    calls: int
    seconds: int


@dataclass(frozen=True)
class Used:
    """How much of one metric of one provider the calls of one agent used.

    Attributes:
        without_cost: as much of the quantity as cost nothing, for want of a price or because it is free.
    """

    agent_id: str | None
    provider: str
    metric: str
    key_source: str
    quantity: float
    micro_usd: int
    without_cost: float


async def usage_between(
    connection: AsyncConnection, organization_id: str, since: datetime, until: datetime
) -> tuple[list[Talked], list[Used]]:
    """Return what the calls that began then used, as their reports say it; deleted and purged calls too."""
    when = (
        calls.c.organization_id == organization_id,
        calls.c.created_at >= since,
        calls.c.created_at < until,
    )
    talked = (
        select(calls.c.agent_id, func.count(), func.coalesce(func.sum(calls.c.duration_seconds), 0))
        .where(*when)
        .group_by(calls.c.agent_id)
    )
    used = _lines(connection.dialect.name, when)
    return (
        [Talked(agent, number, int(seconds)) for agent, number, seconds in await connection.execute(talked)],
        [
            Used(agent, provider, metric, key_source, quantity, int(cost), free)
            for agent, provider, metric, key_source, quantity, cost, free in await connection.execute(used)
        ],
    )


def _lines(dialect: str, when: Sequence[ColumnElement[bool]]) -> Select[Any]:
    if dialect == "postgresql":
        line: Any = func.jsonb_array_elements(reports.c.cost_breakdown).table_valued("value").render_derived("line")

        def of(name: str) -> ColumnElement[Any]:
            value: ColumnElement[Any] = line.c.value.op("->>")(name)
            return value
    else:
        line = func.json_each(reports.c.cost_breakdown).table_valued("value", name="line")

        def of(name: str) -> ColumnElement[Any]:
            return func.json_extract(line.c.value, f"$.{name}")

    group = (calls.c.agent_id, of("provider"), of("metric"), of("keySource"))
    quantity, cost = cast(of("quantity"), Float), cast(of("costMicroUsd"), BigInteger)
    return (
        select(*group, func.sum(quantity), func.sum(cost), func.sum(case((cost == 0, quantity), else_=0.0)))
        .select_from(calls.join(reports, reports.c.call_id == calls.c.id).join(line, true()))
        .where(*when)
        .group_by(*(column.label(None) for column in group) if dialect == "sqlite" else group)
    )
