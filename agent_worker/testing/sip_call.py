"""One call of the SIP phone: its dialog, its audio, and the moments of everything that happened to it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal

from agent_worker.testing.audio import Pcm
from agent_worker.testing.rtp import Heard, Playback, RtpStream, assemble
from agent_worker.testing.sip_message import (
    MediaDescription,
    SipMessage,
    audio_offer,
    digest_credentials,
    header_uri,
    new_branch,
    uri_address,
    uri_user,
)

Address = tuple[str, int]


class CallFailed(Exception):
    """The call was refused or did not get where the test waited for; `status` is the SIP status, 0 for none."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """How the phone treats an incoming call."""

    code: int = 200
    """Final response; 0 = none ever."""
    reason: str = ""
    ring_seconds: float = 0.3
    ringing: bool = True
    """Whether 180 is sent; without it the caller sees 100 only."""
    headers: tuple[tuple[str, str], ...] = ()
    play: Pcm | None = None
    """What is said at pickup, 8 kHz."""


@dataclass(frozen=True)
class ReferPolicy:
    """How the phone treats a REFER (a blind transfer)."""

    code: int = 202
    """Response; 0 = none ever."""
    reason: str = "Accepted"
    notifies: tuple[tuple[float, str], ...] = ((0.05, "SIP/2.0 100 Trying"), (0.3, "SIP/2.0 200 OK"))
    """Seconds to wait, and the status line to notify."""
    hang_up_after: float | None = None
    """Seconds after the last NOTIFY until the phone sends BYE; None = it does not."""


@dataclass
class Moments:
    """When things happened, monotonic seconds."""

    invite_at: float | None = None
    ringing_at: float | None = None
    answered_at: float | None = None
    ended_at: float | None = None


_REASONS = {180: "Ringing", 200: "OK", 404: "Not Found", 480: "Temporarily Unavailable", 486: "Busy Here", 603: "Decline"}


@dataclass
class SipCall:
    """A call placed or received by a `SipPhone`."""

    direction: Literal["outgoing", "incoming"]
    send: Callable[[SipMessage, Address], None]
    contact: str
    local: Address
    remote: Address
    media: RtpStream
    local_party: str
    """From (outgoing) or To (incoming) value, with our tag."""
    remote_party: str
    target: str
    call_id: str
    auth: tuple[str, str] | None = None
    extra_headers: tuple[tuple[str, str], ...] = ()
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
        self._cseq = secrets.randbelow(1000) + 1
        self._invite: SipMessage | None = None
        self._replies: dict[tuple[str, int], SipMessage] = {}
        self._waiting: dict[tuple[str, int], asyncio.Future[SipMessage]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._provisional = asyncio.Event()
        self._acknowledged = asyncio.Event()

    # what a test does with a call

    @property
    def peer_number(self) -> str:
        """Number of the other party."""
        return uri_user(header_uri(self.remote_party))

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
        """Speak 8 kHz samples and wait until the last has been sent; its moments come back."""
        playback = self.media.play(pcm)
        await playback.finished
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
        """Wait until nothing loud was heard for `seconds`; return when the last loud packet arrived (0.0 for none).

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
                    await self._request("BYE")
            except TimeoutError:
                pass
            self._end(self.status, self.reason)
        elif self.direction == "outgoing" and self._invite is not None:
            self.ended_by = "us"
            self.send(self._same_branch("CANCEL"), self.remote)
            await self._either(self.answered, timeout)
            if self.answered.is_set() and not self.ended.is_set():
                await self.hang_up(timeout)
        elif self._invite is not None:
            self.ended_by = "us"
            self._reply(self._invite, 486, "Busy Here")
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
        self._send_invite(())
        self._own(self._resend_invite())

    def start_incoming(self, invite: SipMessage, answer: Answer) -> None:
        """Treat an INVITE as the answer says."""
        self._invite = invite
        self.moments.invite_at = time.monotonic()
        self._reply(invite, 100, "Trying")
        self._own(self._answer(invite, answer))

    def receive(self, message: SipMessage) -> None:
        """Take a message that belongs to this call."""
        if message.is_response:
            self._receive_response(message)
        else:
            self._receive_request(message)

    def _send_invite(self, credentials: tuple[tuple[str, str], ...]) -> None:
        self._cseq += 1
        headers = [
            ("Via", f"SIP/2.0/UDP {self.local[0]}:{self.local[1]};branch={new_branch()};rport"),
            ("Max-Forwards", "70"),
            ("From", self.local_party),
            ("To", self.remote_party),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._cseq} INVITE"),
            ("Contact", f"<{self.contact}>"),
            ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY"),
            *self.extra_headers,
            *credentials,
            ("Content-Type", "application/sdp"),
        ]
        self._invite = SipMessage(f"INVITE {self.target} SIP/2.0", headers, audio_offer(self.local[0], self.media.port))
        self.send(self._invite, self.remote)

    async def _resend_invite(self) -> None:
        for wait in (0.5, 1.0, 2.0, 4.0):
            try:
                async with asyncio.timeout(wait):
                    await self._provisional.wait()
                return
            except TimeoutError:
                if self._invite is not None:
                    self.send(self._invite, self.remote)

    def _receive_response(self, message: SipMessage) -> None:
        waiting = self._waiting.get((message.method, message.cseq))
        if waiting is not None:
            if message.status >= 200 and not waiting.done():
                waiting.set_result(message)
            return
        if message.method != "INVITE" or message.cseq != self._cseq_of_invite():
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
            self.send(self._same_branch("ACK", to=message.header("To")), self.remote)
            self._answer_challenge(message)
        elif message.status >= 300:
            self.send(self._same_branch("ACK", to=message.header("To")), self.remote)
            self._end(message.status, message.reason)

    def _established(self, message: SipMessage, now: float) -> None:
        contact = message.header("Contact")
        if contact:
            self.target = header_uri(contact)
            self.remote = uri_address(self.target) or self.remote
        self.remote_party = message.header("To")
        ack = self._in_dialog("ACK", cseq=message.cseq)
        self.send(ack, self.remote)
        if not self.answered.is_set():
            self.moments.answered_at = now
            self.status, self.reason = message.status, message.reason
            self._connect_media(message.body)
            self.answered.set()

    def _answer_challenge(self, message: SipMessage) -> None:
        assert self.auth is not None
        proxy = message.status == 407
        challenge = message.header("Proxy-Authenticate" if proxy else "WWW-Authenticate")
        value = digest_credentials(challenge, "INVITE", self.target, *self.auth)
        self.auth = None
        self._send_invite((("Proxy-Authorization" if proxy else "Authorization", value),))

    def _receive_request(self, message: SipMessage) -> None:
        key = (message.method, message.cseq)
        if message.method == "ACK":
            self._acknowledged.set()
            return
        if key in self._replies:
            self.send(self._replies[key], self.remote)
            return
        self.requests.append(message)
        if message.method == "BYE":
            self._reply(message, 200, "OK")
            self.ended_by = self.ended_by or "them"
            self._end(self.status, self.reason)
        elif message.method == "CANCEL":
            self._reply(message, 200, "OK")
            if self._invite is not None and not self.answered.is_set():
                self.ended_by = "them"
                self._reply(self._invite, 487, "Request Terminated")
                self._end(487, "Request Terminated")
        elif message.method == "INVITE":
            self._reply(message, 200, "OK", body=audio_offer(self.local[0], self.media.port, version=2))
        elif message.method == "REFER":
            self._own(self._treat_refer(message))
        else:
            self._reply(message, 200, "OK")

    async def _answer(self, invite: SipMessage, answer: Answer) -> None:
        if answer.ringing:
            self.moments.ringing_at = time.monotonic()
            self._reply(invite, 180, "Ringing")
            self.ringing.set()
        if answer.code == 0:
            return
        await asyncio.sleep(answer.ring_seconds)
        if self.ended.is_set():
            return
        reason = answer.reason or _REASONS.get(answer.code, "Refused")
        if answer.code >= 300:
            self.ended_by = "us"
            self._reply(invite, answer.code, reason, extra=answer.headers)
            self._end(answer.code, reason)
            return
        self.moments.answered_at = time.monotonic()
        self.status, self.reason = answer.code, reason
        self._reply(invite, answer.code, reason, extra=answer.headers, body=audio_offer(self.local[0], self.media.port))
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
                self.send(self._replies[("INVITE", invite.cseq)], self.remote)

    async def _treat_refer(self, message: SipMessage) -> None:
        policy = self.refer_policy
        self.refer_to = header_uri(message.header("Refer-To"))
        self.referred.set()
        if policy.code == 0:
            return
        self._reply(message, policy.code, policy.reason)
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
            await self._request("NOTIFY", headers=headers, body=f"{line}\r\n".encode())
        if policy.hang_up_after is not None:
            await asyncio.sleep(policy.hang_up_after)
            await self.hang_up()

    # small parts

    def _connect_media(self, body: bytes) -> None:
        description = MediaDescription.parse(body)
        self.media.connect((description.host, description.port), description.dtmf_payload)

    def _reply(
        self, request: SipMessage, status: int, reason: str, *, extra: tuple[tuple[str, str], ...] = (), body: bytes = b""
    ) -> None:
        tag = self.local_party.rpartition(";tag=")[2]
        reply = request.respond(status, reason, tag=tag if status > 100 else "", extra=extra)
        if status > 100:
            reply.headers.append(("Contact", f"<{self.contact}>"))
        if body:
            reply.headers.append(("Content-Type", "application/sdp"))
            reply.body = body
        self._replies[(request.method, request.cseq)] = reply
        self.send(reply, self.remote)

    def _in_dialog(self, method: str, *, cseq: int, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> SipMessage:
        base = [
            ("Via", f"SIP/2.0/UDP {self.local[0]}:{self.local[1]};branch={new_branch()};rport"),
            ("Max-Forwards", "70"),
            ("From", self.local_party),
            ("To", self.remote_party),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            ("Contact", f"<{self.contact}>"),
        ]
        return SipMessage(f"{method} {self.target} SIP/2.0", [*base, *headers], body)

    async def _request(self, method: str, *, headers: tuple[tuple[str, str], ...] = (), body: bytes = b"") -> SipMessage:
        self._cseq += 1
        message = self._in_dialog(method, cseq=self._cseq, headers=headers, body=body)
        key = (method, self._cseq)
        answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        try:
            for wait in (0.5, 1.0, 2.0, 4.0):
                self.send(message, self.remote)
                done, _ = await asyncio.wait([answer], timeout=wait)
                if done:
                    return answer.result()
        finally:
            del self._waiting[key]
        raise TimeoutError(f"no answer to {method}")

    def _same_branch(self, method: str, *, to: str | None = None) -> SipMessage:
        assert self._invite is not None
        kept = [(n, v) for n, v in self._invite.headers if n in ("Via", "Max-Forwards", "From", "Call-ID")]
        sequence = ("CSeq", f"{self._invite.cseq} {method}")
        return SipMessage(f"{method} {self.target} SIP/2.0", [*kept, ("To", to or self.remote_party), sequence])

    def _cseq_of_invite(self) -> int:
        return self._invite.cseq if self._invite is not None else -1

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
