"""A stand-in for Cartesia's speech synthesis: contexts over one websocket, and whole clips over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from agent_worker.testing.audio import Pcm
from agent_worker.testing.stand_ins.server import StandIn
from agent_worker.testing.stand_ins.sightings import Sightings
from agent_worker.testing.voice import AGENT_VOICE, render

_CHUNK_SECONDS = 0.1
_PAUSE_SECONDS = 0.08


@dataclass
class _Context:
    """One utterance in the making: texts go in, audio comes out in order."""

    name: str
    texts: asyncio.Queue[tuple[str, float] | None] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None
    seconds: float = 0.0


class CartesiaStandIn(StandIn):
    """`GET /tts/websocket`, `POST /tts/bytes`, and the voices of `library` by `GET /voices`.

    The first audio of a text leaves `delay_ms` after the text came, the rest `speed` times faster than it
    plays. Speech begins with its first sample, so that a clipped beginning can be measured, and ends with
    80 ms of silence.
    """

    service = "cartesia"

    def __init__(
        self,
        sightings: Sightings | None = None,
        *,
        delay_ms: float = 150,
        speed: float = 8.0,
        voice: str = AGENT_VOICE,
    ) -> None:
        super().__init__(sightings, delay_ms=delay_ms)
        self.speed = speed
        self.voice = voice
        self.voices: list[str] = []  # ids asked for, in the order of the requests
        self.library: list[tuple[str, str]] = []  # id and name of each voice of the account
        self.keys: list[str] = []  # what the voices were asked for with
        self._number = 0

    def routes(self) -> list[web.RouteDef]:
        """Return what it serves."""
        return [
            web.get("/tts/websocket", self._websocket),
            web.post("/tts/bytes", self._bytes),
            web.get("/voices", self._voices),
        ]

    async def warm(self, *texts: str) -> None:
        """Render texts beforehand, so that their delay is exact."""
        for text in texts:
            await asyncio.to_thread(render, text.strip(), 24_000, voice=self.voice)

    async def _speech(self, text: str, rate: int) -> Pcm:
        speech = await asyncio.to_thread(render, text.strip(), rate, voice=self.voice)
        spoken: Pcm = np.concatenate((speech, np.zeros(int(rate * _PAUSE_SECONDS), dtype=np.int16)))
        return spoken

    async def _voices(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("x-api-key", ""))
        limit, after = int(request.query.get("limit", "10")), request.query.get("starting_after")
        ids = [voice_id for voice_id, _ in self.library]
        start = ids.index(after) + 1 if after is not None else 0
        page = self.library[start : start + limit]
        rows = [{"id": voice_id, "name": name, "language": "en", "is_public": True} for voice_id, name in page]
        return web.json_response({"data": rows, "has_more": start + limit < len(self.library)})

    async def _bytes(self, request: web.Request) -> web.StreamResponse:
        received = time.monotonic()
        body = await request.json()
        self._note_voice(body)
        self._number += 1
        connection = f"bytes-{self._number}"
        self.sightings.note(self.service, "first_text", connection, body["transcript"], at=received)
        speech = await self._speech(body["transcript"], _rate(body))
        await asyncio.sleep(max(0.0, received + self.delay_ms / 1000 - time.monotonic()))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        await response.prepare(request)
        self.sightings.note(self.service, "first_audio", connection, body["transcript"])
        for number, chunk in enumerate(_chunks(speech, _rate(body))):
            if number == 2 and self.fault in ("hang_midstream", "close_midstream"):
                if self.fault == "hang_midstream":
                    await self.until_healed()
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionResetError("closed in the middle of a clip")
            await response.write(chunk)
            await asyncio.sleep(_CHUNK_SECONDS / self.speed)
        return response

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        contexts: dict[str, _Context] = {}
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._take(socket, contexts, json.loads(message.data))
        finally:
            self.sockets.discard(socket)
            tasks = [context.task for context in contexts.values() if context.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return socket

    def _note_voice(self, body: Mapping[str, Any]) -> None:
        voice = body.get("voice")
        self.voices.append(str(voice.get("id", "")) if isinstance(voice, Mapping) else "")

    def _take(self, socket: web.WebSocketResponse, contexts: dict[str, _Context], body: Mapping[str, Any]) -> None:
        name = str(body.get("context_id", ""))
        if body.get("cancel"):
            context = contexts.pop(name, None)
            if context is not None and context.task is not None:
                context.task.cancel()
            return
        context = contexts.get(name)
        if context is None:
            context = contexts[name] = _Context(name)
            self._note_voice(body)
            context.task = asyncio.get_running_loop().create_task(self._speak(socket, context, dict(body)))
            self.sightings.note(self.service, "first_text", name, str(body.get("transcript", "")).strip())
        transcript = str(body.get("transcript", ""))
        if transcript.strip():
            context.texts.put_nowait((transcript, time.monotonic()))
        if not body.get("continue"):
            context.texts.put_nowait(None)

    async def _speak(self, socket: web.WebSocketResponse, context: _Context, body: Mapping[str, Any]) -> None:
        if self.fault == "hang":
            # The socket was open before: it takes the text and stays silent.
            await self.until_healed()
            return
        try:
            if self.fault == "http500":
                await self._send(socket, context, {"type": "error", "error": "internal error", "status_code": 500})
                return
            rate, first = _rate(body), True
            while (item := await context.texts.get()) is not None:
                text, received = item
                speech = await self._speech(text, rate)
                await asyncio.sleep(max(0.0, received + self.delay_ms / 1000 - time.monotonic()))
                if body.get("add_timestamps"):
                    await self._send(
                        socket,
                        context,
                        {"type": "timestamps", "word_timestamps": _words(text, speech, rate, context)},
                    )
                if first:
                    self.sightings.note(self.service, "first_audio", context.name, text.strip())
                    first = False
                if not await self._stream(socket, context, speech, rate):
                    return
                context.seconds += speech.size / rate
            await self._send(socket, context, {"type": "done"}, done=True)
            self.sightings.note(self.service, "done", context.name)
        except ConnectionResetError:
            self.sightings.note(self.service, "cancelled", context.name)

    async def _stream(self, socket: web.WebSocketResponse, context: _Context, speech: Pcm, rate: int) -> bool:
        started = time.monotonic()
        for number, chunk in enumerate(_chunks(speech, rate)):
            if number == 2 and self.fault == "hang_midstream":
                await self.until_healed()
                return False
            if number == 2 and self.fault == "close_midstream":
                await socket.close()
                return False
            await self._send(
                socket, context, {"type": "chunk", "data": base64.b64encode(chunk).decode(), "step_time": 1.0}
            )
            await asyncio.sleep(max(0.0, started + (number + 1) * _CHUNK_SECONDS / self.speed - time.monotonic()))
        return True

    async def _send(
        self, socket: web.WebSocketResponse, context: _Context, body: dict[str, Any], *, done: bool = False
    ) -> None:
        await socket.send_str(json.dumps({"status_code": 200, "done": done, "context_id": context.name} | body))


def _rate(body: Mapping[str, Any]) -> int:
    return int(body["output_format"]["sample_rate"])


def _chunks(speech: Pcm, rate: int) -> list[bytes]:
    size = int(rate * _CHUNK_SECONDS)
    return [speech[at : at + size].tobytes() for at in range(0, speech.size, size)]


def _words(text: str, speech: Pcm, rate: int, context: _Context) -> dict[str, list[Any]]:
    words = text.split()
    letters = sum(len(word) + 1 for word in words)
    starts: list[float] = []
    ends: list[float] = []
    at = context.seconds
    for word in words:
        length = speech.size / rate * (len(word) + 1) / letters
        starts.append(round(at, 3))
        at += length
        ends.append(round(at, 3))
    return {"words": words, "start": starts, "end": ends}
