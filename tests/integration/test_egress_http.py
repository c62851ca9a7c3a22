"""The client for agents' URLs against real sockets: pinned addresses, verified names, bounded time and size."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import EgressError
from agent_worker.testing.hook_receiver import Fault, HookReceiver
from tests.integration.egress import LOOPBACK, code_of, post, resolver


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
