"""The leg to the person a caller is to be put through to: a room of its own, so that nothing leaks by construction.

The person is dialled into the room by the bridge; nobody else is ever in it but us. The room's name begins with the
caller's, so that whoever takes the caller's room down after a crash finds this one too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

from livekit import rtc

from agent_worker.call.line import DIGITS, LINE_SAMPLE_RATE, LineClosed
from agent_worker.call.relay_track import LiveVoice, RelayTrack
from agent_worker.call.transfer.leg import PersonLeg
from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.dialling import sip_address
from agent_worker.domain.transfer import TransferCause
from agent_worker.settings import Settings
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.rooms import delete_room, move_participant
from agent_worker.telephony.tokens import agent_token
from agent_worker.telephony.transfer import SipOutcome, dial, find_trunk

logger = logging.getLogger("agent_worker.call")

FRAME_MS = 20
SOURCE_QUEUE_MS = 200
JOIN_SECONDS = 5.0
REMADE_SECONDS = 0.5
AGENT_IDENTITY = "consultation-agent"


class Consultation(PersonLeg):
    """One attempt's leg.

    Args:
        settings: how LiveKit is reached.

    Attributes:
        identity: the person's, in the room.
    """

    def __init__(self, settings: Settings, room_name: str, identity: str) -> None:
        super().__init__()
        self.room_name = room_name
        self.identity = identity
        self._settings = settings
        self._room = rtc.Room()
        self._source = rtc.AudioSource(LINE_SAMPLE_RATE, 1, queue_size_ms=SOURCE_QUEUE_MS)
        self._relay = RelayTrack(self._room)
        self._voice = LiveVoice()
        self._listening: asyncio.Task[None] | None = None
        self._active = asyncio.Event()
        self._joining: asyncio.Task[None] | None = None
        self._dialling = False
        self._hanging_up: asyncio.Task[bool] | None = None
        self._room.on("participant_attributes_changed", self._on_attributes)
        self._room.on("participant_connected", self._on_participant)
        self._room.on("participant_disconnected", self._on_participant_gone)
        self._room.on("track_subscribed", self._on_track)
        self._room.on("sip_dtmf_received", self._on_digit)
        self._room.on("disconnected", self._on_room_gone)

    async def dial(
        self, to: str, *, trunk_id: str | None, shown_number: str | None, ringing_seconds: int
    ) -> SipOutcome:
        """Dial the person; returns when they hear us and we hear them, or why they will not.

        Cancelled, the phone stops ringing: the room is deleted, and with it the leg.
        """
        try:
            await self._join()
            async with livekit_client(self._settings) as client:
                direct = sip_address(to) is not None
                trunk = None if direct else trunk_id or await find_trunk(client, shown_number)
                if trunk is None and not direct:
                    logger.error("person not dialled: name an outboundTrunkId, there is not just one trunk")
                    await self.hang_up()
                    return SipOutcome(TransferCause.DIAL_FAILED)
                self.trunk_id = trunk
                self._dialling = True
                outcome = await dial(
                    client,
                    room=self.room_name,
                    identity=self.identity,
                    to=to,
                    trunk_id=trunk,
                    shown_number=shown_number,
                    ringing_seconds=ringing_seconds,
                )
                self._dialling = False
            if outcome.ok:
                async with asyncio.timeout(JOIN_SECONDS):
                    await self._active.wait()
                self.playout.start()
                self.prepare_relay()
            else:
                await self.hang_up()
            return outcome
        except (rtc.ConnectError, TimeoutError) as error:
            logger.warning("person not dialled", extra={"room": self.room_name, "error": type(error).__name__})
            await self.hang_up()
            return SipOutcome(TransferCause.DIAL_FAILED)
        except asyncio.CancelledError:
            await self.hang_up()
            raise

    @property
    def answered(self) -> bool:
        """Whether the person has picked up."""
        return self._active.is_set()

    async def move(self, room_name: str) -> bool:
        """Move the person into the caller's room, where the server can; returns whether it did."""
        async with livekit_client(self._settings) as client:
            return await move_participant(client, self.room_name, self.identity, room_name)

    async def hang_up(self) -> None:
        """Delete the room, which hangs up the person, also where they still ring."""
        if self._hanging_up is None:
            self._hanging_up = asyncio.create_task(self._delete_room(), name="hang_up_consultation")
        await asyncio.shield(self._hanging_up)

    async def aclose(self) -> None:
        """Leave the room and let go of the media engine."""
        await self._joined()
        await self.playout.aclose()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        await self._room.disconnect()
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
        """Press a key towards the person."""
        await self._room.local_participant.publish_dtmf(code=DIGITS.index(digit), digit=digit)

    async def _join(self) -> None:
        self._joining = asyncio.create_task(self._connect(), name="join_consultation")
        async with asyncio.timeout(JOIN_SECONDS):
            await asyncio.shield(self._joining)

    async def _connect(self) -> None:
        token = agent_token(self._settings, self.room_name, AGENT_IDENTITY)
        await self._room.connect(self._settings.livekit_url, token, rtc.RoomOptions(auto_subscribe=True))
        track = rtc.LocalAudioTrack.create_audio_track("agent", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=False, dtx=False)
        await self._room.local_participant.publish_track(track, options)

    async def _joined(self) -> None:
        """Wait for the end of joining: cut off, the media engine joins all the same, and nobody would leave again."""
        if self._joining is not None:
            await asyncio.wait({self._joining}, timeout=JOIN_SECONDS)
            self._joining.cancel()

    async def _delete_room(self) -> bool:
        await self._joined()
        async with livekit_client(self._settings) as client:
            gone = await delete_room(client, self.room_name)
            if self._dialling:
                # a bridge that was asked a moment ago makes the room anew, and the phone rings for nobody
                await asyncio.sleep(REMADE_SECONDS)
                gone = await delete_room(client, self.room_name)
            return gone

    async def _send(self, frame: rtc.AudioFrame) -> None:
        await self._source.capture_frame(frame)

    def _discard(self) -> None:
        self._source.clear_queue()

    def _on_participant(self, participant: rtc.RemoteParticipant) -> None:
        self._on_attributes([], participant)

    def _on_attributes(self, _changed: object, participant: rtc.Participant) -> None:
        if participant.identity == self.identity and participant.attributes.get("sip.callStatus") == "active":
            self._active.set()

    def _on_track(
        self, track: rtc.Track, _publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if participant.identity != self.identity:
            return
        self._voice.is_on(track)
        if self._listening is not None:
            self._listening.cancel()
        self._listening = asyncio.create_task(self._listen(track), name="person_audio")

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=LINE_SAMPLE_RATE, num_channels=1, frame_size_ms=FRAME_MS)
        try:
            async for event in stream:
                # early media of a phone that still rings is nobody's words
                if self._active.is_set():
                    self._hear(event.frame)
        finally:
            await stream.aclose()

    def _on_digit(self, event: rtc.SipDTMF) -> None:
        self._pressed(event.digit)

    def _on_participant_gone(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self.identity:
            self._close(LineClosed(DisconnectionReason.USER_HANGUP, None, 200, "OK"))

    def _on_room_gone(self, *_args: object) -> None:
        self._close(LineClosed(DisconnectionReason.AGENT_HANGUP, None, 200, "OK"))
