"""Plays the agent's voice onto the line in real time, a few frames ahead, and knows at any moment what has been heard.

The session hands over audio faster than real time. Pacing it here, with a short lead, means that an interruption is
silence within `LEAD_SECONDS`, that a recording sees each frame when it is heard, and that the text of an interrupted
sentence can be cut where the voice stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from livekit import rtc
from livekit.agents import utils
from livekit.agents.types import NOT_GIVEN
from livekit.agents.voice import io

from agent_worker.call.gain import amplified

FRAME_MS = 20
LEAD_SECONDS = 0.08
"""How far ahead of being heard a frame is sent: covers a busy event loop's late wake-up, is the delay of a barge-in."""


@dataclass
class _Segment:
    """One stretch of speech, from the first captured frame to the flush."""

    frames: deque[rtc.AudioFrame] = field(default_factory=deque)
    complete: bool = False
    interrupted: bool = False
    sent: float = 0.0
    captured: float = 0.0


class Playout(io.AudioOutput):
    """An audio output of the session that paces frames onto a line.

    Attributes:
        gain_db: dB put on the voice; what does not fit is clipped.
    """

    def __init__(
        self,
        sample_rate: int,
        send: Callable[[rtc.AudioFrame], Awaitable[None]],
        discard: Callable[[], None],
    ) -> None:
        super().__init__(
            label="line",
            capabilities=io.AudioOutputCapabilities(pause=True),
            sample_rate=sample_rate,
        )
        self._send = send
        self._discard = discard
        self._loop = asyncio.get_running_loop()
        self._frame_bytes = utils.audio.AudioByteStream(
            sample_rate, 1, samples_per_channel=sample_rate * FRAME_MS // 1000
        )
        self._segments: deque[_Segment] = deque()
        self._wake = asyncio.Event()
        self._heard_until = 0.0
        self._paused = False
        self._unblocked = asyncio.Event()
        self._pump_task: asyncio.Task[None] | None = None
        self._taps: list[Callable[[rtc.AudioFrame, float], None]] = []
        self.text = SpokenText()
        self._text_heard = ""
        self.gain_db = 0.0

    def tap(self, tap: Callable[[rtc.AudioFrame, float], None]) -> None:
        """Have every sent frame handed to `tap` with the monotonic time (s) at which it is heard."""
        self._taps.append(tap)

    @property
    def speaking(self) -> bool:
        """Whether anything is being heard or about to be."""
        return bool(self._segments) or self._heard_until > self._loop.time()

    @property
    def stalled_seconds(self) -> float:
        """For how long the caller has heard nothing of a sentence that is not over, in s; 0 while all is well."""
        waiting = bool(self._segments) and not self._segments[0].frames and not self._segments[0].complete
        if not waiting or self._paused or self._segments[0].interrupted or not self._heard_until:
            return 0.0
        return max(0.0, self._loop.time() - self._heard_until)

    def text_heard(self) -> str:
        """Return the words of the sentence being spoken, or spoken last, as far as they were heard."""
        if not self._segments:
            return self._text_heard
        segment = self._segments[0]
        unheard = 0.0 if segment.interrupted else max(0.0, self._heard_until - self._loop.time())
        return self.text.heard(max(0.0, segment.sent - unheard), segment.captured)

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Take a frame of speech of any length; never blocks, the pump sets the pace."""
        await super().capture_frame(frame)
        if not self._segments or self._segments[-1].complete:
            self._segments.append(_Segment())
        segment = self._segments[-1]
        if segment.interrupted:
            return
        self._keep(segment, self._frame_bytes.push(amplified(frame, self.gain_db).data))

    def flush(self) -> None:
        """End the segment: what is captured next belongs to another one."""
        super().flush()
        if not self._segments or self._segments[-1].complete:
            return
        segment = self._segments[-1]
        tail = self._frame_bytes.flush()
        if not segment.interrupted:
            self._keep(segment, tail)
        segment.complete = True
        self._wake.set()

    def clear_buffer(self) -> None:
        """Stop at once; what was not heard is dropped and the segment counts as interrupted."""
        self._frame_bytes.clear()
        if not self._segments:
            return
        for segment in self._segments:
            segment.interrupted = True
            segment.frames.clear()
        unheard = max(0.0, self._heard_until - self._loop.time())
        self._segments[0].sent = max(0.0, self._segments[0].sent - unheard)
        self._heard_until = 0.0
        self._discard()
        self._unblocked.set()
        self._wake.set()

    def pause(self) -> None:
        """Hold the voice where it is."""
        super().pause()
        self._paused = True

    def resume(self) -> None:
        """Go on where `pause` stopped."""
        super().resume()
        self._paused = False
        self._unblocked.set()

    def start(self) -> None:
        """Begin to put frames on the line; before, they wait. Idempotent."""
        if self._pump_task is None:
            self._pump_task = asyncio.create_task(self._pump(), name="playout")

    async def aclose(self) -> None:
        """Stop the pump; segments still waiting are reported as interrupted."""
        if self._pump_task is not None:
            self._pump_task.cancel()
            await asyncio.gather(self._pump_task, return_exceptions=True)
        while self._segments:
            segment = self._segments.popleft()
            segment.interrupted = True
            self._report(segment)

    def _keep(self, segment: _Segment, frames: list[rtc.AudioFrame]) -> None:
        segment.frames.extend(frames)
        segment.captured += sum(frame.duration for frame in frames)
        self._wake.set()

    async def _pump(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._segments:
                segment = self._segments[0]
                await self._play(segment)
                if not segment.complete:
                    break  # the synthesiser is slower than speech, or the session flushes an interrupted one next
                if self._segments and self._segments[0] is segment:
                    self._segments.popleft()
                self._report(segment)

    async def _play(self, segment: _Segment) -> None:
        while segment.frames:
            while self._paused and not segment.interrupted:
                self._unblocked.clear()
                await self._unblocked.wait()
            if segment.interrupted:
                return
            frame = segment.frames.popleft()
            heard_at = max(self._loop.time(), self._heard_until)
            if segment.sent == 0.0:
                self.on_playback_started(created_at=time.time())
            self._heard_until = heard_at + frame.duration
            segment.sent += frame.duration
            for tap in self._taps:
                tap(frame, heard_at)
            await self._send(frame)
            await asyncio.sleep(self._heard_until - LEAD_SECONDS - self._loop.time())
        if segment.complete:
            await asyncio.sleep(self._heard_until - self._loop.time())

    def _report(self, segment: _Segment) -> None:
        self._text_heard = self.text.heard(segment.sent, segment.captured) if segment.interrupted else self.text.full
        self.on_playback_finished(
            playback_position=segment.sent,
            interrupted=segment.interrupted,
            synchronized_transcript=self._text_heard if segment.interrupted else None,
        )


class SpokenText(io.TextOutput):
    """The words of the segment being spoken, to be cut where the voice stopped."""

    def __init__(self) -> None:
        super().__init__(label="line", next_in_chain=None)
        self._parts: list[tuple[str, float | None]] = []
        self._ended = False

    @property
    def full(self) -> str:
        """All words of the segment handed over so far."""
        return "".join(part for part, _ in self._parts)

    async def capture_text(self, text: str) -> None:
        """Take some words, with their place in the audio where the synthesiser says it."""
        if self._ended:
            self._parts.clear()
            self._ended = False
        start = getattr(text, "start_time", NOT_GIVEN)
        self._parts.append((str(text), start if isinstance(start, float) else None))

    def flush(self) -> None:
        """The segment's words are complete."""
        self._ended = True

    def heard(self, played: float, captured: float) -> str:
        """Return the words that were spoken within `played` of `captured` seconds of audio."""
        if played <= 0 or not self._parts:
            return ""
        if self._parts[-1][1] is not None:
            return "".join(part for part, start in self._parts if (start or 0.0) < played)
        text = self.full
        cut = int(len(text) * min(1.0, played / captured)) if captured else 0
        if cut >= len(text):
            return text
        return text[: max(0, text.rfind(" ", 0, cut + 1))]
