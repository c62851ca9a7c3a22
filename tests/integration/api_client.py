"""A running `serve` and those who ask it: the official client, sync and async, and plain HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from spekoai import AsyncSpeko, Speko

from agent_worker.settings import Settings
from tests.databases import fresh_database
from tests.integration.serving import make_key, serve_settings, serving

T = TypeVar("T")

NEW_AGENT = {"name": "Front desk", "systemPrompt": "You help.", "intent": {"language": "en"}}


@dataclass
class Served:
    """A `serve` with an admin key.

    Attributes:
        http: asks with the key.
    """

    settings: Settings
    url: str
    key: str
    http: httpx.AsyncClient

    async def with_key(self, **limits: Any) -> httpx.AsyncClient:
        """Return a client with another key; its owner closes it."""
        return asking(self.url, await make_key(self.settings, **limits))

    async def sync(self, use: Callable[[Speko], T]) -> T:
        """Let the official synchronous client do something, in a thread."""

        def run() -> T:
            with Speko(api_key=self.key, base_url=self.url) as client:
                return use(client)

        return await asyncio.to_thread(run)

    async def later(self, use: Callable[[AsyncSpeko], Awaitable[T]]) -> T:
        """Let the official asynchronous client do something."""
        async with AsyncSpeko(api_key=self.key, base_url=self.url) as client:
            return await use(client)


def asking(url: str, key: str) -> httpx.AsyncClient:
    """Return a client that asks with this key."""
    return httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30)


@asynccontextmanager
async def served(folder: Path, kind: str = "sqlite", *agents: Any, **changes: Any) -> AsyncIterator[Served]:
    """Run `serve` with a fresh database and these agent files."""
    with fresh_database(kind, folder) as database:
        values = {"database_url": database, "api_requests_per_minute": 0, **changes}
        settings = serve_settings(folder, *agents, **values)
        key = await make_key(settings)
        async with serving(settings) as url, asking(url, key) as http:
            yield Served(settings, url, key, http)
