"""What every stand-in is: an HTTP server on loopback whose faults are switched while it runs."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Literal, Self, get_args

from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Handler, Middleware

from agent_worker.testing.stand_ins.sightings import Sightings

Fault = Literal["none", "refuse", "http500", "hang", "hang_midstream", "close_midstream"]
"""refuse: nothing listens. http500: each request fails. hang: requests are taken and never answered.
hang_midstream, close_midstream: an answer begins, then stops, or its connection is closed."""

FAULTS: tuple[str, ...] = get_args(Fault)


class StandIn:
    """One provider. Enter it, point a real plugin at `base_url`, and set `fault` as needed."""

    service = ""

    def __init__(self, sightings: Sightings | None = None, *, delay_ms: float) -> None:
        self.sightings = sightings if sightings is not None else Sightings()
        self.delay_ms = delay_ms
        self.fault: Fault = "none"
        self.port = 0
        self.sockets: set[web.WebSocketResponse] = set()
        self._healed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    def routes(self) -> list[web.RouteDef]:
        """Return what it serves."""
        raise TypeError(f"{type(self).__name__} serves nothing")

    @property
    def base_url(self) -> str:
        """What a plugin is given as base URL."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application(middlewares=[self._faults()], client_max_size=2**24)
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handle_signals=False)
        await self._runner.setup()
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        self._healed.set()
        await self.close_sockets()
        if self._runner is not None:
            await self._runner.cleanup()

    async def set_fault(self, fault: Fault, *, kill: bool = False) -> None:
        """Switch the fault for what comes from now on; `kill` also closes the websockets that are open."""
        before, self.fault = self.fault, fault
        healed, self._healed = self._healed, asyncio.Event()
        healed.set()
        self.sightings.note(self.service, "fault", "", fault)
        if fault == "refuse" and self._site is not None:
            await self._site.stop()
            self._site = None
        elif before == "refuse" and fault != "refuse":
            await self._listen()
        if kill:
            await self.close_sockets()

    async def close_sockets(self) -> None:
        """Close the websockets that are open."""
        for socket in list(self.sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY)

    async def until_healed(self) -> None:
        """Wait for the next change of the fault."""
        await self._healed.wait()

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await self._site.start()
        self.port = int(self._runner.addresses[-1][1])

    def _faults(self) -> Middleware:
        @web.middleware
        async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
            if self.fault == "refuse":
                # A connection kept alive from before outlives the listening socket.
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=503)
            if self.fault == "http500":
                self.sightings.note(self.service, "refused", "", request.path)
                return web.json_response({"error": {"message": "internal error", "type": "server_error"}}, status=500)
            if self.fault == "hang":
                self.sightings.note(self.service, "hanging", "", request.path)
                await self.until_healed()
                if request.transport is not None:
                    request.transport.abort()
                return web.Response(status=503)
            return await handler(request)

        return middleware
