"""Records both legs of a call: Ogg Opus, stereo, the caller left and everybody on our side right.

It listens to the line, not to the session, so it goes on through hold and transfer, and it writes as the call goes,
so that a killed process leaves a file that plays up to its last second.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import av
import numpy as np
from livekit import rtc
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
BIT_RATE = 32_000
FRAME_SAMPLES = SAMPLE_RATE // 50
"""What Opus takes at a time, 20 ms. It is given whole frames only: a remainder of under 1 ms aborts the process."""

FLUSH_SECONDS = 1.0
SETTLE_SECONDS = 0.3
"""How long a moment stays open for frames that arrive late, before it is encoded."""

JITTER_SAMPLES = SAMPLE_RATE * 12 // 100
"""Frames this far from where the last one ended still follow it without a gap: 120 ms."""

Samples = NDArray[np.int16]


class _Channel:
    """One side of the call as samples on the recording's clock.

    Frames that a busy process hands over late come all at once: the first one leaves a gap behind it, and those after
    it prove that it belongs earlier.
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[int, Samples]] = []
        self._next = 0
        self._taken = 0
        self._run = 0  # where what has come without a gap begins, and how long the silence before it is
        self._gap = 0

    def place(self, samples: Samples, position: int) -> None:
        ahead = self._next - position
        if ahead > JITTER_SAMPLES:
            self._move_back(ahead)
        elif -ahead > JITTER_SAMPLES:
            self._run, self._gap, self._next = position, -ahead, position
        self._chunks.append((self._next, samples))
        self._next += len(samples)

    def _move_back(self, ahead: int) -> None:
        shift = max(0, min(ahead, self._gap, self._run - self._taken))
        self._chunks = [
            (position - shift if position >= self._run else position, samples) for position, samples in self._chunks
        ]
        self._run, self._gap, self._next = self._run - shift, self._gap - shift, self._next - shift

    def take(self, start: int, end: int) -> Samples:
        """Return the samples of [start, end), silence where there are none, and forget them."""
        out = np.zeros(end - start, dtype=np.int16)
        kept: list[tuple[int, Samples]] = []
        for position, samples in self._chunks:
            low, high = max(position, start), min(position + len(samples), end)
            if low < high:
                out[low - start : high - start] = samples[low - position : high - position]
            if position + len(samples) > end:
                kept.append((position, samples))
        self._chunks = kept
        self._taken = end
        return out


class Recording:
    """Writes one call's audio to `path` while it goes on.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(
            str(path), "w", format="ogg", options={"page_duration": "500000", "flush_packets": "1"}
        )
        self._stream = self._container.add_stream("libopus", rate=SAMPLE_RATE)
        self._stream.layout = "stereo"
        self._stream.bit_rate = BIT_RATE
        self._stream.options = {"compression_level": "2", "application": "voip"}
        self._started = time.monotonic()
        self._encoder = threading.Lock()
        self._encoded = 0
        self._caller, self._agent = _Channel(), _Channel()
        self._beside: dict[str, _Channel] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def duration_ms(self) -> int:
        """Length of what has been written, ms."""
        return self._encoded * 1000 // SAMPLE_RATE

    def hear_caller(self, frame: rtc.AudioFrame, heard_at: float) -> None:
        """Take a frame of the caller, heard at this monotonic time (s)."""
        self._place(self._caller, frame, heard_at - frame.duration)

    def hear_agent(self, frame: rtc.AudioFrame, heard_at: float) -> None:
        """Take a frame of ours, whose first sample is heard at this monotonic time (s)."""
        self._place(self._agent, frame, heard_at)

    def hear_beside(self, who: str, frame: rtc.AudioFrame, heard_at: float) -> None:
        """Take a frame of somebody who speaks on our side beside the agent, heard at this monotonic time (s)."""
        self._place(self._beside.setdefault(who, _Channel()), frame, heard_at - frame.duration)

    def start(self) -> None:
        """Begin to write, in the background."""
        self._task = asyncio.create_task(self._run(), name="recording")

    async def finish(self) -> int:
        """Write what is left and close the file; returns its length in ms."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._finish, time.monotonic())
        return self.duration_ms

    async def discard(self) -> None:
        """Close the file of a call that nobody answered, and delete it."""
        await self.finish()
        await asyncio.to_thread(self.path.unlink, missing_ok=True)

    def _place(self, channel: _Channel, frame: rtc.AudioFrame, at: float) -> None:
        samples = np.frombuffer(frame.data, dtype=np.int16)
        channel.place(samples, round((at - self._started) * SAMPLE_RATE))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            pcm = self._take(time.monotonic() - SETTLE_SECONDS)
            # shielded: a file half way through a page is no file
            await asyncio.shield(asyncio.to_thread(self._encode, pcm))

    def _take(self, until: float) -> Samples:
        frames = round((until - self._started) * SAMPLE_RATE / FRAME_SAMPLES)
        end = max(self._encoded, frames * FRAME_SAMPLES)
        stereo = np.empty((end - self._encoded) * 2, dtype=np.int16)
        stereo[0::2] = self._caller.take(self._encoded, end)
        ours = [channel.take(self._encoded, end) for channel in (self._agent, *list(self._beside.values()))]
        stereo[1::2] = ours[0] if len(ours) == 1 else np.clip(np.sum(ours, axis=0), -32_768, 32_767)
        self._encoded = end
        return stereo

    def _encode(self, stereo: Samples) -> None:
        with self._encoder:
            self._mux(stereo)

    def _mux(self, stereo: Samples) -> None:
        if not len(stereo):
            return
        frame = av.AudioFrame.from_ndarray(stereo.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _finish(self, until: float) -> None:
        # a piece may still be in the encoder's hands, in another thread
        with self._encoder:
            self._mux(self._take(until))
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
