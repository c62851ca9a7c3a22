"""A line without a phone network: real audio both ways, in real time, 20 ms a frame."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import Any

import numpy as np
from livekit import rtc
from numpy.typing import NDArray

from agent_worker.call.line import LINE_SAMPLE_RATE, Line, LineClosed
from agent_worker.domain.call import CallOffer, Direction, DisconnectionReason, new_call_id
from agent_worker.errors import CallError
from agent_worker.simulation.ear import Ear

FRAME_SAMPLES = LINE_SAMPLE_RATE // 50
FRAME_SECONDS = FRAME_SAMPLES / LINE_SAMPLE_RATE
NOISE_SIGMA = 8.0
"""Loudness of an open microphone, of 32,767; without it the end-of-turn model hears a dead line, no pause."""

CALLER_NUMBER = "+12015550177"


class SimulatedLine(Line):
    """The caller's side of a simulated inbound call.

    Args:
        dialed_number: E.164; decides which agent answers, as on a real call.
        job_metadata: what a dispatch would have sent along.
        seed: of the noise on the caller's side.

    Attributes:
        ear: what the caller hears, of the agent and of whoever they are put through to.
        keys: pressed towards the caller.
        answered: set when the agent picks up.
    """

    def __init__(
        self,
        *,
        dialed_number: str,
        caller_number: str | None = CALLER_NUMBER,
        job_metadata: dict[str, object] | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(new_call_id())
        self.room_name = f"simulated-{self.call_id[:8]}"
        self.ear = Ear()
        self.keys = ""
        self.answered = asyncio.Event()
        self._offer = CallOffer(
            call_id=self.call_id,
            direction=Direction.INBOUND,
            room_name=self.room_name,
            caller_number=caller_number,
            dialed_number=dialed_number,
            caller_identity="simulated-caller",
            attributes={"sip.callStatus": "ringing"},
            job_metadata=job_metadata or {},
        )
        self._noise = np.random.default_rng(seed)
        self._mouth: deque[NDArray[np.int16]] = deque()
        self._silent = asyncio.Event()
        self._silent.set()
        self._microphone: asyncio.Task[None] | None = None
        self.playout.tap(self.ear.hear)

    async def ring(self) -> CallOffer:
        """Return who calls whom; a simulated caller never keeps us waiting."""
        return self._offer

    async def pick_up(self) -> None:
        """Answer: the microphone opens and the agent is heard."""
        if self.closed.done():
            raise CallError(
                "cancelled",
                "The caller gave up while it rang.",
                disconnection_reason=DisconnectionReason.CANCELLED,
            )
        self.picked_up = True
        self.playout.start()
        self._microphone = asyncio.create_task(self._listen(), name="simulated_microphone")
        self.answered.set()

    async def hang_up(self) -> None:
        """Take the line down from the agent's side."""
        self._close(LineClosed(DisconnectionReason.AGENT_HANGUP, None, 200, "OK"))

    async def aclose(self) -> None:
        """Stop the audio of both sides."""
        await self.playout.aclose()
        if self._microphone is not None:
            self._microphone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._microphone

    @property
    def mouth_open(self) -> bool:
        """Whether the caller is speaking right now."""
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
        """Return when the event is set or the line is closed."""
        waiting: asyncio.Future[Any] = asyncio.ensure_future(event.wait())
        closed: asyncio.Future[Any] = self.closed
        try:
            await asyncio.wait({waiting, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    def caller_hangs_up(self) -> None:
        """Take the line down from the caller's side; while it rings, that is giving up."""
        if self.picked_up:
            self._close(LineClosed(DisconnectionReason.USER_HANGUP, None, 200, "OK"))
        else:
            self._close(LineClosed(DisconnectionReason.CANCELLED, "cancelled", 487, "Request Terminated"))

    async def pass_on(self, frame: rtc.AudioFrame) -> None:
        """Have the caller hear it now."""
        self.ear.hear(frame, time.monotonic())

    async def send_digit(self, digit: str) -> None:
        """Note the key: it changes nothing for a simulated caller."""
        self.keys += digit

    def caller_presses(self, digit: str) -> None:
        """Press a key on the caller's phone."""
        self._pressed(digit)

    async def _send(self, frame: rtc.AudioFrame) -> None:
        """Nothing to do: the caller's ear is on the playout, which says when each frame is heard."""

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
