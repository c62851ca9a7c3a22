"""The reprompt ladder: what is said into a caller's silence, and when silence ends the call.

The clock counts only while nobody speaks and nothing runs; it is armed again after each reprompt. Words of the caller
start the ladder anew, noise only stops the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent_worker.domain.turns import IdleRePrompts


class IdleLadder:
    """Says the next reprompt after each stretch of silence, then the goodbye.

    Args:
        say: speaks a sentence and returns when it has been heard.
        give_up: says the goodbye and ends the call.
    """

    def __init__(
        self,
        config: IdleRePrompts,
        *,
        say: Callable[[str], Awaitable[None]],
        give_up: Callable[[str], Awaitable[None]],
    ) -> None:
        self._config = config
        self._say = say
        self._give_up = give_up
        self._busy: set[str] = set()
        self._quiet = asyncio.Event()
        self._moved = asyncio.Event()
        self.prompts_said = 0

    def busy(self, what: str, on: bool) -> None:
        """Say that something (`caller`, `agent`, a tool's id) makes this no silence, or no longer does."""
        (self._busy.add if on else self._busy.discard)(what)
        if self._busy:
            self._quiet.clear()
        else:
            self._quiet.set()
        self._moved.set()

    def words(self) -> None:
        """Say that the caller said something."""
        self.prompts_said = 0
        self._moved.set()

    async def run(self) -> None:
        """Watch until the ladder's end; cancel it when the call is over."""
        if not self._config.enabled:
            return
        while True:
            if not await self._silence():
                continue
            if self.prompts_said >= self._config.max_prompts or not self._config.messages:
                await self._give_up(self._config.goodbye)
                return
            message = self._config.messages[min(self.prompts_said, len(self._config.messages) - 1)]
            self.prompts_said += 1
            await self._say(message)

    async def _silence(self) -> bool:
        """Wait for quiet, then whether it lasts the whole delay."""
        await self._quiet.wait()
        self._moved.clear()
        try:
            async with asyncio.timeout(self._config.delay_ms / 1000):
                await self._moved.wait()
        except TimeoutError:
            return True
        return False
