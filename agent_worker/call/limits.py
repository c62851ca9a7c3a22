"""The longest a call may take: a spoken goodbye, then the end, and a backstop that needs nobody's help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

BACKSTOP_SECONDS = 30.0
"""After this much more the line is taken down whatever the goodbye does."""


async def limit_duration(
    seconds: float,
    *,
    say_goodbye: Callable[[], Awaitable[None]],
    cut: Callable[[], None],
) -> None:
    """Wait, say goodbye, and cut the line should the goodbye not have ended the call."""
    await asyncio.sleep(seconds)
    try:
        async with asyncio.timeout(BACKSTOP_SECONDS):
            await say_goodbye()
    except TimeoutError:
        pass
    cut()
