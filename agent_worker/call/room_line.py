"""A phone call over LiveKit SIP as a `Line`: the room, the caller's participant, our track and theirs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

from livekit import api, rtc
from livekit.agents import AutoSubscribe, JobContext

from agent_worker.call.line import DIGITS, LINE_SAMPLE_RATE, Command, Line, LineClosed
from agent_worker.call.offer import given_call_id, read_job_metadata, read_offer
from agent_worker.call.relay_track import LiveVoice, RelayTrack
from agent_worker.call.room_operators import RoomOperators
from agent_worker.config.plan import JUNK_METADATA
from agent_worker.domain.call import CallOffer, DisconnectionReason, new_call_id
from agent_worker.errors import CallError
from agent_worker.telephony.rooms import delete_room, is_web

logger = logging.getLogger("agent_worker.call")

CALLER_TIMEOUT_SECONDS = 10.0
"""How long a room may be without a caller before it is no phone call."""

PICK_UP_TIMEOUT_SECONDS = 10.0
FRAME_MS = 20
DIGITAL_SILENCE = 4
"""Amplitude (of 32,767) a decoder makes of nothing at all; a quiet room on a phone line is louder."""

MEDIA_TIMEOUT_SECONDS = 12.0
"""Digital silence for this long before the bridge hangs up means that the phone's audio had stopped: the bridge
gives up after 15 s without RTP, and says no more of it than of a caller's own BYE. A quiet phone is never that quiet.
"""
SOURCE_QUEUE_MS = 200
MOVE_SECONDS = 5.0
RULE_ATTRIBUTE = "sip.ruleID"
PHONE_KINDS = (rtc.ParticipantKind.PARTICIPANT_KIND_SIP,)

_Reason = rtc.DisconnectReason
_CAUSES: dict[int, str] = {
    _Reason.MEDIA_FAILURE: "media_timeout",
    _Reason.SIP_TRUNK_FAILURE: "carrier_error",
    _Reason.USER_UNAVAILABLE: "no_answer",
    _Reason.USER_REJECTED: "rejected_by_carrier",
}


class RoomLine(Line):
    """The line of one LiveKit job."""

    def __init__(self, ctx: JobContext) -> None:
        super().__init__(new_call_id())
        self._job_metadata = read_job_metadata(ctx.job.metadata)
        self._ctx = ctx
        self._room = ctx.room
        self.room_name = ctx.job.room.name
        self.job_id = ctx.job.id
        self._caller: rtc.RemoteParticipant | None = None
        self._source = rtc.AudioSource(LINE_SAMPLE_RATE, 1, queue_size_ms=SOURCE_QUEUE_MS)
        self._relay = RelayTrack(self._room)
        self._voice = LiveVoice()
        self._listening: asyncio.Task[None] | None = None
        self._last_sound = 0.0
        self._picking_up = False
        self._active = asyncio.Event()
        self._caller_joined = asyncio.Event()
        self._hanging_up: asyncio.Task[bool] | None = None
        self._browsers = RoomOperators(self._room, self.operators)
        self._room.on("participant_connected", self._on_participant)
        self._room.on("participant_disconnected", self._on_participant_gone)
        self._room.on("participant_attributes_changed", self._on_attributes)
        self._room.on("track_published", self._on_track_published)
        self._room.on("track_subscribed", self._on_track_subscribed)
        self._room.on("sip_dtmf_received", self._on_digit)
        self._room.on("disconnected", self._on_room_gone)

    @property
    def is_phone(self) -> bool:
        """Whether the caller came through a SIP trunk."""
        return self._caller is not None and self._caller.kind in PHONE_KINDS

    async def ring(self) -> CallOffer:
        """Connect to the room and read the caller's SIP attributes."""
        try:
            await self._ctx.connect(auto_subscribe=AutoSubscribe.SUBSCRIBE_NONE)
        except (rtc.ConnectError, TimeoutError) as error:
            raise CallError("not_connected", f"Room {self.room_name} cannot be joined: {error}") from error
        for participant in self._room.remote_participants.values():
            self._on_participant(participant)
        try:
            async with asyncio.timeout(CALLER_TIMEOUT_SECONDS):
                await self._caller_joined.wait()
        except TimeoutError:
            raise CallError(
                "no_caller",
                f"Nobody joined room {self.room_name} within {CALLER_TIMEOUT_SECONDS:.0f} s.",
                disconnection_reason=DisconnectionReason.NOT_A_PHONE_CALL,
            ) from None
        assert self._caller is not None
        self._take_given_id(self._caller.attributes)
        return read_offer(
            call_id=self.call_id,
            room_name=self.room_name,
            identity=self._caller.identity,
            attributes=dict(self._caller.attributes),
            job_metadata=self._job_metadata,
        )

    def _take_given_id(self, attributes: Mapping[str, str]) -> None:
        """Take the id a dispatch gave this one call; a dispatch rule would give every call the same."""
        given = given_call_id(self._job_metadata)
        if given is None:
            return
        if RULE_ATTRIBUTE in attributes:
            self._job_metadata[JUNK_METADATA] = "callId: a dispatch rule would give it to every call"
            return
        self.call_id = given
        self._ctx.log_context_fields = {"call_id": given}

    async def pick_up(self) -> None:
        """Publish our voice, listen to the caller, and wait until the bridge has answered."""
        track = rtc.LocalAudioTrack.create_audio_track("agent", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=False, dtx=False)
        caller = self._caller
        assert caller is not None
        self._picking_up = True
        for publication in caller.track_publications.values():
            self._subscribe(publication)
        try:
            async with asyncio.timeout(PICK_UP_TIMEOUT_SECONDS):
                published = await self.unless_closed(self._room.local_participant.publish_track(track, options))
                await self.unless_closed(published.wait_for_subscription())
                if self.is_phone:
                    await self.unless_closed(self._active.wait())
        except TimeoutError:
            raise CallError("not_picked_up", "The bridge did not open the line.") from None
        self._last_sound = time.monotonic()
        self.picked_up = True
        self.playout.start()
        self._browsers.start()

    def take_commands(self, commands: Mapping[str, Command]) -> None:
        """Answer commands that LiveKit's server passes on, and none of anybody in the room."""
        super().take_commands(commands)

        def answering(command: Command) -> Callable[[rtc.RpcInvocationData], Awaitable[str]]:
            async def answer(asked: rtc.RpcInvocationData) -> str:
                if asked.caller_identity in self._room.remote_participants:
                    raise rtc.RpcError(rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, "not for participants")
                return await command(asked.payload)

            return answer

        for name, command in commands.items():
            self._room.local_participant.register_rpc_method(name, answering(command))

    async def hang_up(self) -> None:
        """Delete the room, which takes every leg down."""
        if self._hanging_up is None:
            self._hanging_up = asyncio.create_task(self._delete_room(), name="hang_up")
        await asyncio.shield(self._hanging_up)

    async def _delete_room(self) -> bool:
        # a client of our own: the job's may be closed already where the worker goes down under the call
        async with api.LiveKitAPI() as client:
            return await delete_room(client, self.room_name)

    async def aclose(self) -> None:
        """Stop listening and let go of the media engine."""
        await self.playout.aclose()
        await self._browsers.aclose()
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        await self._relay.aclose()
        await self._source.aclose()

    def prepare_relay(self) -> None:
        """Publish the track for what is passed on."""
        self._relay.prepare()

    async def relay_ready(self) -> None:
        """Return once the bridge listens to that track."""
        await self._relay.ready()

    def live_voice(self) -> AsyncGenerator[rtc.AudioFrame, None]:
        """Yield their voice as it comes."""
        return self._voice.frames()

    async def pass_on(self, frame: rtc.AudioFrame) -> None:
        """Have a frame heard now."""
        await self._relay.send(frame)

    async def send_digit(self, digit: str) -> None:
        """Press a key towards the caller."""
        await self._room.local_participant.publish_dtmf(code=DIGITS.index(digit), digit=digit)

    async def until_gone(self, identity: str) -> None:
        """Return once somebody who was moved into the caller's room has left it, or did not come in time."""
        present = self._room.remote_participants
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOVE_SECONDS):
                while identity not in present:  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.05)
        while identity in present:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)

    def _on_digit(self, event: rtc.SipDTMF) -> None:
        if event.participant is None or (self._caller and event.participant.identity == self._caller.identity):
            self._pressed(event.digit)

    async def _send(self, frame: rtc.AudioFrame) -> None:
        await self._source.capture_frame(frame)

    def _discard(self) -> None:
        self._source.clear_queue()

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        if self._caller is not None or participant.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT:
            return
        if is_web(participant.identity):
            return
        self._caller = participant
        self._on_attributes([], participant)
        self._caller_joined.set()

    def _on_attributes(self, _changed: object, participant: rtc.Participant) -> None:
        if self._caller is None or participant.identity != self._caller.identity:
            return
        if participant.attributes.get("sip.callStatus") == "active":
            self._active.set()

    def _on_track_published(self, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant) -> None:
        # before the call is picked up nothing is subscribed: some bridges answer as soon as somebody listens
        if self._picking_up and self._caller is not None and participant.identity == self._caller.identity:
            self._subscribe(publication)

    def _subscribe(self, publication: rtc.RemoteTrackPublication) -> None:
        if publication.kind == rtc.TrackKind.KIND_AUDIO:
            publication.set_subscribed(True)

    def _on_track_subscribed(
        self,
        track: rtc.Track,
        _publication: rtc.RemoteTrackPublication,
        participant: rtc.RemoteParticipant,
    ) -> None:
        if self._caller is None or participant.identity != self._caller.identity:
            return
        self._voice.is_on(track)
        if self._listening is not None:
            self._listening.cancel()
        self._listening = asyncio.create_task(self._listen(track), name="caller_audio")

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=LINE_SAMPLE_RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                if max(event.frame.data) > DIGITAL_SILENCE:
                    self._last_sound = time.monotonic()
                self._hear(event.frame)
        finally:
            await stream.aclose()

    def _on_participant_gone(self, participant: rtc.RemoteParticipant) -> None:
        if self._caller is None or participant.identity != self._caller.identity:
            return
        reason = participant.disconnect_reason or _Reason.UNKNOWN_REASON
        logger.info("caller left", extra={"disconnect_reason": _Reason.Name(reason)})
        self._close(self._closed_by(reason))

    def _closed_by(self, reason: int) -> LineClosed:
        if not self.picked_up:
            return LineClosed(DisconnectionReason.CANCELLED, "cancelled", 487, "Request Terminated")
        if reason == _Reason.ROOM_DELETED:
            return LineClosed(DisconnectionReason.AGENT_HANGUP, "room_deleted", 200, "OK")
        cause = _CAUSES.get(reason)
        if cause == "media_timeout" or time.monotonic() - self._last_sound > MEDIA_TIMEOUT_SECONDS:
            return LineClosed(DisconnectionReason.MEDIA_TIMEOUT, "media_timeout")
        return LineClosed(DisconnectionReason.USER_HANGUP, cause, 200, "OK")

    def _on_room_gone(self, *_args: object) -> None:
        self._close(
            LineClosed(
                DisconnectionReason.AGENT_HANGUP if self._hanging_up else DisconnectionReason.USER_HANGUP,
                None,
                200,
                "OK",
            )
        )
