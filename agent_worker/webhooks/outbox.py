"""The outbox: deliveries are rows, written in the transaction that makes what they tell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import deliveries, webhook_endpoints
from agent_worker.store.upsert import insert_new, storable
from agent_worker.webhooks.payloads import (
    CONTROL_EVENTS,
    DURABLE_EVENTS,
    STATUS_EVENTS,
    call_report_payload,
    call_status_payload,
    control_event_payload,
    metadata_only,
)

EXPIRY = timedelta(hours=72)

Record = Mapping[str, Any]


async def endpoints_of(connection: AsyncConnection, organization_id: str) -> list[dict[str, Any]]:
    """Return the organization's webhook endpoints, by column, oldest first."""
    table = webhook_endpoints.c
    query = (
        select(webhook_endpoints)
        .where(table.organization_id == organization_id, table.deleted_at.is_(None))
        .order_by(table.created_at, table.id)
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def is_subscribed(endpoint: Record, event: str, *, agent_id: str | None, tags: Record) -> bool:
    """Return whether the endpoint is told this event of a call by this agent with these `webhookTags`."""
    if event not in endpoint["events"]:
        return False
    if not endpoint["all_agents"] and agent_id not in endpoint["agent_ids"]:
        return False
    return all(tags.get(name) == value for name, value in endpoint["filter_tags"].items())


async def enqueue_events(
    connection: AsyncConnection,
    call: Record,
    events: Sequence[Record],
    endpoints: Sequence[Record],
    now: datetime,
) -> None:
    """Write deliveries for events of a call that were not known before: `call.status`, and by their own name.

    Args:
        call: the call's row, by column, with the metadata that is told.
        events: in the contract's shape.
    """
    rows = []
    for event in events:
        if event["event_type"] in STATUS_EVENTS:
            payload = call_status_payload(event, call)
            rows += _rows(endpoints, call, "call.status", event["id"], payload, now)
        if event["event_type"] in CONTROL_EVENTS:
            payload = control_event_payload(event, call)
            rows += _rows(endpoints, call, event["event_type"], event["id"], payload, now)
    await insert_new(connection, deliveries, rows)


async def enqueue_report(
    connection: AsyncConnection, call: Record, report: Record, endpoints: Sequence[Record], now: datetime
) -> None:
    """Write deliveries of `call.report` for an end of a call; the same end is told once."""
    await insert_new(connection, deliveries, _report_rows(call, report, endpoints, now))


async def refresh_report(
    connection: AsyncConnection, call: Record, report: Record, endpoints: Sequence[Record], now: datetime
) -> None:
    """Give deliveries of `call.report` that nobody has been sent yet the report as it is now."""
    table = deliveries.c
    for row in _report_rows(call, report, endpoints, now):
        await connection.execute(
            deliveries.update()
            .where(table.id == row["id"], table.status == "pending", table.attempt_count == 0)
            .values(payload=storable(row["payload"]))
        )


def _report_rows(call: Record, report: Record, endpoints: Sequence[Record], now: datetime) -> list[dict[str, Any]]:
    event_id = "evt_" + _digest(call["ended_by"], "call.report")
    # the report was made when the call ended, and says so itself, in wire form
    payload = call_report_payload(report, call, event_id=event_id, occurred_at=report["created_at"])
    return _rows(endpoints, call, "call.report", event_id, payload, now)


def _rows(
    endpoints: Sequence[Record], call: Record, event: str, event_id: str, payload: Record, now: datetime
) -> list[dict[str, Any]]:
    tags = _tags(call)
    return [
        {
            "id": "dlv_" + _digest(endpoint["id"], event, event_id),
            "event_id": event_id,
            "endpoint_id": endpoint["id"],
            "organization_id": call["organization_id"],
            "event": event,
            "call_id": call["id"],
            "agent_id": call["agent_id"],
            "webhook_tags": tags,
            "status": "pending",
            "attempt_count": 0,
            "payload": metadata_only(payload) if endpoint["content_mode"] == "metadata_only" else payload,
            "durable": event in DURABLE_EVENTS,
            "occurred_at": now,
            "next_attempt_at": now,
            "expires_at": now + EXPIRY,
            "created_at": now,
        }
        for endpoint in endpoints
        if is_subscribed(endpoint, event, agent_id=call["agent_id"], tags=tags)
    ]


def _tags(call: Record) -> dict[str, Any]:
    tags = call["metadata"].get("webhookTags")
    return dict(tags) if isinstance(tags, Mapping) else {}


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
