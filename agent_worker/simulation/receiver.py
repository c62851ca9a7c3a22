"""The demo's own webhook receiver, on loopback: takes what the dispatcher sends and checks its signature."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

PATH = "/calls"
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Received:
    """One webhook that came in.

    Attributes:
        verified: whether it is signed with our secret, and fresh.
    """

    headers: dict[str, str]
    body: str
    verified: bool

    @property
    def event(self) -> str:
        """What it tells, by its own word."""
        told: Any = json.loads(self.body)
        return str(told.get("type", ""))


@dataclass(frozen=True)
class Receiver:
    """Where webhooks are taken, and what came."""

    url: str
    secret: str
    received: list[Received]


@asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[Receiver]:
    """Take webhooks on a free port while the block runs."""
    received: list[Received] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.text()
        headers = {name.lower(): value for name, value in request.headers.items() if name.lower().startswith("webhook")}
        try:
            Webhook(secret).verify(body, headers)
            verified = True
        except WebhookVerificationError:
            verified = False
        received.append(Received(headers, body, verified))
        return web.json_response({"taken": True}, status=200 if verified else 401)

    app = web.Application(client_max_size=MOST_BYTES)
    app.add_routes([web.post(PATH, take)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield Receiver(f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}", secret, received)
    finally:
        await runner.cleanup()
