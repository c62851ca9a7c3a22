"""Makes API keys and withdraws them; how the command line, and a first `serve`, does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.api_key import Scope, hash_of, new_key, shown_of
from agent_worker.domain.call import utc_now
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store.audit import save_entry
from agent_worker.store.keys import lock_first_key, revoke_key, save_key

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.keys")

FIRST_NAME = "first key"

AGAIN_SECONDS = 5.0
"""How long a database that is away is left alone."""


async def make_first_key(settings: Settings, *, again_seconds: float = AGAIN_SECONDS) -> str | None:
    """Return a new admin key where there never was any key, None where there was.

    Of several processes that start at once, one makes it. A database that is away is waited for.
    """
    control = EmbeddedControlPlane(settings)
    try:
        while True:
            try:
                async with control.writing() as connection:
                    if not await lock_first_key(connection, settings.organization_id):
                        return None
                    _, key = await make_key(connection, settings, name=FIRST_NAME, scope=Scope.ADMIN, agent_ids=None)
                return key
            except ControlPlaneError as error:
                logger.info("whether there is an API key is asked again soon", extra={"code": error.code})
                await asyncio.sleep(again_seconds)
    finally:
        await control.aclose()


async def make_key(
    connection: AsyncConnection, settings: Settings, *, name: str, scope: Scope, agent_ids: Collection[str] | None
) -> tuple[str, str]:
    """Write a new key and return its id and the key itself, which nobody can read again.

    Args:
        agent_ids: the only agents it sees; None for all.
    """
    key, now = new_key(), utc_now()
    key_id = await save_key(
        connection,
        settings.organization_id,
        name=name,
        hashed=hash_of(key),
        shown=shown_of(key),
        scope=scope.name.lower(),
        agent_ids=agent_ids,
        now=now,
    )
    detail = {"scope": scope.name.lower()} | ({} if agent_ids is None else {"agents": sorted(agent_ids)})
    await _note(connection, settings, "key.create", key_id, detail)
    return key_id, key


async def withdraw_key(connection: AsyncConnection, settings: Settings, key_id: str) -> bool:
    """Revoke a key; returns whether there was one that was in force."""
    if not await revoke_key(connection, settings.organization_id, key_id, now=utc_now()):
        return False
    await _note(connection, settings, "key.revoke", key_id, {})
    return True


async def _note(
    connection: AsyncConnection, settings: Settings, action: str, key_id: str, detail: Mapping[str, object]
) -> None:
    await save_entry(
        connection,
        settings.organization_id,
        key_id=None,
        action=action,
        resource=f"keys/{key_id}",
        detail=detail,
        now=utc_now(),
    )
