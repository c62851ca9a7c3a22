"""Bounds every silence the caller hears: a reply that does not come is answered for, and counted.

A turn fails when its provider says so or when nothing is heard by a deadline. The caller hears an apology from audio
rendered beforehand; after the third failed turn in a row a goodbye, and the call ends with the provider's name on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

Provider = Literal["stt", "llm", "tts"]

REPLY_SECONDS = 2.4
"""From the end of the caller's turn to our first sound. With the end-of-turn wait and the line: under 4 s."""

TOOL_SECONDS = 3.0
"""How long a tool may run in silence before the caller is asked for a moment."""

MAX_FAILED_TURNS = 3
FORGIVEN_SECONDS = 60.0
"""Failures further apart than this are not in a row."""


class Watchdog:
    """Decides what is said when a reply is late or lost.

    Args:
        apologise: says the apology; called once for each failed turn.
        hold: says that it takes a moment.
        give_up: says the goodbye and ends the call.
        waiting_for: names the provider whose part of the reply is not there yet.
    """

    def __init__(
        self,
        *,
        apologise: Callable[[Provider], None],
        hold: Callable[[], None],
        give_up: Callable[[Provider], None],
        waiting_for: Callable[[], Provider],
    ) -> None:
        self._apologise = apologise
        self._hold = hold
        self._give_up = give_up
        self._waiting_for = waiting_for
        self._timer: asyncio.TimerHandle | None = None
        self._turn_failed = False
        self._owed = False
        self._tools = 0
        self._stopped = False
        self._paused = False
        self._failed_at = 0.0
        self.failed_turns = 0

    @property
    def reply_owed(self) -> bool:
        """Whether the caller waits for us to say something."""
        return self._owed or self._tools > 0

    def reply_due(self) -> None:
        """We are to be heard: the caller's turn is complete, or the line has just opened."""
        self._turn_failed = False
        self._owed = True
        self._arm(REPLY_SECONDS, self._late)

    def caller_speaking(self, on: bool) -> None:
        """The caller speaks, so nothing is late; when they stop, a reply still owed is due again."""
        if on:
            self._disarm()
        elif self._tools:
            self._arm(TOOL_SECONDS, self._tool_slow)
        elif self._owed:
            self._arm(REPLY_SECONDS, self._late)

    def reply_heard(self) -> None:
        """The agent speaks, and not to apologise; words before a tool's result are not the whole reply."""
        self.failed_turns = 0
        self._disarm()
        if self._tools:
            self._arm(TOOL_SECONDS, self._tool_slow)
        else:
            self._owed = False

    def reply_dropped(self) -> None:
        """No reply is due any more: a tool has answered for the model."""
        self._owed = False
        self._disarm()

    def failed(self, provider: Provider) -> None:
        """A provider gave up on this turn; further failures of the same turn count once."""
        self._owed = False
        self._disarm()
        if self._turn_failed or self._stopped or self._paused:
            return
        self._turn_failed = True
        now = asyncio.get_running_loop().time()
        self.failed_turns = 1 if now - self._failed_at > FORGIVEN_SECONDS else self.failed_turns + 1
        self._failed_at = now
        if self.failed_turns >= MAX_FAILED_TURNS:
            self._give_up(provider)
        else:
            self._apologise(provider)

    def unheard(self) -> None:
        """The caller spoke and the recogniser made nothing of it: a failed turn of its own."""
        self._turn_failed = False
        self.failed("stt")

    def recognised(self) -> None:
        """The recogniser works: its failures so far are forgotten once a reply is heard."""
        self._turn_failed = False

    def tool_started(self) -> None:
        """A tool runs: the reply waits for it, the caller not in silence."""
        self._tools += 1
        self._owed = True
        self._arm(TOOL_SECONDS, self._tool_slow)

    def tool_ended(self) -> None:
        """The tool is done: the reply is due again."""
        self._tools = max(0, self._tools - 1)
        if not self._tools:
            self._owed = True
            self._arm(REPLY_SECONDS, self._late)

    def pause(self) -> None:
        """Watch nothing for a while: somebody else speaks with the caller."""
        self._paused = True
        self.reply_dropped()

    def resume(self) -> None:
        """Watch again; nothing that was owed before is owed any more."""
        self._paused = False
        self._owed = False

    def stop(self) -> None:
        """Watch no more, whatever is still reported."""
        self._stopped = True
        self._disarm()

    def _late(self) -> None:
        self.failed(self._waiting_for())

    def _tool_slow(self) -> None:
        self._hold()
        self._arm(2 * TOOL_SECONDS, self._tool_slow)

    def _arm(self, seconds: float, then: Callable[[], None]) -> None:
        self._disarm()
        if not (self._stopped or self._paused):
            self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
