"""Those who have joined a call from a browser: who is there, whose microphone is open, and what comes through it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from livekit import rtc

if TYPE_CHECKING:
    from agent_worker.call.line import AudioTap

MOST_OPERATORS = 8
"""At once on one call; who comes beyond that hears and is heard, and does not silence the agent."""

Change = Literal["joined", "speaking", "muted", "left"]


class Operator:
    """One of them.

    Attributes:
        identity: in the call's room.
        speaking: whether the microphone is open, said into or not.
    """

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.speaking = False
        self._taps: list[AudioTap] = []

    def tap_voice(self, tap: AudioTap) -> None:
        """Have every frame of the operator's voice handed to `tap`."""
        self._taps.append(tap)

    def untap_voice(self, tap: AudioTap) -> None:
        """Hand `tap` no more frames."""
        self._taps.remove(tap)

    def hear(self, frame: rtc.AudioFrame) -> None:
        """Take 20 ms of the operator's voice."""
        now = time.monotonic()
        for tap in tuple(self._taps):
            tap(frame, now)


class Operators:
    """The operators on one line; the line says who comes and goes, one watcher is told."""

    def __init__(self) -> None:
        self._here: dict[str, Operator] = {}
        self._told: Callable[[Operator, Change], None] = lambda operator, change: None

    @property
    def here(self) -> list[Operator]:
        """Those who are there, in the order in which they came."""
        return list(self._here.values())

    @property
    def speaking(self) -> bool:
        """Whether anybody's microphone is open."""
        return any(operator.speaking for operator in self._here.values())

    def watch(self, told: Callable[[Operator, Change], None]) -> None:
        """Have every change told from now on, beginning with what is the case."""
        self._told = told
        for operator in self._here.values():
            told(operator, "joined")
            if operator.speaking:
                told(operator, "speaking")

    def find(self, identity: str) -> Operator | None:
        """Return who is called so, where they are there."""
        return self._here.get(identity)

    def joined(self, identity: str) -> None:
        """Somebody is there. Idempotent."""
        if identity not in self._here and len(self._here) < MOST_OPERATORS:
            self._here[identity] = operator = Operator(identity)
            self._told(operator, "joined")

    def microphone(self, identity: str, open_: bool) -> None:
        """Somebody's microphone is open, or is not. Idempotent."""
        operator = self._here.get(identity)
        if operator is not None and operator.speaking is not open_:
            operator.speaking = open_
            self._told(operator, "speaking" if open_ else "muted")

    def left(self, identity: str) -> None:
        """Somebody is gone, whether they said so or not."""
        self.microphone(identity, False)
        if operator := self._here.pop(identity, None):
            self._told(operator, "left")
