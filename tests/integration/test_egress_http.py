"""The client for agents' URLs against real sockets: pinned addresses, verified names, bounded time and size."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent_worker.egress.client import EgressClient, Reply
from agent_worker.egress.connections import MAX_CONNECTIONS, MAX_KEPT
from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import Resolve
from agent_worker.errors import EgressError
from agent_worker.testing.hook_receiver import Fault, HookReceiver
from tests.integration.loopback_tls import Authority

LOOPBACK = AddressPolicy.of("127.0.0.0/8")


def resolver(*answers: list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives these answers one after the other, the last one for ever, and the names it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


async def post(client: EgressClient, url: str, *, timeout_seconds: float = 5, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(url, b"{}", named, timeout_seconds=timeout_seconds)


async def code_of(answer: Awaitable[Reply]) -> str:
    with pytest.raises(EgressError) as caught:
        await answer
    assert not [word for word in ("secret-path", "token", "hush") if word in str(caught.value)]
    return caught.value.code


@pytest.fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    async with HookReceiver() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    made = EgressClient(LOOPBACK)
    yield made
    await made.aclose()


async def test_a_post_arrives_as_it_was_sent(receiver: HookReceiver, client: EgressClient) -> None:
    """Body, path, query and headers arrive; the reply comes back whole."""
    receiver.answer_with({"a": 1}, headers={"X-One": "1"})

    reply = await client.post(
        f"{receiver.url}?q=%20é", b'{"b":2}', {"X-Tenant": "Zoë", "Content-Type": "application/json"}, timeout_seconds=5
    )

    sent = receiver.requests[0]
    assert (sent.json, sent.headers["content-type"]) == ({"b": 2}, "application/json")
    assert sent.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert sent.headers["x-tenant"] == "Zoë"
    assert (reply.status, reply.body, reply.headers["x-one"]) == (200, b'{"a": 1}', "1")


async def test_headers_that_frame_a_request_are_the_clients_own(receiver: HookReceiver, client: EgressClient) -> None:
    """Nothing configured changes where a request goes or where it ends."""
    mine = {"Host": "evil.example", "CONTENT-LENGTH": "999", "Transfer-Encoding": "chunked", "Accept-Encoding": "gzip"}

    await client.post(receiver.url, b"{}", {**mine, "Connection": "close", "Expect": "100-continue"}, timeout_seconds=5)

    sent = receiver.requests[0]
    assert sent.body == b"{}"
    assert sent.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert sent.headers["accept-encoding"] == "identity"
    assert not {"transfer-encoding", "connection", "expect"} & set(sent.headers)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "a\r\nX-B: b"), ("X-A", "a\nb"), ("X-A", "\x00"), ("X A", "b"), ("X-A:", "b"), ("", "b")],
)
async def test_a_header_cannot_smuggle_another(
    receiver: HookReceiver, client: EgressClient, name: str, value: str
) -> None:
    """A line break in a name or value is an error before anything is sent."""
    assert await code_of(client.post(receiver.url, b"", {name: value}, timeout_seconds=5)) == "egress_header_invalid"
    assert receiver.requests == []


async def test_a_name_that_changes_its_address_reaches_only_the_checked_one(receiver: HookReceiver) -> None:
    """The resolver says an allowed address once and an inner one from then on: nothing reaches the inner one."""
    arrived: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append(await reader.readuntil(b"{}"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    allowed = await asyncio.start_server(answer, "127.0.0.2", receiver.port)
    resolve, asked = resolver(["127.0.0.2"], ["127.0.0.1"])
    client = EgressClient(AddressPolicy.of("127.0.0.2"), resolve=resolve)
    url = f"http://rebind.example:{receiver.port}/"
    async with allowed:
        first = await post(client, url)
        second = await code_of(post(client, url))

    assert (first.status, len(arrived), second) == (204, 1, "egress_address_refused")
    assert asked == ["rebind.example"] * 2
    assert receiver.requests == []
    await client.aclose()


async def test_the_connection_goes_to_the_address_that_was_checked(receiver: HookReceiver) -> None:
    """The name is asked for once per connection; a kept one stays where it was checked to be."""
    resolve, asked = resolver(["127.0.0.1"], ["10.0.0.1"])
    client = EgressClient(LOOPBACK, resolve=resolve)
    url = f"http://hooks.example:{receiver.port}/hook"

    for _ in range(3):
        assert (await post(client, url)).status == 200

    assert asked == ["hooks.example"]
    assert len({sent.connection for sent in receiver.requests}) == 1
    assert receiver.requests[0].headers["host"] == f"hooks.example:{receiver.port}"
    await client.aclose()


async def test_one_inner_address_among_public_ones_is_one_too_many(receiver: HookReceiver) -> None:
    """A host is refused if any of its addresses is, before any is connected to."""
    resolve, _ = resolver(["127.0.0.1", "10.0.0.1"])
    client = EgressClient(LOOPBACK, resolve=resolve)

    code = await code_of(post(client, f"http://mixed.example:{receiver.port}/"))

    assert (code, receiver.requests) == ("egress_address_refused", [])
    await client.aclose()


async def test_a_silent_address_does_not_hold_up_the_next(receiver: HookReceiver) -> None:
    """Of several addresses the first that answers is used; the others cost a moment at most."""
    full = socket.create_server(("127.0.0.2", receiver.port), backlog=0)
    fillers = []
    for _ in range(3):  # a full backlog: connecting to it hangs
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.2", receiver.port))
        fillers.append(filler)
    resolve, _ = resolver(["127.0.0.2", "127.0.0.3", "127.0.0.1"])  # silent, refuses, answers
    client = EgressClient(LOOPBACK, resolve=resolve)

    reply = await post(client, f"http://several.example:{receiver.port}/", timeout_seconds=5)

    assert reply.status == 200
    assert 200 < reply.duration_ms < 2_000
    await client.aclose()
    for opened in (full, *fillers):
        opened.close()


async def test_a_name_nobody_knows_and_a_port_nobody_has(client: EgressClient) -> None:
    """Each way of not being there has its word."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    async def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    lost = EgressClient(LOOPBACK, resolve=unknown)
    empty = EgressClient(LOOPBACK, resolve=resolver([])[0])

    assert await code_of(post(lost, "https://nowhere.example/secret-path")) == "egress_unresolvable"
    assert await code_of(post(empty, "https://nowhere.example/secret-path")) == "egress_unresolvable"
    assert await code_of(post(client, f"http://127.0.0.1:{port}/secret-path")) == "egress_connection"


