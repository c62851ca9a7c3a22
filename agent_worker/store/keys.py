"""API keys as rows: only their hashes."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.tables import api_keys

Record = dict[str, Any]

_ONE_AT_A_TIME = 7_308_604_757  # any number, the same in all our processes, and not that of the migrations


async def save_key(
    connection: AsyncConnection,
    organization_id: str,
    *,
    name: str,
    hashed: str,
    shown: str,
    scope: str,
    agent_ids: Collection[str] | None,
    now: datetime,
) -> str:
    """Write a key and return its id."""
    key_id = f"key_{secrets.token_hex(8)}"
    row = {
        "id": key_id,
        "organization_id": organization_id,
        "name": name,
        "hash": hashed,
        "shown": shown,
        "scope": scope,
        "agent_ids": sorted(agent_ids) if agent_ids is not None else None,
        "created_at": now,
    }
    await connection.execute(insert(api_keys).values(row))
    return key_id


async def key_by_hash(connection: AsyncConnection, hashed: str) -> Record | None:
    """Return the row of a key that is not revoked."""
    query = select(api_keys).where(api_keys.c.hash == hashed, api_keys.c.revoked_at.is_(None))
    found = (await connection.execute(query)).mappings().one_or_none()
    return None if found is None else dict(found)


async def list_keys(connection: AsyncConnection, organization_id: str) -> list[Record]:
    """Return all keys, revoked ones too, oldest first."""
    query = select(api_keys).where(api_keys.c.organization_id == organization_id).order_by(api_keys.c.created_at)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def revoke_key(connection: AsyncConnection, organization_id: str, key_id: str, *, now: datetime) -> bool:
    """Revoke a key; returns whether there was one that was not revoked yet."""
    table = api_keys.c
    query = update(api_keys).where(
        table.organization_id == organization_id, table.id == key_id, table.revoked_at.is_(None)
    )
    return (await connection.execute(query.values(revoked_at=now))).rowcount == 1


async def lock_first_key(connection: AsyncConnection, organization_id: str) -> bool:
    """Return whether the organization never had a key; nobody else makes one before this transaction ends."""
    if connection.dialect.name == "postgresql":  # where a transaction that writes has not the database to itself
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_AT_A_TIME})
    query = select(func.count()).select_from(api_keys).where(api_keys.c.organization_id == organization_id)
    return (await connection.execute(query)).scalar_one() == 0


async def note_uses(connection: AsyncConnection, used: Mapping[str, datetime]) -> None:
    """Write when each of these keys was used last."""
    for key_id, at in sorted(used.items()):
        await connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=at))
