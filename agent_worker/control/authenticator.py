"""Looks API keys up by their hash, and remembers the answer for a moment: a revoked key works no longer than that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from agent_worker.domain.call import utc_now
from agent_worker.errors import ControlPlaneError
from agent_worker.store.keys import key_by_hash, note_uses

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.keys")

REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000
NOTE_SECONDS = 60.0
"""How often it is written down which keys were used: a read must not cost a write."""


class Transactions(Protocol):
    """What the authenticator needs of a control plane."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits when the block ends without an error."""


class Authenticator:
    """Finds rows of keys that are not revoked.

    Args:
        monotonic: clock in seconds.
    """

    def __init__(self, control: Transactions, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._control = control
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, Mapping[str, Any] | None]] = OrderedDict()
        self._used: dict[str, datetime] = {}

    async def find(self, hashed: str) -> Mapping[str, Any] | None:
        """Return the row of the key with this hash; None where there is none, or it is revoked.

        Raises:
            ControlPlaneError: the database is down.
        """
        now = self._monotonic()
        known = self._known.get(hashed)
        if known is None or now - known[0] >= REMEMBERED_SECONDS:
            async with self._control.reading() as connection:
                known = (now, await key_by_hash(connection, hashed))
            self._known[hashed] = known
            self._known.move_to_end(hashed)
            if len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        row = known[1]
        if row is not None:
            self._used[row["id"]] = utc_now()
        return row

    async def run(self) -> None:
        """Write down now and then when keys were used last, until cancelled."""
        while True:
            await asyncio.sleep(NOTE_SECONDS)
            await self.note_uses()

    async def note_uses(self) -> None:
        """Write down when each key was used last; where the database is down, the next time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            async with self._control.writing() as connection:
                await note_uses(connection, used)
        except ControlPlaneError as error:
            self._used = used | self._used
            logger.warning("uses of keys not written down yet", extra={"code": error.code})
