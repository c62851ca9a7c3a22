"""Tells a line's `Operators` what browsers do in its room."""

from __future__ import annotations

import asyncio

from livekit import rtc

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.operators import Operators
from agent_worker.call.playout import FRAME_MS
from agent_worker.telephony.rooms import is_web


class RoomOperators:
    """Follows a room; whoever has no identity of `web-join`'s is no operator, whatever they publish."""

    def __init__(self, room: rtc.Room, operators: Operators) -> None:
        self._room = room
        self._operators = operators
        self._listening: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Begin, with those who are there; once the call is picked up, as some bridges answer when anybody listens."""
        self._room.on("participant_connected", self._look)
        self._room.on("participant_disconnected", self._gone)
        self._room.on("track_published", self._on_publication)
        self._room.on("track_unpublished", self._on_publication)
        self._room.on("track_muted", self._on_mute)
        self._room.on("track_unmuted", self._on_mute)
        self._room.on("track_subscribed", self._on_track)
        for participant in self._room.remote_participants.values():
            self._look(participant)

    async def aclose(self) -> None:
        """Listen to nobody any more."""
        tasks = list(self._listening.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _look(self, participant: rtc.Participant) -> None:
        """Take the participant as they stand."""
        if not isinstance(participant, rtc.RemoteParticipant) or not is_web(participant.identity):
            return
        self._operators.joined(participant.identity)
        if self._operators.find(participant.identity) is None:
            return
        audio = [it for it in participant.track_publications.values() if it.kind == rtc.TrackKind.KIND_AUDIO]
        for publication in audio:
            if not publication.subscribed:
                publication.set_subscribed(True)
        self._operators.microphone(participant.identity, any(not publication.muted for publication in audio))

    def _gone(self, participant: rtc.RemoteParticipant) -> None:
        if task := self._listening.pop(participant.identity, None):
            task.cancel()
        self._operators.left(participant.identity)

    def _on_publication(self, _publication: object, participant: rtc.RemoteParticipant) -> None:
        self._look(participant)

    def _on_mute(self, participant: rtc.Participant, _publication: object) -> None:
        self._look(participant)

    def _on_track(self, track: rtc.Track, _publication: object, participant: rtc.RemoteParticipant) -> None:
        if track.kind != rtc.TrackKind.KIND_AUDIO or self._operators.find(participant.identity) is None:
            return
        if before := self._listening.pop(participant.identity, None):
            before.cancel()
        listening = self._listen(track, participant.identity)
        self._listening[participant.identity] = asyncio.create_task(listening, name="operator_audio")

    async def _listen(self, track: rtc.Track, identity: str) -> None:
        stream = rtc.AudioStream(track, sample_rate=LINE_SAMPLE_RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                if operator := self._operators.find(identity):
                    operator.hear(event.frame)
        finally:
            await stream.aclose()
