"""Purges calls and erases recordings once they are as old as the operator keeps them, a few at a time.

Any number of processes may do it: each takes rows that nobody else has locked, and does them in the transaction that
found them.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from agent_worker.control.purge import erase_recording, purge_call
from agent_worker.domain.call import utc_now
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.control")

AT_ONCE = 20
"""Calls purged in one transaction: others want to write too."""

EVERY_SECONDS = 60.0
PAUSE_SECONDS = 0.05
"""Between two batches, so that whoever waits to write gets to."""

TOO_OLD = "too old to be kept"


class Writes(Protocol):
    """What retention needs of a control plane."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits."""


class Retention:
    """Does away with what is too old; days of 0 keep it for ever."""

    def __init__(self, control: Writes, settings: Settings) -> None:
        self._control = control
        self._days = settings.retention_days
        self._recording_days = settings.recording_retention_days

    async def run(self) -> None:
        """Look every minute until cancelled; soon again while there is more."""
        if not self._days and not self._recording_days:
            await asyncio.Event().wait()
        while True:
            touched = 0
            try:
                touched = await self.sweep(utc_now())
            except ControlPlaneError as error:
                logger.warning("retention put off", extra={"code": error.code})
            await asyncio.sleep(PAUSE_SECONDS if touched else EVERY_SECONDS)

    async def sweep(self, now: datetime) -> int:
        """Purge and erase a few; returns how many calls were touched.

        Raises:
            ControlPlaneError: the database is down; nothing of the batch was done.
        """
        done = 0
        if self._days:
            done += await self._purge_some(now)
        if self._recording_days:
            done += await self._erase_some(now)
        return done

    async def _purge_some(self, now: datetime) -> int:
        from agent_worker.store.purging import aged_calls

        async with self._control.writing() as connection:
            found = await aged_calls(connection, now - timedelta(days=self._days), AT_ONCE)
            for call_id in found:
                await purge_call(connection, call_id, now)
        if found:
            logger.info("calls purged by age", extra={"count": len(found)})
        return len(found)

    async def _erase_some(self, now: datetime) -> int:
        from agent_worker.store.purging import aged_recordings

        async with self._control.writing() as connection:
            found = await aged_recordings(connection, now - timedelta(days=self._recording_days), AT_ONCE)
            for call_id in found:
                await erase_recording(connection, call_id, now, why=TOO_OLD)
        if found:
            logger.info("recordings erased by age", extra={"count": len(found)})
        return len(found)
