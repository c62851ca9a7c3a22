"""All three stand-ins at once, and a port where another process sets faults and reads the log."""

from __future__ import annotations

import base64
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from aiohttp import web

from agent_worker.testing.audio import Pcm
from agent_worker.testing.stand_ins.cartesia import CartesiaStandIn
from agent_worker.testing.stand_ins.deepgram import DeepgramStandIn
from agent_worker.testing.stand_ins.openai import OpenAIStandIn, Rule
from agent_worker.testing.stand_ins.server import FAULTS, StandIn
from agent_worker.testing.stand_ins.sightings import Sightings


class ProviderStandIns:
    """Speech-to-text, a model and text-to-speech on loopback, sharing one log.

    `env` points a worker at them. `POST /__control` on `control_url` takes `{"service": "cartesia",
    "fault": "hang", "kill": true, "delay_ms": 150}` and, where they apply, `rules`, `script`, `clips`
    and `warm`; `GET /__log?since=0` answers the log.
    """

    def __init__(self, *, stt_delay_ms: float = 300, llm_delay_ms: float = 350, tts_delay_ms: float = 150) -> None:
        self.sightings = Sightings()
        self.deepgram = DeepgramStandIn(self.sightings, delay_ms=stt_delay_ms)
        self.openai = OpenAIStandIn(self.sightings, delay_ms=llm_delay_ms)
        self.cartesia = CartesiaStandIn(self.sightings, delay_ms=tts_delay_ms)
        self._control = _Control(self)
        self._stack = AsyncExitStack()

    @property
    def services(self) -> dict[str, StandIn]:
        """The stand-ins by name."""
        return {"deepgram": self.deepgram, "openai": self.openai, "cartesia": self.cartesia}

    @property
    def env(self) -> dict[str, str]:
        """Variables that point the providers' plugins here, with keys that are good for nothing."""
        return {
            "DEEPGRAM_API_KEY": "stand-in",
            "DEEPGRAM_BASE_URL": self.deepgram.base_url,
            "OPENAI_API_KEY": "stand-in",
            "OPENAI_BASE_URL": self.openai.base_url,
            "CARTESIA_API_KEY": "stand-in",
            "CARTESIA_BASE_URL": self.cartesia.base_url,
        }

    @property
    def control_url(self) -> str:
        """Root of the control port."""
        return self._control.base_url

    async def __aenter__(self) -> Self:
        """Start all."""
        for server in (*self.services.values(), self._control):
            await self._stack.enter_async_context(server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all."""
        await self._stack.aclose()

    async def heal(self) -> None:
        """Switch every fault off."""
        for service in self.services.values():
            if service.fault != "none":
                await service.set_fault("none")


class _Control(StandIn):
    """The control port; it has no faults itself."""

    service = "control"

    def __init__(self, owner: ProviderStandIns) -> None:
        super().__init__(owner.sightings, delay_ms=0)
        self._owner = owner

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/__control", self._set), web.get("/__log", self._log)]

    async def _set(self, request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        service = self._owner.services.get(body.get("service", ""))
        if service is None:
            return web.json_response({"error": f"service is one of {sorted(self._owner.services)}"}, status=422)
        if body.get("fault", "none") not in FAULTS:
            return web.json_response({"error": f"fault is one of {sorted(FAULTS)}"}, status=422)
        if "delay_ms" in body:
            service.delay_ms = float(body["delay_ms"])
        if isinstance(service, OpenAIStandIn):
            service.token_ms = float(body.get("token_ms", service.token_ms))
            if "rules" in body:
                service.rules = [Rule(**rule) for rule in body["rules"]]
        if isinstance(service, DeepgramStandIn):
            service.script = list(body.get("script", service.script))
            for clip in body.get("clips", []):
                pcm: Pcm = np.frombuffer(base64.b64decode(clip["pcm"]), dtype=np.int16)
                service.register_clip(clip["text"], pcm, int(clip["rate"]))
        if isinstance(service, CartesiaStandIn):
            await service.warm(*body.get("warm", []))
        if "fault" in body:
            await service.set_fault(body["fault"], kill=bool(body.get("kill")))
        elif body.get("kill"):
            await service.close_sockets()
        return web.json_response({"service": service.service, "fault": service.fault, "delay_ms": service.delay_ms})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self._owner.sightings.as_json(int(request.query.get("since", "0"))))
