"""The outbox: deliveries are rows, written in the transaction that makes what they tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import deliveries
from agent_worker.store.upsert import insert_new, storable
from agent_worker.webhooks.payloads import DURABLE_EVENTS, metadata_only

EXPIRY = timedelta(hours=72)
"""How long a durable delivery is tried."""

ONE_SHOT_EXPIRY = timedelta(hours=1)
"""How long one that gets a single attempt waits for it: afterwards nobody wants to know."""

METADATA_ONLY = "metadata_only"

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Recipient:
    """Whom a delivery goes to: an endpoint of the workspace, or a hook of an agent's."""

    endpoint_id: str
    content_mode: str = "full"


@dataclass(frozen=True)
class Told:
    """One thing to tell.

    Attributes:
        event: its name, as endpoints subscribe to it.
        event_id: the same thing told twice has the same one, and is one delivery to each recipient.
        not_before: it is held back until then, so that it can still become better.
    """

    event: str
    event_id: str
    payload: Record
    occurred_at: datetime
    not_before: datetime | None = None


def is_subscribed(endpoint: Record, event: str, *, agent_id: str | None, tags: Record) -> bool:
    """Return whether the endpoint is told this event of a call by this agent with these `webhookTags`."""
    if event not in endpoint["events"]:
        return False
    if not endpoint["all_agents"] and agent_id not in endpoint["agent_ids"]:
        return False
    return all(tags.get(name) == value for name, value in endpoint["filter_tags"].items())


def tags_of(call: Record) -> dict[str, Any]:
    """Return the call's `webhookTags`."""
    tags = call["metadata"].get("webhookTags")
    return dict(tags) if isinstance(tags, Mapping) else {}


def event_id_of(*parts: str) -> str:
    """Return the id of something that happened once, named by these parts."""
    return "evt_" + _digest(*parts)


def delivery_rows(call: Record, told: Told, recipients: Iterable[Recipient], now: datetime) -> list[dict[str, Any]]:
    """Return a row for each recipient.

    Args:
        now: when they are written; later deliveries of the call need a later time, for they follow in this order.
    """
    durable = told.event in DURABLE_EVENTS
    return [
        {
            "id": "dlv_" + _digest(recipient.endpoint_id, told.event, told.event_id),
            "event_id": told.event_id,
            "endpoint_id": recipient.endpoint_id,
            "organization_id": call["organization_id"],
            "event": told.event,
            "call_id": call["id"],
            "agent_id": call["agent_id"],
            "webhook_tags": tags_of(call),
            "status": "pending",
            "attempt_count": 0,
            "payload": metadata_only(told.payload) if recipient.content_mode == METADATA_ONLY else dict(told.payload),
            "durable": durable,
            "occurred_at": told.occurred_at,
            "next_attempt_at": told.not_before or now,
            "expires_at": now + (EXPIRY if durable else ONE_SHOT_EXPIRY),
            "created_at": now,
        }
        for recipient in recipients
    ]


async def write(connection: AsyncConnection, rows: list[dict[str, Any]]) -> None:
    """Write the deliveries that are not there yet."""
    await insert_new(connection, deliveries, rows)


async def rewrite(connection: AsyncConnection, rows: list[dict[str, Any]], *, release: bool) -> None:
    """Give deliveries that nobody has been sent yet the payload as it is now.

    Args:
        release: send those at once that were held back.
    """
    table = deliveries.c
    for row in rows:
        values = {"payload": storable(row["payload"])}
        if release:
            values["next_attempt_at"] = row["next_attempt_at"]
        await connection.execute(
            deliveries.update()
            .where(table.id == row["id"], table.status == "pending", table.attempt_count == 0)
            .values(values)
        )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
