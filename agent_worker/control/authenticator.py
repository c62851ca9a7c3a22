"""Looks API keys up by their hash, and remembers the answer for a moment: a revoked key works no longer than that."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from agent_worker.store.keys import key_by_hash

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

REMEMBERED_SECONDS = 5.0
MOST_REMEMBERED = 10_000


class Reads(Protocol):
    """What the authenticator needs of a control plane."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""


class Authenticator:
    """Finds rows of keys that are not revoked.

    Args:
        monotonic: clock in seconds.
    """

    def __init__(self, control: Reads, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._control = control
        self._monotonic = monotonic
        self._known: OrderedDict[str, tuple[float, Mapping[str, Any] | None]] = OrderedDict()

    async def find(self, hashed: str) -> Mapping[str, Any] | None:
        """Return the row of the key with this hash; None where there is none, or it is revoked.

        Raises:
            ControlPlaneError: the database is down.
        """
        now = self._monotonic()
        known = self._known.get(hashed)
        if known is not None and now - known[0] < REMEMBERED_SECONDS:
            return known[1]
        async with self._control.reading() as connection:
            row = await key_by_hash(connection, hashed)
        self._known[hashed] = (now, row)
        self._known.move_to_end(hashed)
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return row
