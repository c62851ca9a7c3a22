"""Joins two legs: what one says the other hears, frame by frame, and nobody else does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from livekit.rtc.participant import PublishDTMFError

from agent_worker.call.line import Leg, LineClosed

logger = logging.getLogger("agent_worker.call")

KeyPassed = Callable[[Leg], None]


class Relay:
    """Carries audio and keys both ways between two legs while entered.

    Args:
        key_passed: told the leg a key went to.

    A frame is passed on as it comes: no buffer, no resampling; what is late is dropped rather than kept, so the delay
    does not grow over a long call. Both legs are ready for it.
    """

    def __init__(self, one: Leg, other: Leg, key_passed: KeyPassed) -> None:
        self._directions = (_Direction(one, other, key_passed), _Direction(other, one, key_passed))

    async def __aenter__(self) -> Self:
        """Join the legs."""
        for direction in self._directions:
            direction.start()
        return self

    async def until(self, closed: asyncio.Future[LineClosed]) -> None:
        """Return when one of the legs is closed.

        Raises:
            Exception: whatever the media engine says, where a voice no longer comes through.
        """
        pumps = [direction.pump for direction in self._directions]
        either: set[asyncio.Future[Any]] = {closed, *pumps}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            if pump.done():
                pump.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Part them: from here on neither hears the other."""
        for direction in self._directions:
            await direction.stop()


class _Direction:
    def __init__(self, source: Leg, sink: Leg, key_passed: KeyPassed) -> None:
        self._source = source
        self._sink = sink
        self._key_passed = key_passed
        self._presses: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self.pump = asyncio.create_task(self._run(), name="relay")
        self._source.tap_digits(self._press)

    async def stop(self) -> None:
        self._source.untap_digits(self._press)
        tasks = [self.pump, *self._presses]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        async with contextlib.aclosing(self._source.live_voice()) as frames:
            async for frame in frames:
                if not self._sink.playout.speaking:  # a sentence of ours is not talked over
                    await self._sink.pass_on(frame)

    def _press(self, digit: str) -> None:
        task = asyncio.create_task(self._pass_key(digit), name="relay_digit")
        self._presses.add(task)
        task.add_done_callback(self._presses.discard)

    async def _pass_key(self, digit: str) -> None:
        try:
            await self._sink.send_digit(digit)
        except PublishDTMFError as error:
            logger.warning("key not passed on", extra={"error": type(error).__name__})
            return
        self._key_passed(self._sink)
