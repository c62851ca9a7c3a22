"""Follows the calls somebody watches: one poller for all of them, and for everybody who watches the same call.

What is on a call comes from this process, from workers that write the same database, and from other control planes;
all of it raises the call's revision, which is what is asked for while anybody watches a live call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from agent_worker.errors import ControlPlaneError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from agent_worker.store.live import LiveState

logger = logging.getLogger("agent_worker.control")

POLL_SECONDS = 0.05
RETRY_SECONDS = 0.5
"""Between two attempts to read a database that is away."""

HOLD_SECONDS = 2.0
"""How long a turn waits for one before it that is still being spoken: who resumes behind a turn is not told of an
earlier one any more."""

Record = dict[str, Any]
Reading = Callable[[], AbstractAsyncContextManager["AsyncConnection"]]


@dataclass(frozen=True)
class Happening:
    """Something that came to be known of a call.

    Attributes:
        row: a row of the event list with its `organization_id`, or of the transcript, final.
    """

    kind: Literal["event", "turn"]
    row: Record


@dataclass
class WatchedCall:
    """What is known of a call, for all who watch it.

    Attributes:
        loaded: whether it has been read at all.
        known: all that happened, in the order it is told; it only grows.
        over: nothing follows.
        version: grows with each change of the above.
    """

    call_id: str
    loaded: bool = False
    status: str = ""
    ended_at: datetime | None = None
    over: bool = False
    known: list[Happening] = field(default_factory=list)
    watchers: int = 0
    version: int = 0
    _revision: int = -1
    _told_turns: set[int] = field(default_factory=set)
    _next_turn: int = 0
    _last_event: datetime | None = None
    _held_since: float | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self, since: int, seconds: float) -> bool:
        """Wait until the version is another, at most so long; returns whether it is."""
        if self.version == since:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        return self.version != since

    def is_due(self, revision: int | None, now: float) -> bool:
        """Return whether it has to be read again; `now` is monotonic."""
        held_enough = self._held_since is not None and now - self._held_since >= HOLD_SECONDS
        return revision is None or revision != self._revision or held_enough

    async def read(self, connection: AsyncConnection, now: float) -> None:
        """Read what is new."""
        from agent_worker.store.live import live_state

        state = await live_state(connection, self.call_id, from_turn=self._next_turn, events_after=self._last_event)
        self.take(state, now)

    def take(self, state: LiveState | None, now: float) -> None:
        """Take in what was read; None where the call is there no more."""
        if state is None:
            self.over = True
        else:
            self.loaded, self._revision = True, state.revision
            self.status, self.ended_at = state.status, state.ended_at
            self.over = state.ended_at is not None
            events = [Happening("event", row) for row in state.events]
            self.known += _in_order(events, self._final_turns(state.turns, now))
            if state.events:
                self._last_event = state.events[-1]["created_at"]
        self.notify()

    def _final_turns(self, rows: Iterable[Record], now: float) -> list[Happening]:
        """Return the turns to tell of: each once, when it is final, behind those before it unless they take long."""
        patient = self._held_since is None or now - self._held_since < HOLD_SECONDS
        found: list[Happening] = []
        waiting = held = False
        for row in rows:
            if row["index"] < self._next_turn or row["index"] in self._told_turns:
                continue
            if not self.over and row["metadata"].get("partial"):
                waiting = True
            elif waiting and patient:
                held = True
            else:
                found.append(Happening("turn", row))
                self._told_turns.add(row["index"])
        self._held_since = None if not held else now if self._held_since is None else self._held_since
        while self._next_turn in self._told_turns:
            self._told_turns.discard(self._next_turn)
            self._next_turn += 1
        return found

    def notify(self) -> None:
        """Wake all who wait for a change."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


class Feed:
    """Every call that is watched in this process.

    Args:
        reading: opens a transaction of the database.
        poll_seconds: how often live calls are asked for changes nobody here knows of.

    Attributes:
        closing: the process stops, and who watches is asked to come again.
    """

    def __init__(self, reading: Reading, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._reading = reading
        self._poll_seconds = poll_seconds
        self._calls: dict[str, WatchedCall] = {}
        self._woken = asyncio.Event()
        self._failing = False
        self.closing = False

    @asynccontextmanager
    async def watch(self, call_id: str) -> AsyncIterator[WatchedCall]:
        """Lend a call that is kept up to date for as long as anybody watches it."""
        call = self._calls.setdefault(call_id, WatchedCall(call_id))
        call.watchers += 1
        self._woken.set()
        try:
            yield call
        finally:
            call.watchers -= 1
            if call.watchers == 0:
                self._calls.pop(call_id, None)

    def wake(self, call_ids: Iterable[str]) -> None:
        """These calls have changed just now: what is new is read at once where anybody watches one of them."""
        if any(call_id in self._calls for call_id in call_ids):
            self._woken.set()

    def close(self) -> None:
        """Have everybody who watches leave."""
        self.closing = True
        for call in self._calls.values():
            call.notify()

    async def run(self) -> None:
        """Keep watched calls up to date until cancelled; with no live call among them it sleeps."""
        while True:
            live = any(not call.over for call in self._calls.values())
            pause = (RETRY_SECONDS if self._failing else self._poll_seconds) if live else None
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            self._woken.clear()
            if self._failing:
                await asyncio.sleep(RETRY_SECONDS)
            await self._poll()

    async def _poll(self) -> None:
        calls = [call for call in self._calls.values() if not call.over]
        if not calls:
            return
        from agent_worker.store.live import revisions

        try:
            async with self._reading() as connection:
                current = await revisions(connection, [call.call_id for call in calls])
                for call in calls:
                    if call.is_due(current.get(call.call_id), time.monotonic()):
                        await call.read(connection, time.monotonic())
            self._failing = False
        except ControlPlaneError as error:
            if not self._failing:
                logger.warning("watched calls cannot be read", extra={"code": error.code})
            self._failing = True


def _in_order(events: list[Happening], turns: list[Happening]) -> list[Happening]:
    """Return both by when they happened, without changing the order of either."""
    merged: list[Happening] = []
    rest = iter(turns)
    turn = next(rest, None)
    for event in events:
        while turn is not None and turn.row["started_at"] <= event.row["occurred_at"]:
            merged.append(turn)
            turn = next(rest, None)
        merged.append(event)
    return [*merged, *([turn] if turn is not None else []), *rest]
