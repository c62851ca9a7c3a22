"""What every request to `/v1` passes first: its key, how often it asks, how large, slow and deep its body is."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from spekoai import AsyncSpeko, Speko, SpekoApiError, SpekoAuthError, SpekoRateLimitError

from agent_worker.api import requests
from agent_worker.api.gate import MAX_BODY_BYTES
from agent_worker.api.requests import MAX_DEPTH
from tests.databases import fresh_database
from tests.integration.api_server import ApiServer, assert_error, seeded_server
from tests.integration.serving import make_key, serve_settings, serving

POST = "/v1/sessions/phone"  # takes any JSON, and does nothing


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("gate"), seed=False) as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/organization", "/v1/nowhere", "/v1", "/v1/agents/x/y/z"])
def test_nobody_without_a_key_learns_what_there_is(server: ApiServer, path: str) -> None:
    """Without a key every address of the API answers the same, whether there is something or not."""
    assert assert_error(httpx.get(server.url + path), 401, code="UNAUTHORIZED")["error"].startswith(
        "The API key is missing"
    )


def test_the_client_knows_a_wrong_key(server: ApiServer) -> None:
    """The contract's client raises its own error for a wrong key, and for a missing one."""
    with Speko(api_key="aw_live_wrong", base_url=server.url) as speko, pytest.raises(SpekoAuthError) as met:
        speko.agents.list()
    assert met.value.status == 401


def test_an_unknown_address_is_told_in_the_error_shape(server: ApiServer) -> None:
    """An address nobody serves is 404, one that does not take the method 405 with those it takes."""
    with server.client() as client:
        assert_error(client.get("/v1/nowhere"), 404, code="NOT_FOUND")
        assert_error(client.get("/v1/organization/"), 404, code="NOT_FOUND")
        refused = client.delete("/v1/organization")
        assert_error(refused, 405, code="METHOD_NOT_ALLOWED")
        assert refused.headers["allow"] == "GET"
        several = client.put("/v1/knowledge-bases")
        assert_error(several, 405, code="METHOD_NOT_ALLOWED")
        assert several.headers["allow"] == "GET, POST"


def test_outside_the_api_errors_have_the_same_shape(server: ApiServer) -> None:
    """Whoever asks for something else gets the same kind of answer."""
    assert_error(httpx.get(f"{server.url}/nowhere"), 404, code="NOT_FOUND")
    assert_error(httpx.post(f"{server.url}/healthz"), 405, code="METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(
    "body",
    [b"{", b"", b"{]", b"nonsense", b'{"a": NaN}', b'{"a": 1e999}', b"\xff\xfe\xfa", b'{"a": 1} x', b'{"a": "\x01"}'],
)
def test_what_is_no_json_is_told(server: ApiServer, body: bytes) -> None:
    """A body that cannot be read is 400 with the reason, whichever route it was for; an empty one is none."""
    with server.client() as client:
        answer = client.post(POST, content=body, headers={"content-type": "application/json"})
    if body:
        assert assert_error(answer, 400, code="VALIDATION_ERROR")["issues"] == [
            {"path": [], "message": "The body is not valid JSON."}
        ]
    else:
        assert_error(answer, 501, code="NOT_AVAILABLE")


@pytest.mark.parametrize("text", ['"\\u0000"', '"\\ud800"', '{"a": ["\\udc00x"]}', '{"\\u0000": 1}', "[b'\xed']"])
def test_strings_no_database_keeps_are_refused(server: ApiServer, text: str) -> None:
    """NUL and half surrogate pairs are refused at the door, not by a database that may or may not mind."""
    with server.client() as client:
        assert_error(
            client.post(POST, content=text, headers={"content-type": "application/json"}), 400, code="VALIDATION_ERROR"
        )


@pytest.mark.parametrize("text", ['"\\\\u0000"', '"\\ud83d\\ude00"', '"h\\u00e9"', '"日本"'])
def test_other_strings_pass(server: ApiServer, text: str) -> None:
    """What only looks like it, a whole pair, and any language pass."""
    with server.client() as client:
        answer = client.post(POST, content=text.encode(), headers={"content-type": "application/json"})
    assert_error(answer, 501, code="NOT_AVAILABLE")


