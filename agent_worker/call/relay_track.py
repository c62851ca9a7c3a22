"""The shortest way through this process for a voice that is passed on from one leg to another.

Both ends work at the codec's own rate in the media engine's own frames, and nothing is queued: against the tracks of a
conversation (16 kHz, 20 ms, a queue) that is a third of the delay less, and none of it can grow.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from livekit import rtc

RELAY_RATE = 48_000
"""Hz; what Opus is decoded to and encoded from, so that nothing is resampled."""

FRAME_MS = 10
"""The media engine takes no other length without a queue."""

FRAME_SAMPLES = RELAY_RATE * FRAME_MS // 1000

MOST_FRAMES = 6
"""That may wait for a busy event loop; of more, the oldest are dropped rather than heard late."""

READY_SECONDS = 5.0


class RelayTrack:
    """Our track in a room that carries somebody else's voice."""

    def __init__(self, room: rtc.Room) -> None:
        self._room = room
        self._source = rtc.AudioSource(RELAY_RATE, 1, queue_size_ms=0)
        self._publishing: asyncio.Task[None] | None = None

    def prepare(self) -> None:
        """Begin to publish it, so that it is there when it is needed; once, unless that has failed."""
        failed = self._publishing is not None and self._publishing.done() and self._publishing.exception()
        if self._publishing is None or failed:
            self._publishing = asyncio.create_task(self._publish(), name="publish_relay_track")

    async def ready(self) -> None:
        """Return once somebody listens to it.

        Raises:
            TimeoutError, rtc.PublishTrackError: it could not be published.
        """
        self.prepare()
        assert self._publishing is not None
        await asyncio.shield(self._publishing)

    async def send(self, frame: rtc.AudioFrame) -> None:
        """Have 10 ms at 48 kHz heard now."""
        await self._source.capture_frame(frame)

    async def aclose(self) -> None:
        """Let go of it."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
        await self._source.aclose()

    async def _publish(self) -> None:
        track = rtc.LocalAudioTrack.create_audio_track("relay", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=False, dtx=False)
        async with asyncio.timeout(READY_SECONDS):
            published = await self._room.local_participant.publish_track(track, options)
            heard = asyncio.ensure_future(published.wait_for_subscription())
            try:
                # the server shows a track to others once something comes
                while not heard.done():
                    await self.send(rtc.AudioFrame.create(RELAY_RATE, 1, FRAME_SAMPLES))
                    await asyncio.wait({heard}, timeout=FRAME_MS / 1000)
            finally:
                heard.cancel()


class LiveVoice:
    """Somebody's voice as it comes, for as long as anybody reads it."""

    def __init__(self) -> None:
        self._track: rtc.Track | None = None
        self._changed = asyncio.Event()

    def is_on(self, track: rtc.Track) -> None:
        """Take their voice from this track from now on."""
        self._track = track
        self._changed.set()

    async def frames(self) -> AsyncGenerator[rtc.AudioFrame, None]:
        """Yield frames as `RelayTrack` takes them, without end; those nobody fetches in time are dropped."""
        read: rtc.Track | None = None
        while True:
            while self._track is None or self._track is read:
                self._changed.clear()
                await self._changed.wait()
            read = self._track
            stream = rtc.AudioStream(
                read, sample_rate=RELAY_RATE, num_channels=1, frame_size_ms=FRAME_MS, capacity=MOST_FRAMES
            )
            async with contextlib.aclosing(stream):
                async for event in stream:
                    yield event.frame
