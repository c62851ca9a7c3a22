"""What a caller hears: every frame of the agent, the moment it is heard, and whether it is speech."""

from __future__ import annotations

import time

import numpy as np
from livekit import rtc

LOUD_RMS = 250.0
"""Root mean square of a frame, of 32,767, from which on it is speech."""


class Ear:
    """Listens to the agent.

    Attributes:
        frames: what was heard: monotonic time (s) of the first sample, samples as bytes, whether it was loud.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes, bool]] = []
        self._last_loud = 0.0

    def hear(self, frame: rtc.AudioFrame, heard_at: float) -> None:
        """Take a frame that is heard from this monotonic time (s) on."""
        samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float64)
        loud = bool(len(samples)) and float(np.sqrt(np.mean(samples**2))) >= LOUD_RMS
        self.frames.append((heard_at, bytes(frame.data), loud))
        if loud:
            self._last_loud = heard_at + frame.duration

    def forget_after(self, moment: float) -> None:
        """Drop frames that were on their way but are not heard (the agent was interrupted)."""
        while self.frames and self.frames[-1][0] > moment:
            self.frames.pop()
        self._last_loud = min(self._last_loud, moment)

    @property
    def speaking(self) -> bool:
        """Whether the agent is being heard right now."""
        return self._last_loud > time.monotonic()

    def quiet_for(self) -> float:
        """Return for how many seconds nothing was heard; infinite where nothing ever was."""
        return time.monotonic() - self._last_loud if self._last_loud else float("inf")

    def first_sound_after(self, moment: float) -> float | None:
        """Return when speech was first heard at or after this monotonic time (s), or None."""
        for heard_at, _, loud in self.frames:
            if loud and heard_at >= moment:
                return heard_at
        return None
