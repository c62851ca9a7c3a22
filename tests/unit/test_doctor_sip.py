"""OPTIONS to a bridge, over UDP and TCP, answered late, oddly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent_worker.doctor.sip_options import SipAnswer, ask_bridge, split_address
from agent_worker.testing.processes import free_port_both

HOST = "127.0.0.1"


class Udp(asyncio.DatagramProtocol):
    """Answers the nth datagram and those after it."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.seen: list[bytes] = []
        self._answer = answer
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        self.seen.append(data)
        reply = self._answer(data)
        if reply is not None:
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def udp(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[int, Udp]]:
    port = free_port_both()
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Udp(answer), local_addr=(HOST, port)
    )
    try:
        yield port, protocol
    finally:
        transport.close()


@asynccontextmanager
async def tcp(reply: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    port = free_port_both()
    server = await asyncio.start_server(serve, HOST, port)
    try:
        yield port
    finally:
        server.close()


async def test_a_bridge_that_answers_over_udp() -> None:
    """One request, whole and with a place to answer to."""
    async with udp(lambda _data: b"SIP/2.0 200 OK\r\n\r\n") as (port, bridge):
        assert await ask_bridge(HOST, port) == SipAnswer(200, "UDP")

    [request] = bridge.seen
    assert request.startswith(f"OPTIONS sip:{HOST}:{port} SIP/2.0\r\n".encode())
    assert b";rport;" in request and request.endswith(b"Content-Length: 0\r\n\r\n")


async def test_a_lost_datagram_is_sent_again() -> None:
    """The first request gets lost; the second is the same one."""
    lost: list[bytes] = []

    def answer(data: bytes) -> bytes | None:
        lost.append(data)
        return b"SIP/2.0 404 Not Found\r\n\r\n" if len(lost) > 1 else None

    async with udp(answer) as (port, bridge):
        assert await ask_bridge(HOST, port) == SipAnswer(404, "UDP")

    assert bridge.seen[0] == bridge.seen[1]


async def test_a_bridge_that_has_tcp_only() -> None:
    """Where UDP is closed, TCP is tried."""
    async with tcp(b"SIP/2.0 200 OK\r\n\r\n") as port:
        assert await ask_bridge(HOST, port) == SipAnswer(200, "TCP")


async def test_what_does_not_speak_sip_is_no_bridge() -> None:
    """A web server's answer, or noise, is none."""
    async with tcp(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert await ask_bridge(HOST, port) is None


@pytest.mark.parametrize(
    ("address", "read"),
    [
        ("sip.example.com", ("sip.example.com", 5060)),
        ("sip.example.com:5070", ("sip.example.com", 5070)),
        (" 10.0.0.1:5060 ", ("10.0.0.1", 5060)),
        ("[2001:db8::1]:5080", ("2001:db8::1", 5080)),
        ("[2001:db8::1]", ("2001:db8::1", 5060)),
    ],
)
def test_addresses(address: str, read: tuple[str, int]) -> None:
    """Host, port, and the default of SIP."""
    assert split_address(address) == read


@pytest.mark.parametrize("address", ["", "sip:pbx", "host:0", "host:99999", "a b", "host/path", "2001:db8::1"])
def test_what_is_no_address(address: str) -> None:
    """What cannot be reached is said before it is tried."""
    with pytest.raises(ValueError, match="no host:port"):
        split_address(address)
