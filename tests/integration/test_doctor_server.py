"""What stands where LiveKit should: other servers, silent ones, broken TLS, a proxy without WebSockets, a late clock."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_worker.doctor import server
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Finding, Status
from agent_worker.settings import Settings
from agent_worker.testing.processes import free_port
from tests.integration.loopback_tls import Authority

Handler = Callable[[web.Request], Any]
SECRET = "a-secret-of-thirty-two-characters!"


@asynccontextmanager
async def served(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def asked(url: str) -> list[Finding]:
    settings = Settings(LIVEKIT_URL=url, LIVEKIT_API_KEY="key", LIVEKIT_API_SECRET=SECRET)  # type: ignore[call-arg]
    exam = Examination(lambda: [], env={}, settings=settings, catalog=None)
    await server.check_server(exam)
    return exam.findings


async def rooms(request: web.Request) -> web.StreamResponse:
    """LiveKit, as far as it is asked here."""
    if request.path == "/agent":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket
    assert request.headers["Authorization"].startswith("Bearer ey")
    return web.json_response({"rooms": []})


async def test_what_answers_like_livekit_is_livekit() -> None:
    """Rooms are listed and the socket opens."""
    async with served(rooms) as port:
        [finding] = await asked(f"ws://127.0.0.1:{port}")

    assert (finding.status, finding.code) == (Status.OK, "")


async def test_a_proxy_that_passes_no_websocket() -> None:
    """HTTP alone is not enough: workers register over a socket."""

    async def http_only(request: web.Request) -> web.StreamResponse:
        return web.Response(status=404) if request.path == "/agent" else await rooms(request)

    async with served(http_only) as port:
        [finding] = await asked(f"ws://127.0.0.1:{port}")

    assert (finding.status, finding.code) == (Status.FAILED, "no_websocket")


async def test_a_clock_that_is_off_is_a_warning_while_the_key_is_taken() -> None:
    """The server says what time it is."""

    async def late(request: web.Request) -> web.StreamResponse:
        answer = await rooms(request)
        if request.path != "/agent":
            answer.headers["Date"] = "Sat, 01 Jan 2000 00:00:00 GMT"
        return answer

    async with served(late) as port:
        findings = await asked(f"ws://127.0.0.1:{port}")

    assert [(finding.status, finding.code) for finding in findings] == [(Status.WARNING, "clock"), (Status.OK, "")]


async def test_a_certificate_nobody_knows(tmp_path: Path) -> None:
    """A certificate of an unknown authority is told from a port without TLS."""
    tls = Authority(tmp_path).server("localhost")
    async with served(rooms, tls=tls) as port:
        [untrusted] = await asked(f"wss://127.0.0.1:{port}")
    async with served(rooms) as port:
        [plain] = await asked(f"wss://127.0.0.1:{port}")

    assert (untrusted.status, untrusted.code) == (Status.FAILED, "certificate")
    assert "SSL_CERT_FILE" in untrusted.remedy
    assert (plain.status, plain.code) == (Status.FAILED, "tls")


async def test_plain_http_to_a_port_with_tls(tmp_path: Path) -> None:
    """The other way round, too."""
    async with served(rooms, tls=Authority(tmp_path).server("localhost")) as port:
        [finding] = await asked(f"ws://127.0.0.1:{port}")

    assert finding.status is Status.FAILED
    assert finding.code in ("no_http", "not_livekit")


async def test_a_server_that_never_answers() -> None:
    """It takes the connection and says nothing."""

    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with served(silent) as port, asyncio.timeout(20):
        [finding] = await asked(f"ws://127.0.0.1:{port}")

    assert (finding.status, finding.code) == (Status.FAILED, "timeout")


@pytest.mark.parametrize(
    ("url", "code"),
    [("", "not_set"), ("livekit.example.com", "url_invalid"), ("ws://127.0.0.1:{free}", "refused")],
)
async def test_addresses_that_lead_nowhere(url: str, code: str) -> None:
    """Missing, malformed, or nobody there."""
    [finding] = await asked(url.format(free=free_port()))

    assert (finding.status, finding.code) == (Status.FAILED, code)
    assert SECRET not in repr(finding)
