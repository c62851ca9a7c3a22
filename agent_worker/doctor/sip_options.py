"""Asks a SIP bridge whether it is there, with one OPTIONS request over UDP, then over TCP."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from typing import NamedTuple

UDP_WAITS = (0.5, 1.0, 1.5)
"""Pauses before a datagram is repeated or given up, s: datagrams get lost."""

TCP_SECONDS = 3.0
DEFAULT_PORT = 5060


class SipAnswer(NamedTuple):
    """How the bridge answered."""

    status: int
    transport: str


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[v6]:port`; the port defaults to 5060.

    Raises:
        ValueError: it is none of these.
    """
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]/]+))(?::(\d{1,5}))?", address.strip())
    if match is None or not 0 < int(match[3] or DEFAULT_PORT) < 65_536:
        raise ValueError(f"{address!r} is no host:port")
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)


async def ask_bridge(host: str, port: int) -> SipAnswer | None:
    """Return how the bridge answers OPTIONS, None where it does not; takes at most about 6 s.

    Raises:
        OSError: the name cannot be resolved.
    """
    return await _ask_udp(host, port) or await _ask_tcp(host, port)


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _address: object) -> None:
        status = _status(data)
        if status is not None and not self.status.done():
            self.status.set_result(status)

    def error_received(self, _error: Exception) -> None:
        """Nothing listens there, which the answer that does not come says as well."""


async def _ask_udp(host: str, port: int) -> SipAnswer | None:
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_datagram_endpoint(_Listener, remote_addr=(host, port))
    try:
        ours = transport.get_extra_info("sockname")
        message = _options(host, port, "UDP", str(ours[0]), int(ours[1]))
        for wait in UDP_WAITS:
            transport.sendto(message)
            try:
                async with asyncio.timeout(wait):
                    return SipAnswer(await asyncio.shield(listener.status), "UDP")
            except TimeoutError:
                continue
    finally:
        transport.close()
    return None


async def _ask_tcp(host: str, port: int) -> SipAnswer | None:
    try:
        async with asyncio.timeout(TCP_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                ours = writer.get_extra_info("sockname")
                writer.write(_options(host, port, "TCP", str(ours[0]), int(ours[1])))
                status = _status(await reader.readline())
            finally:
                writer.close()
    except socket.gaierror:
        raise
    except (OSError, TimeoutError, ValueError):
        return None
    return SipAnswer(status, "TCP") if status is not None else None


def _options(host: str, port: int, transport: str, our_host: str, our_port: int) -> bytes:
    name = f"[{host}]" if ":" in host else host
    ours = f"[{our_host}]" if ":" in our_host else our_host
    lines = [
        f"OPTIONS sip:{name}:{port} SIP/2.0",
        f"Via: SIP/2.0/{transport} {ours}:{our_port};rport;branch=z9hG4bK{secrets.token_hex(8)}",
        "Max-Forwards: 70",
        f"From: <sip:doctor@{ours}>;tag={secrets.token_hex(6)}",
        f"To: <sip:{name}:{port}>",
        f"Call-ID: {secrets.token_hex(12)}",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:doctor@{ours}:{our_port}>",
        "Accept: application/sdp",
        "User-Agent: agent-worker-doctor",
        "Content-Length: 0",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _status(message: bytes) -> int | None:
    match = re.match(rb"SIP/2\.0 (\d{3}) ", message)
    return int(match[1]) if match else None
