"""Somebody who joins a call from a browser, as LiveKit's client in Python; as a program, one that can be killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from livekit import api, rtc

from agent_worker.testing.audio import Pcm, tone

RATE = 48_000
FRAME = RATE // 50
OPERATOR_HZ = 1_500.0
MOST_SECONDS = 60


class Browser:
    """One participant: hears everybody in the room, each apart, and speaks where its microphone is open."""

    def __init__(self) -> None:
        self.room = rtc.Room()
        self.room.on("track_subscribed", self._on_track)
        self._source = rtc.AudioSource(RATE, 1)
        self._heard: dict[str, list[Pcm]] = {}
        self._listening: set[asyncio.Task[None]] = set()
        self._publication: rtc.LocalTrackPublication | None = None

    async def join(self, url: str, token: str) -> None:
        """Join, with no microphone."""
        await self.room.connect(url, token)

    async def open_microphone(self) -> None:
        """Publish a microphone, or open the one there is."""
        if self._publication is not None:
            assert isinstance(self._publication.track, rtc.LocalAudioTrack)
            self._publication.track.unmute()
            return
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._publication = await self.room.local_participant.publish_track(track, options)

    def mute(self) -> None:
        """Close the microphone; it stays there."""
        assert self._publication is not None
        assert isinstance(self._publication.track, rtc.LocalAudioTrack)
        self._publication.track.mute()

    async def unpublish(self) -> None:
        """Take the microphone away."""
        assert self._publication is not None
        await self.room.local_participant.unpublish_track(self._publication.sid)
        self._publication = None

    async def say(self, pcm: Pcm) -> None:
        """Say samples at `RATE` in real time; returns when the last one has left."""
        padded = np.pad(pcm, (0, -len(pcm) % FRAME))
        for frame in np.split(padded, len(padded) // FRAME):
            await self._source.capture_frame(rtc.AudioFrame(frame.tobytes(), RATE, 1, FRAME))
        await self._source.wait_for_playout()

    def heard(self, prefix: str) -> Pcm:
        """Return what was heard of those whose identity begins so, at `RATE`."""
        parts = [part for identity, heard in self._heard.items() if identity.startswith(prefix) for part in heard]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int16)

    async def leave(self) -> None:
        """Say goodbye to the room."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await self.room.disconnect()
        await self._source.aclose()

    def _on_track(self, track: rtc.Track, _publication: object, participant: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._listening.add(asyncio.create_task(self._listen(track, participant.identity)))

    async def _listen(self, track: rtc.Track, identity: str) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        heard = self._heard.setdefault(identity, [])
        try:
            async for event in stream:
                heard.append(np.frombuffer(bytes(event.frame.data), dtype=np.int16))
        finally:
            await stream.aclose()


@asynccontextmanager
async def browser(url: str, token: str) -> AsyncIterator[Browser]:
    """Let somebody join who leaves at the end at the latest."""
    somebody = Browser()
    await somebody.join(url, token)
    try:
        yield somebody
    finally:
        await somebody.leave()


def token_for(key: str, secret: str, room: str, identity: str) -> str:
    """Return a token of an identity that is not web-join's."""
    grants = api.VideoGrants(room_join=True, room=room, can_publish=True, can_subscribe=True)
    return api.AccessToken(key, secret).with_identity(identity).with_grants(grants).to_jwt()


async def _hum(url: str, token: str) -> None:
    async with browser(url, token) as somebody:
        await somebody.open_microphone()
        sys.stdout.write("open\n")
        sys.stdout.flush()
        await somebody.say(tone(OPERATOR_HZ, MOST_SECONDS, RATE))


if __name__ == "__main__":
    asyncio.run(_hum(*sys.argv[1:]))