@pytest.mark.parametrize(
    ("opening", "closing", "depth", "passes"),
    [
        ("[", "]", MAX_DEPTH, True),
        ("[", "]", MAX_DEPTH + 1, False),
        ('{"a":', "}", MAX_DEPTH - 1, True),
        ('{"a":', "}", MAX_DEPTH + 1, False),
        ("[", "]", 400_000, False),
        ('{"a":', "}", 100_000, False),
    ],
)
def test_depth_is_bounded(server: ApiServer, opening: str, closing: str, depth: int, passes: bool) -> None:
    """What nests too deeply is 400, also where reading it would break the reader."""
    inner = "1" if closing == "}" else ""
    body = opening * depth + inner + closing * depth
    with server.client() as client:
        answer = client.post(POST, content=body, headers={"content-type": "application/json"})
    if passes:
        assert_error(answer, 501, code="NOT_AVAILABLE")
    else:
        assert "deep" in assert_error(answer, 400, code="VALIDATION_ERROR")["issues"][0]["message"]


def test_size_is_bounded(server: ApiServer) -> None:
    """A body may have 1 MiB, whether it says its size or comes in pieces."""
    fits = json.dumps("x" * (MAX_BODY_BYTES - 2)).encode()
    headers = {"content-type": "application/json"}
    with server.client() as client:
        assert_error(client.post(POST, content=fits, headers=headers), 501, code="NOT_AVAILABLE")
        assert_error(client.post(POST, content=fits + b" ", headers=headers), 413, code="TOO_LARGE")
    with server.client() as client:
        assert_error(client.post(POST, content=iter([fits, b" "]), headers=headers), 413, code="TOO_LARGE")


def test_another_kind_of_body_is_not_read_as_json(server: ApiServer) -> None:
    """Audio for a route that takes none gets that route's answer."""
    with server.client() as client:
        answer = client.post("/v1/transcribe", content=b"RIFF\0\0", headers={"content-type": "audio/wav"})
    assert_error(answer, 501, code="NOT_SUPPORTED")


async def test_a_body_without_a_key_is_not_read(server: ApiServer) -> None:
    """Nobody without a key has a gigabyte taken in: the answer comes before the body."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{")
    answer = await asyncio.wait_for(reader.readline(), 10)
    writer.close()
    assert b" 401 " in answer


async def test_a_slow_body_is_cut_off(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come is not waited for; the connection it held is closed."""
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = f"authorization: Bearer {server.keys['admin']}\r\n".encode()
    writer.write(b"POST /v1/sessions/phone HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n" + authorization + b"\r\n{")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert b" 408 " in answer.splitlines()[0]
    assert b"REQUEST_TIMEOUT" in answer


