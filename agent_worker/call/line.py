"""The caller's side of one call: a `Line` rings, is picked up, carries audio both ways, and closes.

A phone call over LiveKit is one kind of line (`room_line`), a simulated caller another; everything else in this
package knows only this class.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from livekit import rtc
from livekit.agents.voice import io

from agent_worker.call.operators import Operators
from agent_worker.call.playout import Playout
from agent_worker.domain.call import CallOffer, DisconnectionReason
from agent_worker.errors import CallError

T = TypeVar("T")

LINE_SAMPLE_RATE = 16_000
"""Hz, both ways. A phone line carries 8 kHz, recognisers and the voice detector take 16 kHz: nothing is resampled."""

MAX_QUEUED_FRAMES = 500
"""Caller frames held for a session that does not read (10 s of 20 ms frames); then the oldest are dropped."""

MOST_LATE_FRAMES = 3
"""Of a live voice that may wait for a busy event loop."""

DIGITS = "0123456789*#ABCD"
"""Keys of a telephone; the place of each is its code (RFC 4733)."""

AudioTap = Callable[[rtc.AudioFrame, float], None]
"""Called with each frame and the monotonic time (s) at which it is heard on the line."""


class Audible(Protocol):
    """Somebody who can be heard on a call."""

    def tap_voice(self, tap: AudioTap) -> None:
        """Have every frame of their voice handed to `tap`."""

    def untap_voice(self, tap: AudioTap) -> None:
        """Hand `tap` no more frames."""


Command = Callable[[str], Awaitable[str]]
"""Takes what was sent and returns the answer."""


@dataclass(frozen=True)
class LineClosed:
    """Why a line closed.

    Attributes:
        sip_status_code, sip_status: the bridge's word on it, where there is one.
    """

    reason: DisconnectionReason
    failure_cause: str | None = None
    sip_status_code: int | None = None
    sip_status: str | None = None


class LineAudioInput(io.AudioInput):
    """The caller's audio as the session reads it; while detached (on hold) frames are dropped, not kept."""

    def __init__(self) -> None:
        super().__init__(label="line")
        self._frames: deque[rtc.AudioFrame] = deque(maxlen=MAX_QUEUED_FRAMES)
        self._arrived = asyncio.Event()
        self._attached = True
        self._closed = False

    def push(self, frame: rtc.AudioFrame) -> None:
        """Hand over one frame."""
        if self._attached:
            self._frames.append(frame)
            self._arrived.set()

    def close(self) -> None:
        """End the stream; a reader gets what is queued, then the end."""
        self._closed = True
        self._arrived.set()

    async def __anext__(self) -> rtc.AudioFrame:
        while not self._frames:
            if self._closed:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._frames.popleft()

    def on_attached(self) -> None:
        """The session listens."""
        self._attached = True

    def on_detached(self) -> None:
        """The session does not listen; what it has not read is dropped."""
        self._attached = False
        self._frames.clear()


