"""Closes deliveries that nobody took in time and deletes old ones, a few at a time."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from agent_worker.domain.call import utc_now
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store.deliveries import delete_old, expire
from agent_worker.webhooks.dispatcher import Store

logger = logging.getLogger("agent_worker.webhooks")

EVERY_SECONDS = 60.0
BATCH = 500
"""Rows changed in one transaction: a live call waits for it to end."""


class Housekeeper:
    """Tidies the outbox until cancelled."""

    def __init__(self, store: Store, settings: Settings, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._store = store
        self._organization_id = settings.organization_id
        self._kept = timedelta(days=settings.webhook_retention_days)
        self._every = every_seconds

    async def run(self) -> None:
        """Tidy every minute."""
        while True:
            more = False
            try:
                more = await self.tidy()
            except ControlPlaneError as error:
                logger.warning("old webhooks not tidied", extra={"code": error.code})
            await asyncio.sleep(0 if more else self._every)

    async def tidy(self) -> bool:
        """Close and delete a batch each; returns whether there may be more."""
        now = utc_now()
        async with self._store.writing() as connection:
            expired = await expire(connection, now, limit=BATCH)
        async with self._store.writing() as connection:
            deleted = await delete_old(connection, self._organization_id, now - self._kept, limit=BATCH)
        return BATCH in (expired, deleted)
