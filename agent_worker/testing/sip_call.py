"""One call of the SIP phone: its dialog, its audio, and the moments of everything that happened to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_worker.testing.audio import Pcm
from agent_worker.testing.rtp import Heard, Playback, RtpStream, assemble
from agent_worker.testing.sip_dialog import RESEND_SECONDS, Headers, SipDialog
from agent_worker.testing.sip_message import (
    MediaDescription,
    SipMessage,
    audio_offer,
    digest_credentials,
    header_uri,
    uri_user,
)
from agent_worker.testing.sip_policies import Answer, CallFailed, ReferPolicy


@dataclass
class Moments:
    """When things happened, monotonic seconds."""

    invite_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    referred_at: float | None = None
    ended_at: float | None = None


_REASONS = {
    180: "Ringing",
    200: "OK",
    404: "Not Found",
    480: "Temporarily Unavailable",
    486: "Busy Here",
    603: "Decline",
}


@dataclass
class SipCall:
    """A call placed or received by a `SipPhone`."""

    direction: Literal["outgoing", "incoming"]
    dialog: SipDialog
    media: RtpStream
    auth: tuple[str, str] | None = None
    extra_headers: Headers = ()
    refer_policy: ReferPolicy = field(default_factory=ReferPolicy)
    moments: Moments = field(default_factory=Moments)
    status: int = 0
    reason: str = ""
    ended_by: Literal["us", "them", ""] = ""
    responses: list[tuple[float, int]] = field(default_factory=list)
    requests: list[SipMessage] = field(default_factory=list)
    """Every request received in the dialog."""

    def __post_init__(self) -> None:
        self.answered = asyncio.Event()
        self.ringing = asyncio.Event()
        self.ended = asyncio.Event()
        self.referred = asyncio.Event()
        self.refer_to = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._provisional = asyncio.Event()
        self._acknowledged = asyncio.Event()

    # what a test does with a call

    @property
    def peer_number(self) -> str:
        """Number of the other party."""
        return uri_user(header_uri(self.dialog.remote_party))

    @property
    def heard(self) -> Heard:
        """Everything heard so far."""
        return assemble(self.media.packets)

    @property
    def digits(self) -> str:
        """Keys the other side pressed (RFC 4733)."""
        return "".join(self.media.digits)

    @property
    def first_rtp_at(self) -> float | None:
        """When the first audio packet arrived (monotonic)."""
        return self.media.packets[0].arrived_at if self.media.packets else None

    async def wait_answered(self, timeout: float = 15.0) -> None:
        """Wait for pickup.

        Raises:
            CallFailed: refused, ended first, or not answered in time (status 0).
        """
        await self._either(self.answered, timeout)
        if not self.answered.is_set():
            raise CallFailed(self.status, self.reason or "not answered")

    async def wait_ended(self, timeout: float = 15.0) -> None:
        """Wait until the call is over.

        Raises:
            TimeoutError: it is not, in time.
        """
        async with asyncio.timeout(timeout):
            await self.ended.wait()

    async def play(self, pcm: Pcm) -> Playback:
        """Speak 8 kHz samples and wait until the last has been sent; its moments come back.

        Raises:
            CallFailed: the call has ended.
        """
        playback = self.media.play(pcm)
        ended = asyncio.ensure_future(self.ended.wait())
        waits: set[asyncio.Future[Any]] = {playback.finished, ended}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not playback.finished.done() or playback.finished.cancelled():
            raise CallFailed(self.status, "ended while speaking")
        return playback

    async def wait_speech(self, timeout: float = 15.0, *, after: float | None = None) -> float:
        """Wait until something loud is heard at or after a moment (default: from now on); return when.

        Raises:
            TimeoutError: silence.
            CallFailed: the call ended.
        """
        start = time.monotonic() if after is None else after
        async with asyncio.timeout(timeout):
            while True:
                for moment in reversed(self.media.loud_at):
                    if moment < start:
                        break
                    return moment
                if self.ended.is_set():
                    raise CallFailed(self.status, "ended while waiting for speech")
                await asyncio.sleep(0.02)

    async def wait_silence(self, seconds: float = 0.7, timeout: float = 30.0) -> float:
        """Wait until nothing loud was heard for `seconds`; return when the last was (0.0: never).

        Raises:
            TimeoutError: it goes on talking.
        """
        begun = time.monotonic()
        async with asyncio.timeout(timeout):
            while True:
                last = self.media.loud_at[-1] if self.media.loud_at else 0.0
                if time.monotonic() - max(last, begun - 3600 if last else begun) >= seconds or self.ended.is_set():
                    return last
                await asyncio.sleep(0.02)

    def stop_rtp(self) -> None:
        """Send no more packets, as a phone that lost its network."""
        self.media.stop()

    def resume_rtp(self) -> None:
        """Send packets again."""
        self.media.resume()

    def send_digits(self, digits: str) -> None:
        """Press keys."""
        self.media.send_digits(digits)

    async def hang_up(self, timeout: float = 5.0) -> None:
        """End the call: BYE when answered, CANCEL or 486 while it rings. Does nothing when it is over."""
        if self.ended.is_set():
            return
        if self.answered.is_set():
            self.ended_by = "us"
            try:
                async with asyncio.timeout(timeout):
                    await self.dialog.request("BYE")
            except TimeoutError:
                pass
            self._end(self.status, self.reason)
        elif self.direction == "outgoing":
            self.ended_by = "us"
            self.dialog.transmit(self.dialog.same_branch("CANCEL"))
            await self._either(self.answered, timeout)
            if self.answered.is_set() and not self.ended.is_set():
                await self.hang_up(timeout)
        elif self.dialog.invite is not None:
            self.ended_by = "us"
            self.dialog.reply(self.dialog.invite, 486, "Busy Here")
            self._end(486, "Busy Here")

    async def close(self) -> None:
        """Hang up if needed, and let go of socket and tasks."""
        await self.hang_up(timeout=2.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.media.close()

    # the dialog

    def start_outgoing(self) -> None:
        """Send INVITE."""
        self.moments.invite_at = time.monotonic()
        self.dialog.send_invite(self.media.port, self.extra_headers)
        self._own(self._resend_invite())

    def start_incoming(self, invite: SipMessage, answer: Answer) -> None:
        """Treat an INVITE as the answer says."""
        self.dialog.invite = invite
        self.moments.invite_at = time.monotonic()
        self.dialog.reply(invite, 100, "Trying")
        self._own(self._answer(invite, answer))

    def receive(self, message: SipMessage) -> None:
        """Take a message that belongs to this call."""
        if message.is_response:
            self._receive_response(message)
        else:
            self._receive_request(message)

    async def _resend_invite(self) -> None:
        for wait in RESEND_SECONDS:
            try:
                async with asyncio.timeout(wait):
                    await self._provisional.wait()
                return
            except TimeoutError:
                if self.dialog.invite is not None:
                    self.dialog.transmit(self.dialog.invite)

    def _receive_response(self, message: SipMessage) -> None:
        invite = self.dialog.invite
        if self.dialog.take_response(message) or invite is None:
            return
        if message.method != "INVITE" or message.cseq != invite.cseq:
            return
        now = time.monotonic()
        self._provisional.set()
        self.responses.append((now, message.status))
        if 180 <= message.status < 190:
            self.moments.ringing_at = self.moments.ringing_at or now
            self.ringing.set()
        elif 200 <= message.status < 300:
            self._established(message, now)
        elif message.status in (401, 407) and self.auth is not None:
            self.dialog.transmit(self.dialog.same_branch("ACK", to=message.header("To")))
            self._answer_challenge(message)
        elif message.status >= 300:
            self.dialog.transmit(self.dialog.same_branch("ACK", to=message.header("To")))
            self._end(message.status, message.reason)

    def _established(self, message: SipMessage, now: float) -> None:
        self.dialog.establish(message)
        if not self.answered.is_set():
            self.moments.answered_at = now
            self.status, self.reason = message.status, message.reason
            self._connect_media(message.body)
            self.answered.set()

    def _answer_challenge(self, message: SipMessage) -> None:
        assert self.auth is not None
        proxy = message.status == 407
        challenge = message.header("Proxy-Authenticate" if proxy else "WWW-Authenticate")
        value = digest_credentials(challenge, "INVITE", self.dialog.target, *self.auth)
        self.auth = None
        credentials = ("Proxy-Authorization" if proxy else "Authorization", value)
        self.dialog.send_invite(self.media.port, (*self.extra_headers, credentials))

    def _receive_request(self, message: SipMessage) -> None:
        if message.method == "ACK":
            self._acknowledged.set()
            return
        if self.dialog.repeat_reply(message):
            return
        self.requests.append(message)
        if message.method == "BYE":
            self.dialog.reply(message, 200, "OK")
            self.ended_by = self.ended_by or "them"
            self._end(self.status, self.reason)
        elif message.method == "CANCEL":
            self.dialog.reply(message, 200, "OK")
            if self.dialog.invite is not None and not self.answered.is_set():
                self.ended_by = "them"
                self.dialog.reply(self.dialog.invite, 487, "Request Terminated")
                self._end(487, "Request Terminated")
        elif message.method == "INVITE":
            self.dialog.reply(message, 200, "OK", body=audio_offer(self.dialog.local[0], self.media.port, version=2))
        elif message.method == "REFER":
            self._own(self._treat_refer(message))
        else:
            self.dialog.reply(message, 200, "OK")

    async def _answer(self, invite: SipMessage, answer: Answer) -> None:
        if answer.ringing:
            self.moments.ringing_at = time.monotonic()
            self.dialog.reply(invite, 180, "Ringing")
            self.ringing.set()
        if answer.code == 0:
            return
        await asyncio.sleep(answer.ring_seconds)
        if self.ended.is_set():
            return
        reason = answer.reason or _REASONS.get(answer.code, "Refused")
        if answer.code >= 300:
            self.ended_by = "us"
            self.dialog.reply(invite, answer.code, reason, extra=answer.headers)
            self._end(answer.code, reason)
            return
        self.moments.answered_at = time.monotonic()
        self.status, self.reason = answer.code, reason
        self.dialog.reply(
            invite,
            answer.code,
            reason,
            extra=answer.headers,
            body=audio_offer(self.dialog.local[0], self.media.port),
        )
        self._connect_media(invite.body)
        self.answered.set()
        if answer.play is not None:
            self.media.play(answer.play)
        for wait in (0.5, 1.0, 2.0):
            try:
                async with asyncio.timeout(wait):
                    await self._acknowledged.wait()
                return
            except TimeoutError:
                self.dialog.repeat_reply(invite)

    async def _treat_refer(self, message: SipMessage) -> None:
        policy = self.refer_policy
        self.moments.referred_at = time.monotonic()
        self.refer_to = header_uri(message.header("Refer-To"))
        self.referred.set()
        if policy.code == 0:
            return
        self.dialog.reply(message, policy.code, policy.reason)
        if policy.code >= 300:
            return
        for wait, line in policy.notifies:
            await asyncio.sleep(wait)
            if self.ended.is_set():
                return
            final = not line.startswith("SIP/2.0 1")
            headers = (
                ("Event", "refer"),
                ("Subscription-State", "terminated;reason=noresource" if final else "active;expires=60"),
                ("Content-Type", "message/sipfrag;version=2.0"),
            )
            await self.dialog.request("NOTIFY", headers=headers, body=f"{line}\r\n".encode())
        if policy.hang_up_after is not None:
            await asyncio.sleep(policy.hang_up_after)
            await self.hang_up()

    # small parts

    def _connect_media(self, body: bytes) -> None:
        description = MediaDescription.parse(body)
        self.media.connect((description.host, description.port), description.dtmf_payload)

    def _end(self, status: int, reason: str) -> None:
        if not self.ended.is_set():
            self.moments.ended_at = time.monotonic()
            self.status, self.reason = status, reason
            self.ended_by = self.ended_by or "them"
            self.media.stop()
            self.ended.set()

    async def _either(self, event: asyncio.Event, timeout: float) -> None:
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.ended.wait())]
        try:
            await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
