"""A caller on hold: they hear music, and nothing they say reaches a recogniser, a model, or anybody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from types import TracebackType
from typing import Self

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.live_call import LiveCall
from agent_worker.call.transfer.hold_audio import Samples

logger = logging.getLogger("agent_worker.call")

FRAME_SAMPLES = LINE_SAMPLE_RATE // 50
FRAME_SECONDS = FRAME_SAMPLES / LINE_SAMPLE_RATE
ON_HOLD = "hold"

WORD_SECONDS = 20.0
"""How long a caller hears nothing but music."""

LEVEL = 0.05
"""Of full scale, about -26 dB: music that is talked over by nobody still wears on a caller who waits."""

BEAT_SECONDS = 0.45
CHORDS = ((57, 64, 69, 72), (53, 60, 65, 69), (48, 55, 60, 64), (55, 62, 67, 71))
"""MIDI notes of a slow turn in A minor, two rounds of four beats each."""


class Hold:
    """Holds a caller while entered.

    Args:
        own_music: gets what is heard in place of the music that ships, which is heard until it is there; None of it
            where it cannot be had.
    """

    def __init__(self, call: LiveCall, own_music: Callable[[], Awaitable[Samples | None]] | None = None) -> None:
        self._call = call
        self._own_music = own_music
        self._tune = tune()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Stop listening to the caller, and begin the music once what is being said has been heard."""
        call = self._call
        away_from_agent(call)
        parts = (self._play(), self._reassure(), self._fetch())
        self._tasks = [asyncio.create_task(part, name="hold") for part in parts]
        call.record_event("call.hold")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the music; whoever ends the hold says who listens now."""
        await self.stop_music()

    async def stop_music(self) -> None:
        """Let the caller hear somebody else. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for failed in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(failed, Exception):
                logger.error("a part of the hold failed", extra={"error": type(failed).__name__})
        if tasks:
            self._call.record_event("call.unhold")

    async def _fetch(self) -> None:
        if self._own_music is not None and (samples := await self._own_music()) is not None:
            self._tune = samples

    async def _reassure(self) -> None:
        """Say now and then that somebody still sees to it."""
        while True:
            await asyncio.sleep(WORD_SECONDS)
            if not self._call.line.operators.speaking:
                await self._call.announce(self._call.agent.fallbacks.hold, "hold", interruptible=False)

    async def _play(self) -> None:
        line = self._call.line
        loop = asyncio.get_running_loop()
        due = loop.time()
        playing, at = self._tune, 0
        while True:
            # a voice comes before the music, never over it
            while line.playout.speaking or line.operators.speaking:
                await asyncio.sleep(FRAME_SECONDS)
                due = loop.time()
            if playing is not self._tune:
                playing, at = self._tune, 0
            # round and round: a file's end and its beginning share a frame
            piece = playing.take(range(at, at + FRAME_SAMPLES), mode="wrap")
            await line.play(rtc.AudioFrame(piece.tobytes(), LINE_SAMPLE_RATE, 1, FRAME_SAMPLES))
            at = (at + FRAME_SAMPLES) % len(playing)
            due += FRAME_SECONDS
            await asyncio.sleep(due - loop.time())


def away_from_agent(call: LiveCall) -> None:
    """Have the agent neither listen to the caller nor ask whether they are still there."""
    call.idle.busy(ON_HOLD, True)
    call.session.input.set_audio_enabled(False)
    call.session.clear_user_turn()
    call.watchdog.reply_dropped()


def back_to_agent(call: LiveCall) -> None:
    """Have the agent listen to the caller again; changes nothing where it does."""
    call.session.input.set_audio_enabled(True)
    call.idle.busy(ON_HOLD, False)


@lru_cache(maxsize=1)
def tune() -> Samples:
    """Return the music that ships, to be heard round and round."""
    beat = round(BEAT_SECONDS * LINE_SAMPLE_RATE)
    notes = np.zeros(beat * 8 * len(CHORDS) + 4 * beat)
    for bar, chord in enumerate(CHORDS):
        for step in range(8):
            note = _note(chord[(step * 3) % 4], 4 * beat)
            start = (bar * 8 + step) * beat
            notes[start : start + len(note)] += note
    ring = len(CHORDS) * 8 * beat
    notes[: 4 * beat] += notes[ring:]  # what rings on at the end does so into the beginning
    notes = notes[:ring]
    return np.asarray(notes * (LEVEL * 32_767 / float(np.abs(notes).max())), dtype=np.int16)


def _note(midi: int, samples: int) -> NDArray[np.float64]:
    seconds = np.arange(samples) / LINE_SAMPLE_RATE
    pitch = 440.0 * 2 ** ((midi - 69) / 12)
    tone = np.sin(2 * np.pi * pitch * seconds) + 0.2 * np.sin(4 * np.pi * pitch * seconds)
    return tone * np.minimum(1.0, seconds / 0.02) * np.exp(-seconds * 2.2)
