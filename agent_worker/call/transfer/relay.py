"""Joins two legs: what one says the other hears, frame by frame, and nobody else does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from livekit import rtc
from livekit.rtc.participant import PublishDTMFError

from agent_worker.call.line import Leg

logger = logging.getLogger("agent_worker.call")

KeyPassed = Callable[[Leg], None]

MOST_FRAMES = 3
"""Frames of 20 ms that may wait for a busy event loop; of more, the oldest are dropped."""


class Relay:
    """Carries audio and keys both ways between two legs while entered.

    Args:
        key_passed: told the leg a key went to.

    A frame is passed on as it comes: no buffer, no resampling; what is late is dropped rather than kept, so the delay
    does not grow over a long call.
    """

    def __init__(self, one: Leg, other: Leg, key_passed: KeyPassed) -> None:
        self._directions = (_Direction(one, other, key_passed), _Direction(other, one, key_passed))

    async def __aenter__(self) -> Self:
        """Join the legs."""
        for direction in self._directions:
            direction.start()
        return self

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
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue(maxsize=MOST_FRAMES)
        self._pump: asyncio.Task[None] | None = None
        self._presses: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._pump = asyncio.create_task(self._run(), name="relay")
        self._source.tap_voice(self._take)
        self._source.tap_digits(self._press)

    async def stop(self) -> None:
        self._source.untap_voice(self._take)
        self._source.untap_digits(self._press)
        tasks = [task for task in (self._pump, *self._presses) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, frame: rtc.AudioFrame, _heard_at: float) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def _run(self) -> None:
        while True:
            frame = await self._frames.get()
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
