"""A call from the bridge to itself, through trunk, rule and worker, with an ear at this end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import aiohttp
import numpy as np
from livekit import api, rtc

from agent_worker.settings import Settings
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.rooms import delete_room
from agent_worker.testing.audio import Pcm, dbfs, speech_segments

RATE = 16_000
RING_SECONDS = 20
LISTEN_SECONDS = 12.0
"""How long a call that was answered may stay silent."""

ENOUGH_SECONDS = 8.0
PAUSE_SECONDS = 1.0
POLL_SECONDS = 0.3
GONE_SECONDS = 5.0


@dataclass(frozen=True)
class LoopbackOrder:
    """What is dialled.

    Attributes:
        number: the number of ours.
        address: host:port of the bridge.
        caller: user part of the From header.
        media_encryption: a value of `api.SIPMediaEncryption`.
    """

    number: str
    address: str
    caller: str
    transport: int
    username: str = ""
    password: str = field(default="", repr=False)
    media_encryption: int = 0


@dataclass
class LoopbackCall:
    """What became of it; moments are seconds since the INVITE, None where they did not come.

    Attributes:
        reached_room: a participant of this call was in a room: trunk and rule matched.
        failure: LiveKit's code and SIP status where the call was not answered.
        audio: what was heard, from the answer on.
    """

    ringing: float | None = None
    reached_room: float | None = None
    agent_joined: float | None = None
    answered: float | None = None
    hung_up: float | None = None
    given_up: float | None = None
    failure: str = ""
    sip_status: int = 0
    inbound_room: str = ""
    audio: Pcm = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    audio_from: float | None = None

    @property
    def speech(self) -> list[tuple[float, float]]:
        """Stretches of speech in what was heard, seconds from its first sample."""
        return [(segment.start, segment.end) for segment in speech_segments(self.audio, RATE)]

    @property
    def first_sound(self) -> float | None:
        """Seconds from the answer to the first sound."""
        if not self.speech or self.audio_from is None or self.answered is None:
            return None
        return max(0.0, self.audio_from + self.speech[0][0] - self.answered)

    @property
    def speech_seconds(self) -> float:
        """How much of what was heard is not silence, s."""
        return sum(end - start for start, end in self.speech)

    @property
    def level_dbfs(self) -> float:
        """Level of the speech, dBFS."""
        loud = [self.audio[int(start * RATE) : int(end * RATE)] for start, end in self.speech]
        return dbfs(np.concatenate(loud)) if loud else -120.0


async def place_call(settings: Settings, order: LoopbackOrder) -> LoopbackCall:
    """Place the call, listen, hang up; whatever happens, nothing of it is left.

    Raises:
        livekit.api.TwirpError: LiveKit gives no room.
        livekit.rtc.ConnectError: the room cannot be joined.
    """
    name = f"doctor-call-{secrets.token_hex(6)}"
    call = LoopbackCall()
    async with livekit_client(settings) as client:
        await client.room.create_room(api.CreateRoomRequest(name=name, empty_timeout=30, departure_timeout=1))
        try:
            async with _ear(settings, name) as ear:
                await _run(client, name, order, call, ear)
        finally:
            await asyncio.shield(_clear_up(client, name, order, call))
    return call


class _Ear:
    """Our side of the line: what the phone of a caller would tell and hear."""

    def __init__(self) -> None:
        self.status = ""
        self.sip_call_id = ""
        self.moments: dict[str, float] = {}
        self.blocks: list[Pcm] = []
        self.first_block: float | None = None
        self._listening: set[asyncio.Task[None]] = set()

    def attach(self, room: rtc.Room) -> None:
        """Follow what happens in the room."""
        room.on("participant_connected", self._on_participant)
        room.on("participant_attributes_changed", lambda _changed, participant: self._on_participant(participant))
        room.on("participant_disconnected", lambda _participant: self.moments.setdefault("hangup", time.monotonic()))
        room.on("track_subscribed", self._on_track)

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        self.sip_call_id = participant.attributes.get("sip.callID", self.sip_call_id)
        self.status = participant.attributes.get("sip.callStatus", self.status)
        self.moments.setdefault(self.status, time.monotonic())

    def _on_track(self, track: rtc.Track, *_rest: Any) -> None:
        task = asyncio.create_task(self._listen(track))
        self._listening.add(task)
        task.add_done_callback(self._listening.discard)

    async def _listen(self, track: rtc.Track) -> None:
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            if "active" in self.moments:  # before that it is the bridge's own silence
                self.first_block = self.first_block or time.monotonic()
                self.blocks.append(np.frombuffer(event.frame.data, dtype=np.int16).copy())

    @property
    def audio(self) -> Pcm:
        """What has been heard."""
        return np.concatenate(self.blocks) if self.blocks else np.empty(0, dtype=np.int16)

    async def aclose(self) -> None:
        """Stop listening."""
        for task in list(self._listening):
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


@contextlib.asynccontextmanager
async def _ear(settings: Settings, room_name: str) -> AsyncIterator[_Ear]:
    secret = settings.livekit_api_secret.get_secret_value()
    grants = api.VideoGrants(room_join=True, room=room_name, can_publish=False)
    token = api.AccessToken(settings.livekit_api_key, secret).with_identity("doctor").with_grants(grants)
    room, ear = rtc.Room(), _Ear()
    ear.attach(room)
    await room.connect(settings.livekit_url, token.with_ttl(timedelta(minutes=5)).to_jwt())
    try:
        yield ear
    finally:
        await ear.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                await asyncio.shield(room.disconnect())


async def _run(client: api.LiveKitAPI, room: str, order: LoopbackOrder, call: LoopbackCall, ear: _Ear) -> None:
    started = time.monotonic()
    watching = asyncio.create_task(_watch(client, room, order, call, ear, started))
    try:
        await _dial(client, room, order, call)
        if not call.failure:
            ear.moments.setdefault("active", time.monotonic())
            await _listen(ear)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        ended = time.monotonic() - started
        for status, attribute in (("ringing", "ringing"), ("active", "answered"), ("hangup", "hung_up")):
            at = ear.moments.get(status)
            setattr(call, attribute, at - started if at is not None else None)
        call.given_up = ended if call.failure else None
        call.audio = ear.audio
        call.audio_from = ear.first_block - started if ear.first_block is not None else None


async def _dial(client: api.LiveKitAPI, room: str, order: LoopbackOrder, call: LoopbackCall) -> None:
    request = api.CreateSIPParticipantRequest(
        trunk=api.SIPOutboundConfig(
            hostname=order.address,
            transport=order.transport,  # type: ignore[arg-type]
            auth_username=order.username,
            auth_password=order.password,
        ),
        sip_call_to=order.number,
        sip_number=order.caller,
        room_name=room,
        participant_identity="bridge",
        media_encryption=order.media_encryption,  # type: ignore[arg-type]
        wait_until_answered=True,
    )
    request.ringing_timeout.FromSeconds(RING_SECONDS)
    try:
        await client.sip.create_sip_participant(request, timeout=RING_SECONDS + 5)
    except api.SipCallError as error:
        call.failure, call.sip_status = str(error.code), int(error.sip_status_code or 0)
    except api.TwirpError as error:
        call.failure = read_failure(str(error.code), error.message)
    except (aiohttp.ClientError, TimeoutError) as error:
        call.failure = type(error).__name__


def read_failure(code: str, message: str) -> str:
    """Return what a failure without a SIP status is: `no_bridge`, `password_refused`, or LiveKit's code."""
    if "no response from servers" in message:
        return "no_bridge"
    # the bridge gives up on a second challenge, and on a first one where it has nothing to answer it with
    return "password_refused" if re.search(r"\bauth\b|no username or password", message) else code


