"""A webhook receiver on loopback that keeps what it was sent, checks signatures, and answers well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

Fault = Literal["none", "hang", "close", "close_midstream", "drip", "huge", "gzip_bomb"]
"""hang: takes the request and never answers. close: closes the connection instead of answering.
close_midstream: closes it within the body. drip: sends a byte of the body every 50 ms, without end.
huge: a body of 8 MiB. gzip_bomb: 16 MiB of zeros, compressed though nobody asked for it."""

PATH = "/hook"


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(2**24), compresslevel=6)


@dataclass(frozen=True)
class HookRequest:
    """One request that came in.

    Attributes:
        headers: by lower-case name.
        at: monotonic clock, s.
        verified: whether the signature is right and fresh; None where the receiver knows no secret.
        connection: the client's port, so requests over one connection have the same.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    verified: bool | None
    connection: int

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class _Answer:
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_ms: float = 0
    fault: Fault = "none"


class HookReceiver:
    """Enter it, hand `url` to an agent's webhook, and say with `answer_with` what it answers; at first `{}`.

    Args:
        secret: what requests should be signed with: `whsec_…`, or plain text.
        tls: the server's certificate; without it the receiver speaks plain http.
        port: to listen on; any free one where not given.
    """

    def __init__(self, *, secret: str | None = None, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.requests: list[HookRequest] = []
        self.port = port
        self._tls = tls
        self._webhook = None if secret is None else Webhook(secret if secret.startswith("whsec_") else secret.encode())
        self._answers: dict[str, _Answer] = {}
        self._arrived = asyncio.Condition()
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where requests are taken."""
        return self.url_of(PATH)

    def url_of(self, path: str) -> str:
        """Return the URL of a path, which may have an answer of its own."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    def answer_with(
        self,
        body: object = None,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        delay_ms: float = 0,
        fault: Fault = "none",
        path: str = PATH,
    ) -> None:
        """Say what is answered from now on.

        Args:
            body: bytes as they are, None for an empty body, anything else as JSON.
            delay_ms: from the request to the answer, ms.
            path: which requests are so answered; other paths without an answer of their own are too if it is `PATH`.
        """
        given = dict(headers or {})
        if isinstance(body, bytes):
            raw = body
        elif body is None:
            raw = b""
        else:
            raw = json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        self._answers[path] = _Answer(raw, status, given, delay_ms, fault)

    def redirect_to(self, url: str, *, status: int = 307) -> None:
        """Answer with a redirect from now on."""
        self.answer_with(status=status, headers={"Location": url})

    async def wait_for_requests(self, count: int, *, timeout_seconds: float = 10) -> list[HookRequest]:
        """Return the requests as soon as there are so many.

        Raises:
            TimeoutError: fewer came in time.
        """
        async with asyncio.timeout(timeout_seconds), self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= count)
        return list(self.requests)

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1_024, ssl_context=self._tls)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        connection = 0 if request.transport is None else request.transport.get_extra_info("peername")[1]
        verified = self._verified(headers, body)
        seen = HookRequest(request.path, headers, body, time.monotonic(), verified, connection)
        async with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        answer = self._answers.get(request.path) or self._answers.get(PATH) or _Answer(b"{}")
        await self._pause(answer.delay_ms / 1000)
        if answer.fault != "none":
            return await self._misbehave(request, answer.fault)
        return web.Response(body=answer.body, status=answer.status, headers=dict(answer.headers))

    def _verified(self, headers: dict[str, str], body: bytes) -> bool | None:
        if self._webhook is None:
            return None
        try:
            self._webhook.verify(body, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):
            return False
        return True

    async def _misbehave(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault == "huge":
            return web.Response(body=b" " * 2**23)
        if fault == "gzip_bomb":
            return web.Response(body=_bomb(), headers={"Content-Encoding": "gzip"})
        if fault in ("close_midstream", "drip"):
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(b"{")
            with contextlib.suppress(ConnectionError):  # the client has had enough
                while fault == "drip" and not self._closing.is_set():
                    await response.write(b" ")
                    await self._pause(0.05)
        elif fault == "hang":
            await self._closing.wait()
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=503)

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
