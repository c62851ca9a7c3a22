"""A real client that follows a call in the background, and what it was told, in short."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from spekoai import AsyncSpeko


class Watching:
    """A real client that follows a call in the background."""

    def __init__(self, url: str, key: str, call_id: str = "call-1", cursor: str | None = None) -> None:
        self.told: list[Any] = []
        self._client = AsyncSpeko(api_key=key, base_url=url)
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._follow(call_id, cursor))

    async def _follow(self, call_id: str, cursor: str | None) -> None:
        async for happening in self._client.sessions.stream(call_id, cursor=cursor):
            self.told.append(happening)
            self._arrived.set()

    async def until(self, *words: str) -> list[str]:
        """Wait until the last things told are these; returns all that was told, in short."""
        async with asyncio.timeout(20):
            while self.words[-len(words) :] != list(words):
                if self._task.done():
                    await self._task
                    raise AssertionError(f"the stream ended with {self.words}")
                self._arrived.clear()
                await self._arrived.wait()
        return self.words

    async def all(self) -> list[str]:
        """Wait for the end; returns all that was told, in short."""
        async with asyncio.timeout(20):
            await self._task
        return self.words

    @property
    def words(self) -> list[str]:
        return [in_short(happening) for happening in self.told]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.close()


@contextlib.asynccontextmanager
async def watching(url: str, key: str, **options: Any) -> AsyncIterator[Watching]:
    found = Watching(url, key, **options)
    try:
        yield found
    finally:
        await found.stop()


def in_short(happening: Any) -> str:
    match happening.type:
        case "status":
            return str(happening.status)
        case "transcript":
            return str(happening.turn.text)
        case "event":
            return str(happening.event.event_type)
        case _:
            return "end"