async def _listen(ear: _Ear) -> None:
    """Listen until a sentence has ended, the line is gone, or nothing comes."""
    deadline = time.monotonic() + LISTEN_SECONDS
    while time.monotonic() < deadline and "hangup" not in ear.moments:
        await asyncio.sleep(0.2)
        heard = ear.audio
        segments = speech_segments(heard, RATE)
        if segments and (heard.size / RATE - segments[-1].end > PAUSE_SECONDS or heard.size / RATE > ENOUGH_SECONDS):
            return


async def _watch(
    client: api.LiveKitAPI, ours: str, order: LoopbackOrder, call: LoopbackCall, ear: _Ear, started: float
) -> None:
    """Find the other end of the call among the rooms made since, and see who joins it."""
    known = {room.name for room in (await client.room.list_rooms(api.ListRoomsRequest())).rooms} | {ours}
    while True:
        await asyncio.sleep(POLL_SECONDS)
        with contextlib.suppress(api.TwirpError, aiohttp.ClientError, TimeoutError):
            rooms = (await client.room.list_rooms(api.ListRoomsRequest())).rooms
            for room in rooms:
                if (room.name in known and room.name != call.inbound_room) or (
                    call.inbound_room not in ("", room.name)
                ):
                    continue
                listing = await client.room.list_participants(api.ListParticipantsRequest(room=room.name))
                if any(_is_ours(participant, order, ear.sip_call_id) for participant in listing.participants):
                    call.inbound_room = room.name
                    call.reached_room = call.reached_room or time.monotonic() - started
                if room.name == call.inbound_room and any(
                    participant.kind == api.ParticipantInfo.Kind.AGENT for participant in listing.participants
                ):
                    call.agent_joined = call.agent_joined or time.monotonic() - started


def _is_ours(participant: api.ParticipantInfo, order: LoopbackOrder, our_leg: str) -> bool:
    """Return whether this is the other end: its remote tag is our leg's id; a hidden number says nothing."""
    told = participant.attributes
    return (bool(our_leg) and told.get("sip.callTag") == our_leg) or told.get("sip.phoneNumber") == order.caller


async def _clear_up(client: api.LiveKitAPI, ours: str, order: LoopbackOrder, call: LoopbackCall) -> None:
    """Delete our room, which hangs up; the other one goes by itself, or is deleted where nobody else is in it."""
    await delete_room(client, ours)
    if not call.inbound_room:
        return
    deadline = time.monotonic() + GONE_SECONDS
    with contextlib.suppress(api.TwirpError, aiohttp.ClientError, TimeoutError):
        while time.monotonic() < deadline:
            if not (await client.room.list_rooms(api.ListRoomsRequest(names=[call.inbound_room]))).rooms:
                return
            await asyncio.sleep(POLL_SECONDS)
        listing = await client.room.list_participants(api.ListParticipantsRequest(room=call.inbound_room))
        others = [who for who in listing.participants if who.kind == api.ParticipantInfo.Kind.SIP]
        if all(_is_ours(who, order, "") for who in others):
            await delete_room(client, call.inbound_room)
