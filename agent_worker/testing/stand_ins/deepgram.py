"""A stand-in for Deepgram's streaming speech-to-text: nova (v1/listen) and flux (v2/listen)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import WSMsgType, web

from agent_worker.testing.audio import Pcm
from agent_worker.testing.stand_ins.hearing import RATE, ClipBook, Ear, Script
from agent_worker.testing.stand_ins.server import StandIn
from agent_worker.testing.stand_ins.sightings import Sightings

_INTERIM_SECONDS = 0.25
_MIN_QUIET_SECONDS = 0.15


class DeepgramStandIn(StandIn):
    """A websocket that finds utterances in the audio itself.

    An utterance ends where the audio turns quiet; its final transcript leaves `delay_ms` after the last loud
    chunk came. Its words are those of the registered clip it sounds like (`register_clip`); else the next
    line of `script`, counted per connection; else none, and nothing is sent.
    """

    service = "deepgram"

    def __init__(
        self, sightings: Sightings | None = None, *, script: Sequence[str] = (), delay_ms: float = 300
    ) -> None:
        super().__init__(sightings, delay_ms=delay_ms)
        self.script: list[str] = list(script)
        self.clips = ClipBook()
        self.queries: list[dict[str, str]] = []
        """Query parameters of each connection."""

    @property
    def base_url(self) -> str:
        """What a plugin is given as base URL (nova; flux: `flux_url`)."""
        return f"http://127.0.0.1:{self.port}/v1/listen"

    @property
    def flux_url(self) -> str:
        """Base URL for the flux plugin."""
        return f"http://127.0.0.1:{self.port}/v2/listen"

    def routes(self) -> list[web.RouteDef]:
        """Return what it serves."""
        return [web.get("/{path:.*}", self._listen_to)]

    def register_clip(self, text: str, pcm: Pcm, rate: int) -> None:
        """Recognise this recording as these words."""
        self.clips.register(text, pcm, rate)

    async def _listen_to(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.add(socket)
        self.queries.append(dict(request.query))
        listening = _Listening(self, socket, f"stream-{len(self.queries)}", request)
        try:
            await listening.run()
        finally:
            self.sockets.discard(socket)
        return socket


class _Listening:
    """One connection."""

    def __init__(self, owner: DeepgramStandIn, socket: web.WebSocketResponse, name: str, request: web.Request) -> None:
        self._owner = owner
        self._socket = socket
        self._name = name
        self._flux = request.query.get("model", "").startswith("flux") or request.path.startswith("/v2")
        self._ear = Ear(int(request.query.get("sample_rate", "16000")))
        self._script = Script(tuple(owner.script))
        self._loop = asyncio.get_running_loop()
        self._outbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._final_due: asyncio.TimerHandle | None = None
        self._overdue = False
        self._interim_at = 0.0
        self._turn = 0

    async def run(self) -> None:
        """Hear until the client closes."""
        sender = self._loop.create_task(self._send_all())
        try:
            if self._flux:
                self._say({"type": "Connected", "request_id": self._name, "sequence_id": 0})
            async for message in self._socket:
                if message.type is WSMsgType.BINARY:
                    await self._hear(message.data)
                elif message.type is WSMsgType.TEXT and json.loads(message.data).get("type") == "CloseStream":
                    break
                elif message.type is WSMsgType.TEXT and json.loads(message.data).get("type") == "Configure":
                    self._say({"type": "ConfigureSuccess", "request_id": self._name})
        finally:
            if self._final_due is not None:
                self._final_due.cancel()
            self._outbox.put_nowait(None)
            await sender
            await self._socket.close()

    async def _send_all(self) -> None:
        while (body := await self._outbox.get()) is not None:
            if self._owner.fault in ("hang_midstream", "hang") and body["type"] != "Connected":
                continue
            try:
                await self._socket.send_str(json.dumps(body))
            except ConnectionResetError:
                return

    def _say(self, body: dict[str, Any]) -> None:
        self._outbox.put_nowait(body)

    async def _hear(self, data: bytes) -> None:
        ear = self._ear
        before = ear.started_at
        loud = ear.hear(data)
        if ear.started_at is None:
            return
        if not loud:
            if self._overdue:
                self._finish()
            return
        self._overdue = False
        if before is None:
            self._owner.sightings.note("deepgram", "speech_started", self._name)
            self._interim_at = self._loop.time() + _INTERIM_SECONDS
            if not self._flux:
                self._say({"type": "SpeechStarted", "channel": [0, 1], "timestamp": round(ear.start_seconds, 3)})
        if self._owner.fault == "close_midstream":
            await self._socket.close()
            return
        if self._final_due is not None:
            self._final_due.cancel()
        self._final_due = self._loop.call_later(self._owner.delay_ms / 1000, self._finish)
        if self._loop.time() >= self._interim_at:
            self._interim_at = self._loop.time() + _INTERIM_SECONDS
            self._interim()

    def _interim(self) -> None:
        text = self._owner.clips.guess(self._ear.utterance())
        if not text:
            words = self._script.current().split()
            text = " ".join(words[: max(1, len(words) // 2)])
        if text:
            self._transcript(text, final=False)

    def _finish(self) -> None:
        ear, sightings = self._ear, self._owner.sightings
        # A busy machine delivers audio late: an utterance ends by what is heard, not by what has not come yet.
        self._overdue = ear.quiet_seconds < _MIN_QUIET_SECONDS
        if self._overdue:
            return
        sightings.note("deepgram", "speech_ended", self._name, at=ear.last_loud_at)
        text = self._owner.clips.recognise(ear.utterance())
        if text is None:
            text = self._script.current()
            self._script.at += 1
        if text:
            self._transcript(text, final=True)
            sightings.note("deepgram", "final", self._name, text)
        else:
            sightings.note("deepgram", "unrecognised", self._name, f"{ear.utterance().size / RATE:.2f} s")
        ear.reset()

    def _transcript(self, text: str, *, final: bool) -> None:
        ear = self._ear
        words = _spread(text, ear.start_seconds, ear.heard_seconds)
        if self._flux:
            event = "EndOfTurn" if final else "Update"
            if not final and self._turn % 2 == 0:
                self._turn += 1
                event = "StartOfTurn"
            elif final and self._turn % 2 == 0:
                self._say(self._turn_info("StartOfTurn", text, words))
                self._turn += 1
            self._say(self._turn_info(event, text, words))
            self._turn += 1 if final else 0
            return
        alternative = {"transcript": text, "confidence": 0.98, "words": words}
        self._say(
            {
                "type": "Results",
                "channel_index": [0, 1],
                "is_final": final,
                "speech_final": final,
                "start": round(ear.start_seconds, 3),
                "duration": round(ear.heard_seconds - ear.start_seconds, 3),
                "channel": {"alternatives": [alternative]},
                "metadata": {"request_id": self._name},
            }
        )

    def _turn_info(self, event: str, text: str, words: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "type": "TurnInfo",
            "event": event,
            "request_id": self._name,
            "turn_index": self._turn // 2,
            "transcript": text,
            "words": words,
            "audio_window_start": round(self._ear.start_seconds, 3),
            "audio_window_end": round(self._ear.heard_seconds, 3),
            "end_of_turn_confidence": 0.9 if event == "EndOfTurn" else 0.1,
        }


def _spread(text: str, start: float, end: float) -> list[dict[str, Any]]:
    words = text.split()
    step = (end - start) / max(1, len(words))
    return [
        {
            "word": word.strip(".,!?").lower(),
            "punctuated_word": word,
            "start": round(start + index * step, 3),
            "end": round(start + (index + 1) * step, 3),
            "confidence": 0.98,
        }
        for index, word in enumerate(words)
    ]
