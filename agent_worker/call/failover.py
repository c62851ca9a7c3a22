"""Failover of a provider that says nothing: an error moves a call to the next one by itself, silence has a deadline.

The deadlines fit one failure into the watchdog's time for a reply, so that the caller hears an answer and no apology.
They hold only while somebody else could serve: the last provider has all the time the watchdog gives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, TypeVar

from livekit.agents import APIConnectionError

from agent_worker.providers.failover import Chain
from agent_worker.providers.first_clause import find_cut

T = TypeVar("T")

FIRST_TOKEN_SECONDS = 1.2
"""From the question to the model's first sign of life."""

FIRST_SOUND_SECONDS = 1.0
"""From a reply's first complete sentence to the first sound of it."""


async def in_time(
    begin: Callable[[], AsyncGenerator[T, None]], chain: Chain[Any], seconds: float, ready: asyncio.Event | None = None
) -> AsyncGenerator[T, None]:
    """Yield what `begin` gives, and begin again with the next provider where the first item does not come in time.

    Args:
        begin: asks the chain; nothing of what it gave before its first item is kept.
        ready: set once the provider has what it needs to answer; None = from the beginning.
    """
    while True:
        items = begin()
        async with contextlib.aclosing(items):
            try:
                async with asyncio.timeout(None) as limit, _patience(limit, chain, seconds, ready):
                    first = await anext(items)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                continue
            yield first
            async for item in items:
                yield item
            return


@contextlib.asynccontextmanager
async def _patience(
    limit: asyncio.Timeout, chain: Chain[Any], seconds: float, ready: asyncio.Event | None
) -> AsyncIterator[None]:
    if not chain.spare:
        yield
        return
    watching = asyncio.create_task(_watch(limit, chain, seconds, ready), name="failover_deadline")
    try:
        yield
    finally:
        watching.cancel()


async def _watch(limit: asyncio.Timeout, chain: Chain[Any], seconds: float, ready: asyncio.Event | None) -> None:
    if ready is not None:
        await ready.wait()
    while chain.spare:
        asked = chain.next
        await asyncio.sleep(seconds)
        if chain.give_up(asked):
            limit.reschedule(asyncio.get_running_loop().time())
            return
        # it has failed by itself meanwhile: who was asked instead has as much time


async def unless_given_up(events: AsyncGenerator[T, None], chain: Chain[Any]) -> AsyncGenerator[T, None]:
    """Yield a recogniser's events until it is given up; the session then opens a stream to the next one.

    Raises:
        livekit.agents.APIConnectionError: it was given up.
    """
    given_up = asyncio.ensure_future(chain.given_up.wait())
    following: asyncio.Future[T] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(events))
            await asyncio.wait({following, given_up}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise APIConnectionError("the recogniser was given up")
            try:
                yield following.result()
            except StopAsyncIteration:
                return
    finally:
        given_up.cancel()
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait({following})
        await events.aclose()


class ReplyText:
    """A reply's text as it is written, kept so that another voice can begin it again.

    Attributes:
        speakable: set once the first sentence is complete.
    """

    def __init__(self, source: AsyncIterable[str]) -> None:
        self.speakable = asyncio.Event()
        self._pieces: list[str] = []
        self._grown = asyncio.Event()
        self._reading = asyncio.create_task(self._read(source), name="reply_text")

    async def from_start(self) -> AsyncIterator[str]:
        """Yield the text from its beginning to its end; one reader at a time."""
        read = 0
        while True:
            while read < len(self._pieces):
                read += 1
                yield self._pieces[read - 1]
            if self._reading.done():
                await self._reading  # a source that broke breaks its reader
                return
            self._grown.clear()
            waiting = asyncio.ensure_future(self._grown.wait())
            try:
                await asyncio.wait({waiting, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()

    async def aclose(self) -> None:
        """Read no further."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # its reader was told
            await self._reading

    async def _read(self, source: AsyncIterable[str]) -> None:
        async for piece in source:
            self._pieces.append(piece)
            self._grown.set()
            if not self.speakable.is_set() and find_cut("".join(self._pieces), first=False) is not None:
                self.speakable.set()
        if "".join(self._pieces).strip():
            self.speakable.set()