async def test_a_client_that_goes_away_in_the_middle_breaks_nothing(server: ApiServer) -> None:
    """A connection that ends within a body leaves the server as it was."""
    host, port = server.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    authorization = f"authorization: Bearer {server.keys['admin']}\r\n".encode()
    writer.write(b"POST /v1/sessions/phone HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n" + authorization + b"\r\n{")
    await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    with server.client() as client:
        assert client.get("/v1/organization").status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "/v1/agents/a%00b",
        "/v1/%2e%2e/healthz",
        "/v1/../healthz",
        "/v1//organization",
        "/v1/organization%2f..",
        "/v1/calls/%ff%fe",
        "/v1/calls/%ed%a0%80",
        "/v1/" + "x" * 10_000,
        "/v1/" + "/".join("x" * 2_000),
    ],
)
async def test_hostile_addresses_are_nothing(server: ApiServer, target: str) -> None:
    """Odd bytes and path tricks in an address end in 404 or 400, never beyond `/v1`, never in a 5xx."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    authorization = f"authorization: Bearer {server.keys['admin']}\r\n"
    writer.write(f"GET {target} HTTP/1.1\r\nhost: x\r\n{authorization}connection: close\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    assert head.split()[1] in (b"404", b"400"), head
    assert set(json.loads(body)) >= {"error", "code"}


def test_nul_in_a_query_is_refused(server: ApiServer) -> None:
    """No text of a database has it, so nothing can be searched by it."""
    with server.client() as client:
        assert_error(client.get("/v1/organization?search=a%00b"), 400, code="VALIDATION_ERROR")


async def test_a_key_that_asks_too_often_is_told_how_long_to_wait(tmp_path: Path) -> None:
    """The contract's client gets its own error with the seconds; another key is not held up by it."""
    settings = serve_settings(tmp_path, api_requests_per_minute=3)
    busy, other = await make_key(settings), await make_key(settings)
    async with serving(settings) as url, AsyncSpeko(api_key=busy, base_url=url) as speko:
        for _ in range(3):
            with pytest.raises(SpekoApiError) as met:
                await speko.credits.get_balance()
            assert met.value.status == 501
        with pytest.raises(SpekoRateLimitError) as limited:
            await speko.credits.get_balance()
        assert limited.value.retry_after is not None
        assert 1 <= limited.value.retry_after <= 20
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {other}"}) as client:
            assert (await client.get("/v1/organization")).status_code == 200


async def test_wrong_keys_are_looked_at_so_many_times_a_minute(tmp_path: Path) -> None:
    """An address that shows wrong keys waits, but a key that works there goes on working."""
    settings = serve_settings(tmp_path, api_wrong_keys_per_minute=4)
    key = await make_key(settings)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:

        async def status_of(tried: str) -> httpx.Response:
            return await client.get("/v1/organization", headers={"authorization": f"Bearer {tried}"})

        assert (await status_of(key)).status_code == 200
        tried = [(await status_of(f"aw_live_{number}")).status_code for number in range(5)]
        assert tried == [401, 401, 401, 401, 429]
        limited = await status_of("aw_live_more")
        assert_error(limited, 429, code="RATE_LIMITED")
        assert 1 <= int(limited.headers["retry-after"]) <= 15
        assert (await status_of(key)).status_code == 200
        assert (await client.get("/v1/organization")).status_code == 401


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_database_that_is_away_is_503(tmp_path: Path, kind: str) -> None:
    """While the database is away every route says so and when to try again; nothing of it is told."""
    with fresh_database(kind, tmp_path) as database_url:
        settings = serve_settings(tmp_path, database_url=database_url)
        key = await make_key(settings)
    away = "postgresql://agent:hunter2@127.0.0.1:9/none" if kind == "postgresql" else f"sqlite:///{tmp_path}/no/db"
    if kind == "sqlite":
        (tmp_path / "no").write_text("a file where a folder must be")
    async with (
        serving(settings.model_copy(update={"database_url": away})) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30) as client,
    ):
        answer = await client.get("/v1/organization")
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"].isdigit()
    assert answer.json()["retryable"] is True
    assert "hunter2" not in answer.text


async def test_when_a_key_was_used_is_noted(tmp_path: Path) -> None:
    """The list of keys can say which are no longer used; a request does not wait for that to be written."""
    from agent_worker.control.authenticator import Authenticator
    from agent_worker.control.embedded import EmbeddedControlPlane
    from agent_worker.domain.api_key import hash_of
    from agent_worker.store.keys import list_keys

    settings = serve_settings(tmp_path)
    used, unused = await make_key(settings, scope="read"), await make_key(settings, scope="admin")
    control = EmbeddedControlPlane(settings)
    authenticator = Authenticator(control)
    assert await authenticator.find(hash_of(used)) is not None
    await authenticator.note_uses()
    async with control.reading() as connection:
        noted = {row["hash"]: row["last_used_at"] for row in await list_keys(connection, settings.organization_id)}
    await control.aclose()
    assert noted[hash_of(used)] is not None
    assert noted[hash_of(unused)] is None
