"""A SIP telephone for tests: places and takes real calls, speaks any audio, records what it hears."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from agent_worker.testing.rtp import RtpStream
from agent_worker.testing.sip_call import SipCall
from agent_worker.testing.sip_dialog import Address, SipDialog
from agent_worker.testing.sip_message import (
    SipMessage,
    credentials_match,
    header_uri,
    uri_address,
    uri_user,
)
from agent_worker.testing.sip_policies import Answer, CallFailed, ReferPolicy

__all__ = ["Answer", "CallFailed", "ReferPolicy", "SipCall", "SipPhone"]


class SipPhone(asyncio.DatagramProtocol):
    """A user agent on one UDP port; any number of calls at once.

    `server` is the SIP bridge's address. Incoming calls are treated by `answer_with`, by number or for all.
    """

    def __init__(self, server: Address, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = server
        self._host = host
        self._wanted_port = port
        self._transport: asyncio.DatagramTransport | None = None
        self._calls: dict[str, SipCall] = {}
        self._answers: dict[str, Answer] = {}
        self._default_answer = Answer()
        self._refer_policy = ReferPolicy()
        self._incoming: asyncio.Queue[SipCall] = asyncio.Queue()
        self._opening: set[asyncio.Task[None]] = set()
        self.ringing: set[str] = set()
        """Call-IDs of incoming calls, answered or not."""

    async def __aenter__(self) -> Self:
        """Bind the SIP port."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, self._wanted_port))
        self._transport = transport
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up everything."""
        await asyncio.gather(*self._opening, return_exceptions=True)
        await asyncio.gather(*(call.close() for call in self._calls.values()))
        if self._transport is not None:
            self._transport.close()

    @property
    def port(self) -> int:
        """Local SIP port."""
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    @property
    def address(self) -> str:
        """`host:port`, as an outbound trunk's address."""
        return f"{self._host}:{self.port}"

    async def dial(
        self,
        number: str,
        *,
        from_: str = "+15559999",
        display_name: str = "",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> SipCall:
        """Send INVITE and return the call, ringing or not.

        Args:
            headers: extra headers; pairs, where one is sent several times.
            auth: user and password.
        """
        name = f'"{display_name}" ' if display_name else ""
        host, port = self._server
        target = f"sip:{number}@{host}:{port}"
        dialog = SipDialog(
            send=self._send,
            contact=f"sip:{from_}@{self._host}:{self.port}",
            local=(self._host, self.port),
            remote=self._server,
            local_party=f"{name}<sip:{from_}@{self._host}:{self.port}>;tag={secrets.token_hex(6)}",
            remote_party=f"<{target}>",
            target=target,
            call_id=f"{secrets.token_hex(10)}@{self._host}",
        )
        call = SipCall(
            direction="outgoing",
            dialog=dialog,
            media=await RtpStream.open(self._host),
            auth=auth,
            extra_headers=tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers or ()),
            refer_policy=self._refer_policy,
        )
        self._calls[dialog.call_id] = call
        call.start_outgoing()
        return call

    def answer_with(self, answer: Answer, number: str = "") -> None:
        """Treat incoming calls (to one number, or all) this way from now on."""
        if number:
            self._answers[number] = answer
        else:
            self._default_answer = answer

    def refer_with(self, policy: ReferPolicy) -> None:
        """Treat a REFER in calls that begin from now on this way."""
        self._refer_policy = policy

    async def incoming(self, timeout: float = 15.0) -> SipCall:
        """Return the next incoming call, as soon as its INVITE is here.

        Raises:
            TimeoutError: nobody called.
        """
        async with asyncio.timeout(timeout):
            return await self._incoming.get()

    def _send(self, message: SipMessage, address: Address) -> None:
        if self._transport is not None:
            self._transport.sendto(message.encode(), address)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Hand a message to its call; open one for a new INVITE."""
        try:
            message = SipMessage.parse(data)
        except ValueError:
            return
        source = (str(addr[0]), int(addr[1]))
        call = self._calls.get(message.call_id)
        if call is not None:
            call.receive(message)
        elif message.is_response or message.method == "ACK":
            return
        elif message.method == "INVITE":
            if self._challenged(message, source):
                return
            if message.call_id not in self.ringing:
                self.ringing.add(message.call_id)
                task = asyncio.get_running_loop().create_task(self._open_incoming(message, source))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
        elif message.method == "OPTIONS":
            self._send(message.respond(200, "OK", tag=secrets.token_hex(4)), source)
        else:
            self._send(message.respond(481, "Call Does Not Exist", tag=secrets.token_hex(4)), source)

    def _challenged(self, invite: SipMessage, source: Address) -> bool:
        """Ask an INVITE for its password, or refuse a wrong one; False where it may come in."""
        auth = self._answers.get(_dialled(invite), self._default_answer).auth
        if auth is None:
            return False
        credentials = invite.header("Proxy-Authorization")
        if credentials and credentials_match(credentials, "INVITE", *auth):
            return False
        if credentials:
            refusal = invite.respond(403, "Forbidden", tag=secrets.token_hex(4))
        else:
            challenge = f'Digest realm="phone", nonce="{secrets.token_hex(8)}", algorithm=MD5'
            extra = (("Proxy-Authenticate", challenge),)
            refusal = invite.respond(407, "Proxy Authentication Required", tag=secrets.token_hex(4), extra=extra)
        self._send(refusal, source)
        return True

    async def _open_incoming(self, invite: SipMessage, source: Address) -> None:
        contact = header_uri(invite.header("Contact"))
        number = _dialled(invite)
        dialog = SipDialog(
            send=self._send,
            contact=f"sip:{number}@{self._host}:{self.port}",
            local=(self._host, self.port),
            remote=uri_address(contact) or source,
            local_party=f"{invite.header('To')};tag={secrets.token_hex(6)}",
            remote_party=invite.header("From"),
            target=contact,
            call_id=invite.call_id,
        )
        call = SipCall(
            direction="incoming",
            dialog=dialog,
            media=await RtpStream.open(self._host),
            refer_policy=self._refer_policy,
        )
        self._calls[dialog.call_id] = call
        call.requests.append(invite)
        call.start_incoming(invite, self._answers.get(number, self._default_answer))
        self._incoming.put_nowait(call)

    def error_received(self, exc: Exception) -> None:
        """Ignore ICMP errors: requests time out by themselves."""


def _dialled(invite: SipMessage) -> str:
    return uri_user(header_uri(invite.start_line.split(" ")[1]))