async def test_the_systems_resolver_is_asked(receiver: HookReceiver) -> None:
    """`localhost` is allowed by name and found without a resolver of the test's."""
    client = EgressClient(AddressPolicy.of("localhost"))

    assert (await post(client, f"http://localhost:{receiver.port}/")).status == 200
    await client.aclose()


async def test_a_resolver_that_hangs_is_bounded_by_the_deadline() -> None:
    """The deadline covers DNS."""

    async def hang(host: str, port: int) -> list[str]:
        await asyncio.sleep(60)
        return []

    client = EgressClient(LOOPBACK, resolve=hang)

    assert await code_of(post(client, "https://hooks.example/", timeout_seconds=0.2)) == "egress_timeout"


async def test_a_redirect_is_an_answer(receiver: HookReceiver, client: EgressClient) -> None:
    """Nothing follows a redirect, least of all to a metadata address."""
    receiver.redirect_to("http://169.254.169.254/latest/meta-data/")

    reply = await post(client, receiver.url)

    assert (reply.status, reply.headers["location"]) == (307, "http://169.254.169.254/latest/meta-data/")
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("hang", "egress_timeout"),
        ("drip", "egress_timeout"),
        ("close", "egress_connection"),
        ("close_midstream", "egress_connection"),
        ("huge", "egress_response_too_large"),
        ("gzip_bomb", "egress_response_encoded"),
    ],
)
async def test_a_bad_answer_is_bounded_and_named(
    receiver: HookReceiver, client: EgressClient, fault: Fault, code: str
) -> None:
    """Silence, drops by the second, floods and bombs end in time, and the next request works."""
    receiver.answer_with(fault=fault)
    timeout = 0.5 if code == "egress_timeout" else 10
    started = time.monotonic()

    assert await code_of(post(client, f"{receiver.url}?token=hush", timeout_seconds=timeout)) == code
    assert time.monotonic() - started < 5

    receiver.answer_with({})
    assert (await post(client, receiver.url)).status == 200


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"", "egress_connection"),
        (b"\x00\xff\x16\x03\x01 garbage", "egress_connection"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "egress_connection"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000 + b"\r\n", "egress_connection"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 300_000, "egress_connection"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000, "egress_connection"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n{}", "egress_connection"),
        (b"HTTP/1.1 99 Low\r\n\r\n", "egress_connection"),
        (b"HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n", "999"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "200"),
        (b"HTTP/1.0 200 OK\r\n\r\n{}", "200"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}", "200"),
        (b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "204"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", "egress_response_encoded"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", "404"),
    ],
)  # fmt: skip
async def test_any_bytes_of_a_server_are_a_reply_or_an_error_of_ours(
    client: EgressClient, answer: bytes, outcome: str
) -> None:
    """What does not speak HTTP/1.1, or speaks it wrongly, is told apart from what does, and raises nothing else."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        try:
            reply = await post(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        except EgressError as error:
            assert error.code == outcome
        else:
            assert str(reply.status) == outcome


async def test_a_body_of_just_the_limit_is_taken(receiver: HookReceiver, client: EgressClient) -> None:
    """The cap is the last byte that is allowed; an error page is cut instead."""
    receiver.answer_with(b"x" * 100)
    assert len((await client.post(receiver.url, b"", {}, timeout_seconds=5, max_bytes=100)).body) == 100

    receiver.answer_with(b"x" * 101)
    too_large = client.post(receiver.url, b"", {}, timeout_seconds=5, max_bytes=100)
    assert await code_of(too_large) == "egress_response_too_large"

    receiver.answer_with(b"x" * 101, status=500)
    reply = await client.post(receiver.url, b"", {}, timeout_seconds=5, max_bytes=100)
    assert (reply.status, len(reply.body)) == (500, 100)


async def test_no_cookie_is_kept_and_no_proxy_is_asked(receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One agent's receiver cannot mark another's requests; the environment's proxies are not ours."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    client = EgressClient(LOOPBACK)
    receiver.answer_with({}, headers={"Set-Cookie": "a=b"})

    await post(client, receiver.url)
    await post(client, receiver.url)

    assert [sent.headers.get("cookie") for sent in receiver.requests] == [None, None]
    await client.aclose()


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
