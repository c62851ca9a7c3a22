"""Connections to the hosts that agents name: TLS, keeping, sharing, giving up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent_worker.egress.client import EgressClient
from agent_worker.egress.connections import MAX_CONNECTIONS, MAX_KEPT
from agent_worker.testing.hook_receiver import HookReceiver
from tests.integration.egress import LOOPBACK, code_of, post, resolver
from tests.integration.loopback_tls import Authority


async def test_many_requests_that_time_out_leave_every_connection_free(
    receiver: HookReceiver, client: EgressClient
) -> None:
    """More requests than there may be connections are given up, and as many connections are there again."""
    receiver.answer_with(fault="hang")
    count = MAX_CONNECTIONS + 20
    hanging = [post(client, receiver.url, timeout_seconds=1) for _ in range(count)]
    outcomes = await asyncio.gather(*hanging, return_exceptions=True)
    assert {getattr(outcome, "code", "") for outcome in outcomes} == {"egress_timeout"}
    assert len(receiver.requests) <= MAX_CONNECTIONS

    receiver.answer_with({}, delay_ms=500)
    replies = await asyncio.gather(*(post(client, receiver.url, timeout_seconds=30) for _ in range(count)))
    assert {reply.status for reply in replies} == {200}
    assert len({sent.connection for sent in receiver.requests[-count:]}) >= MAX_CONNECTIONS


async def test_a_cancelled_request_is_cancelled(receiver: HookReceiver, client: EgressClient) -> None:
    """A call that ends while its webhook is asked does not wait for the answer."""
    receiver.answer_with(fault="hang")
    asking = asyncio.create_task(post(client, receiver.url, timeout_seconds=30))
    await receiver.wait_for_requests(1)

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def hang_up_on_second(received: list[bytes]) -> Handler:
    """A server that answers a connection's first request, and closes it on the second."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for turn in range(2):
            received.append(await reader.readuntil(b"{}"))
            if turn == 0:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    return serve


async def test_many_at_once_find_all_kept_connections_gone(client: EgressClient) -> None:
    """Whoever clears away what the server has closed is not in the way of others who do the same."""
    closing: list[asyncio.Task[None]] = []

    async def close_soon(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        await asyncio.sleep(0.1)  # so that each request has a connection of its own
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        closing.append(asyncio.create_task(close_soon(writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        for _ in range(2):
            replies = await asyncio.gather(*(post(client, url) for _ in range(20)))
            assert [reply.status for reply in replies] == [204] * 20
            await asyncio.gather(*closing)
            await asyncio.sleep(0.1)
        await client.aclose()


async def test_only_a_webhook_is_sent_again_when_a_kept_connection_is_gone(client: EgressClient) -> None:
    """A server may close a connection as we reuse it; only what a receiver can tell by its id is repeated, once."""
    received: list[bytes] = []
    server = await asyncio.start_server(hang_up_on_second(received), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server:
        await asyncio.gather(post(client, url), post(client, url))  # two connections are kept, both about to go
        assert (await post(client, url, webhook_id="msg_1")).status == 204
        assert len(received) == 2 + 2  # once in vain, once over a new connection
        assert await code_of(post(client, url)) == "egress_connection"
        assert len(received) == 2 + 2 + 1
        await client.aclose()


async def test_tls_verifies_the_name_in_the_url_not_the_address(tmp_path: Path) -> None:
    """The certificate has to be for the name, from a trusted authority, and in date, though we connect by address."""
    authority = Authority(tmp_path)
    resolve, _ = resolver(["127.0.0.1"])
    trusting = EgressClient(LOOPBACK, resolve=resolve, tls=authority.trust)
    doubting = EgressClient(LOOPBACK, resolve=resolve)

    async with HookReceiver(tls=authority.server("hooks.example")) as receiver:
        url = f"https://hooks.example:{receiver.port}/secret-path"
        assert (await post(trusting, url)).status == 200
        assert (await post(trusting, url)).status == 200
        assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
        assert len({sent.connection for sent in receiver.requests}) == 1
        assert await code_of(post(trusting, f"https://other.example:{receiver.port}/")) == "egress_tls"
        assert await code_of(post(trusting, receiver.url)) == "egress_tls"  # by its bare address
        assert await code_of(post(doubting, url)) == "egress_tls"
        assert len(receiver.requests) == 2
    async with HookReceiver(tls=authority.server("late.example", days=-1)) as receiver:
        assert await code_of(post(trusting, f"https://late.example:{receiver.port}/")) == "egress_tls"
    async with HookReceiver() as receiver:
        assert await code_of(post(trusting, f"https://hooks.example:{receiver.port}/")) == "egress_tls"
    await trusting.aclose()
    await doubting.aclose()


async def test_a_handshake_that_hangs_leaves_no_socket_behind() -> None:
    """A server that takes the connection and never answers the TLS greeting is let go of at the deadline."""
    greeted, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        greeted.set()
        while await reader.read(1024):
            pass
        closed.set()
        writer.close()

    client = EgressClient(LOOPBACK)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await code_of(post(client, url, timeout_seconds=0.5)) == "egress_timeout"
        assert greeted.is_set()
        async with asyncio.timeout(5):
            await closed.wait()


async def test_few_connections_are_kept_and_none_for_long(receiver: HookReceiver, client: EgressClient) -> None:
    """A burst to one server leaves a bounded number of open connections, and those serve the next burst."""
    await asyncio.gather(*(post(client, receiver.url) for _ in range(100)))
    first = {sent.connection for sent in receiver.requests}
    await asyncio.gather(*(post(client, receiver.url) for _ in range(100)))
    second = {sent.connection for sent in receiver.requests[100:]}

    assert 1 <= len(first & second) <= MAX_KEPT


async def test_two_names_at_one_address_do_not_share_a_verified_connection(tmp_path: Path) -> None:
    """A connection kept for one name is not used for another whose certificate was never shown."""
    authority = Authority(tmp_path)
    client = EgressClient(LOOPBACK, resolve=resolver(["127.0.0.1"])[0], tls=authority.trust)
    async with HookReceiver(tls=authority.server("one.example")) as receiver:
        assert (await post(client, f"https://one.example:{receiver.port}/")).status == 200
        assert await code_of(post(client, f"https://two.example:{receiver.port}/")) == "egress_tls"
    await client.aclose()


def test_a_client_is_made_before_a_loop_runs_and_used_in_one() -> None:
    """A process prepares its client while it warms up."""
    client = EgressClient(LOOPBACK)

    async def use() -> int:
        async with HookReceiver() as receiver:
            reply = await post(client, receiver.url)
            await client.aclose()
            return reply.status

    assert asyncio.run(use()) == 200
