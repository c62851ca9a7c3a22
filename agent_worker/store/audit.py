"""The audit: one row for each change that somebody made, by which key, to what."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import audit_entries

Record = dict[str, Any]


async def save_entry(
    connection: AsyncConnection,
    organization_id: str,
    *,
    key_id: str | None,
    action: str,
    resource: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Write an entry; it stands or falls with the change, in whose transaction it is.

    Args:
        key_id: None where it was not done over the API, but at the command line.
    """
    row = {
        "id": f"aud_{uuid.uuid4().hex}",
        "organization_id": organization_id,
        "key_id": key_id,
        "action": action,
        "resource": resource,
        "detail": dict(detail),
        "created_at": now,
    }
    await connection.execute(insert(audit_entries).values(row))


async def last_entries(
    connection: AsyncConnection, organization_id: str, *, limit: int, key_id: str | None = None
) -> list[Record]:
    """Return the last changes, newest first.

    Args:
        key_id: only what was done with this key.
    """
    table = audit_entries.c
    query = select(audit_entries).where(table.organization_id == organization_id)
    if key_id is not None:
        query = query.where(table.key_id == key_id)
    query = query.order_by(table.created_at.desc(), table.id.desc()).limit(limit)
    return [dict(row) for row in (await connection.execute(query)).mappings()]
