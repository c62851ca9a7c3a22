"""Somebody on a simulated phone: what they hear, and what they say, in real time, 20 ms a frame."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from agent_worker.call.line import LINE_SAMPLE_RATE, Leg
from agent_worker.simulation.ear import Ear

FRAME_SAMPLES = LINE_SAMPLE_RATE // 50
FRAME_SECONDS = FRAME_SAMPLES / LINE_SAMPLE_RATE
NOISE_SIGMA = 8.0
"""Loudness of an open microphone, of 32,767; without it the end-of-turn model hears a dead line, no pause."""


class SimulatedLeg(Leg):
    """A phone without a network; whoever derives from it equips it once the leg itself is there.

    Attributes:
        ear: what is heard of the agent, and of whoever is passed on.
        keys: pressed towards them.
        passed_on: set once somebody else's voice, or music, is heard.
    """

    def _equip(self, seed: int) -> None:
        """Make ear and mouth.

        Args:
            seed: of the noise on this side.
        """
        self.ear = Ear()
        self.keys = ""
        self.passed_on = asyncio.Event()
        self._noise = np.random.default_rng(seed)
        self._mouth: deque[NDArray[np.int16]] = deque()
        self._silent = asyncio.Event()
        self._silent.set()
        self._microphone: asyncio.Task[None] | None = None
        self.playout.tap(self.ear.hear)

    def open_microphone(self) -> None:
        """Be heard, and hear the agent."""
        self.playout.start()
        self._microphone = asyncio.create_task(self._listen(), name="simulated_microphone")

    async def aclose(self) -> None:
        """Stop the audio of both sides."""
        await self.playout.aclose()
        if self._microphone is not None:
            self._microphone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._microphone

    @property
    def mouth_open(self) -> bool:
        """Whether they are speaking right now."""
        return bool(self._mouth)

    async def speak(self, pcm: bytes) -> tuple[float, float]:
        """Say 16-bit mono PCM at 16 kHz, in real time; returns when it was said.

        Returns:
            Monotonic times (s) of its first sample and of its end.
        """
        samples = np.frombuffer(pcm, dtype=np.int16)
        padded = np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))
        self._silent.clear()
        started = time.monotonic()
        self._mouth.extend(np.split(padded, len(padded) // FRAME_SAMPLES))
        await self.until(self._silent)
        return started, time.monotonic()

    async def until(self, event: asyncio.Event) -> None:
        """Return when the event is set or the leg is down."""
        waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
        closed: asyncio.Future[Any] = self.closed
        try:
            await asyncio.wait({waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def play(self, frame: rtc.AudioFrame) -> None:
        """Have them hear a frame that is not the agent's."""
        self.ear.hear(frame, time.monotonic())
        self.passed_on.set()

    async def send_digit(self, digit: str) -> None:
        """Note the key: it changes nothing on a simulated phone."""
        self.keys += digit

    async def _send(self, frame: rtc.AudioFrame) -> None:
        """Nothing to do: the ear is on the playout, which says when each frame is heard."""

    def _discard(self) -> None:
        self.ear.forget_after(time.monotonic())

    async def _listen(self) -> None:
        due = time.monotonic()
        while not self.closed.done():
            self._hear(self._next_frame())
            due += FRAME_SECONDS
            await asyncio.sleep(due - time.monotonic())

    def _next_frame(self) -> rtc.AudioFrame:
        noise = self._noise.normal(0.0, NOISE_SIGMA, FRAME_SAMPLES)
        if self._mouth:
            noise += self._mouth.popleft()
            if not self._mouth:
                self._silent.set()
        samples = np.clip(noise, -32_768, 32_767).astype(np.int16)
        return rtc.AudioFrame(samples.tobytes(), LINE_SAMPLE_RATE, 1, FRAME_SAMPLES)
