"""The dialog under a call: tags, sequence numbers, retransmitted requests, remembered replies."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from agent_worker.testing.sip_message import SipMessage, audio_offer, header_uri, new_branch, uri_address

Address = tuple[str, int]
Headers = tuple[tuple[str, str], ...]

# RFC 3261 17.1.2: the interval doubles from T1.
RESEND_SECONDS = (0.5, 1.0, 2.0, 4.0)


@dataclass
class SipDialog:
    """Who talks to whom under one Call-ID."""

    send: Callable[[SipMessage, Address], None]
    contact: str
    local: Address
    remote: Address
    local_party: str
    """Our From or To value, with our tag."""
    remote_party: str
    target: str
    """URI that requests go to."""
    call_id: str

    def __post_init__(self) -> None:
        self._cseq = secrets.randbelow(1000) + 1
        self._replies: dict[tuple[str, int], SipMessage] = {}
        self._waiting: dict[tuple[str, int], asyncio.Future[SipMessage]] = {}
        self.invite: SipMessage | None = None
        """The last INVITE sent or received."""

    def transmit(self, message: SipMessage) -> None:
        """Send a message to the other side."""
        self.send(message, self.remote)

    def send_invite(self, media_port: int, extra: Headers) -> None:
        """Send a new INVITE that offers audio at a port."""
        self._cseq += 1
        allow = ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY")
        body = audio_offer(self.local[0], media_port)
        self.invite = self.build("INVITE", headers=(allow, *extra, ("Content-Type", "application/sdp")), body=body)
        self.transmit(self.invite)

    def build(self, method: str, *, cseq: int | None = None, headers: Headers = (), body: bytes = b"") -> SipMessage:
        """Return a request of this dialog, with the current sequence number unless one is given."""
        base = [
            ("Via", f"SIP/2.0/UDP {self.local[0]}:{self.local[1]};branch={new_branch()};rport"),
            ("Max-Forwards", "70"),
            ("From", self.local_party),
            ("To", self.remote_party),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self._cseq if cseq is None else cseq} {method}"),
            ("Contact", f"<{self.contact}>"),
        ]
        return SipMessage(f"{method} {self.target} SIP/2.0", [*base, *headers], body)

    def same_branch(self, method: str, *, to: str = "") -> SipMessage:
        """Return a CANCEL or a refusal's ACK: both share the INVITE's branch (RFC 3261 9.1, 17.1.1.3)."""
        assert self.invite is not None
        kept = [
            (name, value) for name, value in self.invite.headers if name in ("Via", "Max-Forwards", "From", "Call-ID")
        ]
        closing = [("To", to or self.remote_party), ("CSeq", f"{self.invite.cseq} {method}")]
        return SipMessage(f"{method} {self.target} SIP/2.0", kept + closing)

    def establish(self, response: SipMessage) -> None:
        """Take over the other side's tag and contact from a 2xx, and acknowledge it."""
        contact = response.header("Contact")
        if contact:
            self.target = header_uri(contact)
            self.remote = uri_address(self.target) or self.remote
        self.remote_party = response.header("To")
        self.transmit(self.build("ACK", cseq=response.cseq))

    async def request(self, method: str, *, headers: Headers = (), body: bytes = b"") -> SipMessage:
        """Send a request and return its final response.

        Raises:
            TimeoutError: there is none.
        """
        self._cseq += 1
        message = self.build(method, headers=headers, body=body)
        key = (method, message.cseq)
        answer: asyncio.Future[SipMessage] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            for wait in RESEND_SECONDS:
                self.transmit(message)
                done, _ = await asyncio.wait([answer], timeout=wait)
                if done:
                    return answer.result()
        finally:
            del self._waiting[key]
        raise TimeoutError(f"no answer to {method}")

    def take_response(self, message: SipMessage) -> bool:
        """Give a response to the request that waits for it; False when none does."""
        waiting = self._waiting.get((message.method, message.cseq))
        if waiting is None:
            return False
        if message.status >= 200 and not waiting.done():
            waiting.set_result(message)
        return True

    def reply(self, request: SipMessage, status: int, reason: str, *, extra: Headers = (), body: bytes = b"") -> None:
        """Answer a request, and remember the answer for its retransmissions."""
        tag = self.local_party.rpartition(";tag=")[2]
        reply = request.respond(status, reason, tag=tag if status > 100 else "", extra=extra)
        if status > 100:
            reply.headers.append(("Contact", f"<{self.contact}>"))
        if body:
            reply.headers.append(("Content-Type", "application/sdp"))
            reply.body = body
        self._replies[(request.method, request.cseq)] = reply
        self.transmit(reply)

    def repeat_reply(self, request: SipMessage) -> bool:
        """Send again what a retransmitted request was answered; False when it is new."""
        reply = self._replies.get((request.method, request.cseq))
        if reply is not None:
            self.transmit(reply)
        return reply is not None