class Leg(ABC):
    """One person on a phone, and our voice towards them.

    Attributes:
        room_name: the room the leg is in.
        audio_input: the person, for a session.
        playout: a session's voice on its way to the person.
        closed: done once the leg is down, whoever hung up.
    """

    room_name: str

    def __init__(self) -> None:
        self.audio_input = LineAudioInput()
        self.playout = Playout(LINE_SAMPLE_RATE, self._send, self._discard)
        self.closed: asyncio.Future[LineClosed] = asyncio.get_running_loop().create_future()
        self._voice_taps: list[AudioTap] = []
        self._digit_taps: list[Callable[[str], None]] = []

    @abstractmethod
    async def hang_up(self) -> None:
        """Take every leg of the room down; returns when that is done or can no longer be done. Idempotent."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of what the leg holds on this side."""

    @abstractmethod
    async def _send(self, frame: rtc.AudioFrame) -> None:
        """Put one frame of our voice on the leg."""

    @abstractmethod
    def _discard(self) -> None:
        """Forget frames that were sent but not heard yet."""

    async def play(self, frame: rtc.AudioFrame) -> None:
        """Put a frame that comes in real time on the leg, past the playout."""
        await self._send(frame)

    def prepare_relay(self) -> None:  # noqa: B027 - a leg without a network is always ready
        """Begin to make ready for `pass_on`. Idempotent."""

    async def relay_ready(self) -> None:  # noqa: B027
        """Return once the person can hear what is passed on.

        Raises:
            Exception: the network's own, where they never will.
        """

    async def live_voice(self) -> AsyncGenerator[rtc.AudioFrame, None]:
        """Yield the person's voice without delay, in frames that another leg passes on; late ones are dropped."""
        frames: deque[rtc.AudioFrame] = deque(maxlen=MOST_LATE_FRAMES)
        arrived = asyncio.Event()

        def take(frame: rtc.AudioFrame, _heard_at: float) -> None:
            frames.append(frame)
            arrived.set()

        self.tap_voice(take)
        try:
            while True:
                await arrived.wait()
                arrived.clear()
                while frames:
                    yield frames.popleft()
        finally:
            self.untap_voice(take)

    async def pass_on(self, frame: rtc.AudioFrame) -> None:
        """Put a frame of another leg's `live_voice` on this one at once."""
        await self.play(frame)

    def tap_voice(self, tap: AudioTap) -> None:
        """Have every frame of the person's voice handed to `tap`, also while no session listens."""
        self._voice_taps.append(tap)

    @abstractmethod
    async def send_digit(self, digit: str) -> None:
        """Press a key towards the person."""

    def tap_digits(self, tap: Callable[[str], None]) -> None:
        """Have every key the person presses handed to `tap`."""
        self._digit_taps.append(tap)

    def untap_digits(self, tap: Callable[[str], None]) -> None:
        """Hand `tap` no more keys."""
        self._digit_taps.remove(tap)

    def _pressed(self, digit: str) -> None:
        for tap in tuple(self._digit_taps):
            tap(digit)

    def untap_voice(self, tap: AudioTap) -> None:
        """Hand `tap` no more frames."""
        self._voice_taps.remove(tap)

    def _hear(self, frame: rtc.AudioFrame) -> None:
        now = time.monotonic()
        for tap in tuple(self._voice_taps):
            tap(frame, now)
        self.audio_input.push(frame)

    def _close(self, closed: LineClosed) -> None:
        if not self.closed.done():
            self.closed.set_result(closed)
        self.audio_input.close()


class Line(Leg):
    """The caller's side of one call.

    Attributes:
        call_id: the call's id, a UUID.
        picked_up: whether the caller can hear us.
        job_id: LiveKit's job this is, where it is one; by it the call is found in its room.
        commands: what is answered to those who command calls, by name.
        operators: those who have joined from a browser; the caller hears whoever of them speaks.
    """

    job_id: str | None = None

    def __init__(self, call_id: str) -> None:
        super().__init__()
        self.call_id = call_id
        self.picked_up = False
        self.commands: Mapping[str, Command] = {}
        self.operators = Operators()

    @abstractmethod
    async def ring(self) -> CallOffer:
        """Wait until it is known who calls whom; the caller hears ringing meanwhile.

        Raises:
            CallError: nobody is on this line, or it is not a phone call.
        """

    @abstractmethod
    async def pick_up(self) -> None:
        """Answer: from here on the caller hears us and we hear the caller. Returns when both are true.

        Raises:
            CallError: the caller was gone before.
        """

    async def unless_closed(self, work: Awaitable[T]) -> T:
        """Wait for something while it rings.

        Raises:
            CallError: the caller gave up first.
        """
        task = asyncio.ensure_future(work)
        either: set[asyncio.Future[Any]] = {task, self.closed}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        if self.closed.done():
            raise CallError(
                "cancelled",
                "The caller gave up while it rang.",
                disconnection_reason=DisconnectionReason.CANCELLED,
            )
        return task.result()

    def take_commands(self, commands: Mapping[str, Command]) -> None:
        """Answer commands from now on."""
        self.commands = commands
