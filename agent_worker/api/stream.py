"""`GET /v1/sessions/{id}/stream`: a call as it happens, as server-sent events (contract 1.4).

A client resumes with the index of the last turn and the `created_at` of the last event it has, so nothing is kept
here between two connections.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agent_worker.api.backend import Backend, Streaming
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import CallId, Reader, the_call
from agent_worker.api.sessions import session_turn
from agent_worker.api.shapes import errors
from agent_worker.control.feed import Feed, Happening, WatchedCall
from agent_worker.store.columns import wire_time
from agent_worker.store.queries import event_record, turn_record

START = "-1:0"
OVERLAP_MS = 2_000
"""What of the events before the cursor is told again: their times are cut to the millisecond on the way."""

MOST_AT_ONCE = 100
"""Frames of a backlog that are made before they are sent."""

Cursor = Annotated[
    str,
    Query(
        pattern=r"^(-1|\d{1,9}):\d{1,14}$",
        description="`<index of the last turn>:<created_at of the last event, ms since 1970>`; `-1:0` from the start.",
        examples=["-1:0", "4:1772443812345"],
    ),
]

_EXAMPLE = """\
event: status
data: {"status": "active", "endedAt": null}

event: event
data: {"id": "5f2b6c1e:2", "event_type": "call.answered", "created_at": "2026-03-02T09:30:04.000000Z", "…": "…"}

event: transcript
data: {"id": "5f2b6c1e:0", "index": 0, "source": "agent", "text": "Good morning.", "…": "…"}

event: end
data: {"reason": "session_ended"}

"""
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Frames, each ended by an empty line: `status`, `event`, `transcript`, and at last `end` with "
        "the reason `session_ended`, or `timeout` where the client is to come again.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }
}


def stream_routes(backend: Backend) -> APIRouter:
    """Return the route."""
    settings = backend.streaming
    router = APIRouter(tags=["sessions"])
    places = _Places(settings)

    @router.get(
        "/sessions/{session_id}/stream",
        response_class=StreamingResponse,
        responses={**errors(404), **_DOCUMENTED},
    )
    async def stream_session(principal: Reader, session_id: CallId, cursor: Cursor = START) -> StreamingResponse:
        """Tell what happens on a call: what there is, then each turn and event as it comes, then the end."""
        async with backend.control.reading() as connection:
            await the_call(connection, backend, principal, session_id)
        frames = _frames(backend.control.feed, session_id, _Position.of(cursor), settings)
        return _EventStream(frames, places.take(principal.key_id))

    return router


class _Places:
    """How many streams there are."""

    def __init__(self, settings: Streaming) -> None:
        self._settings = settings
        self._of_key: Counter[str] = Counter()

    def take(self, key_id: str) -> Callable[[], None]:
        """Take a place; returns what gives it back.

        Raises:
            ApiError: there is none.
        """
        if self._of_key[key_id] >= self._settings.per_key or self._of_key.total() >= self._settings.at_most:
            sentence = "Too many streams are open; close one, or come again later."
            raise ApiError(429, "RATE_LIMITED", sentence, retryable=True, headers={"retry-after": "5"})
        self._of_key[key_id] += 1

        def give_back() -> None:
            self._of_key[key_id] -= 1
            if self._of_key[key_id] <= 0:
                del self._of_key[key_id]

        return give_back


class _EventStream(StreamingResponse):
    """A response of frames that gives its place back however it ends."""

    def __init__(self, frames: AsyncIterator[bytes], release: Callable[[], None]) -> None:
        # "x-accel-buffering": a proxy that collects answers would hold back what is live
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(frames, media_type="text/event-stream", headers=headers)
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames until there are no more or the client is gone."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


@dataclass(frozen=True)
class _Position:
    """What a client has."""

    turn: int
    event_ms: int

    @classmethod
    def of(cls, cursor: str) -> _Position:
        turn, _, event_ms = cursor.partition(":")
        return cls(int(turn), int(event_ms))

    def has(self, happening: Happening) -> bool:
        """Return whether the client need not be told of it."""
        if happening.kind == "turn":
            return int(happening.row["index"]) <= self.turn
        return _ms(happening.row["created_at"]) < self.event_ms - OVERLAP_MS


async def _frames(feed: Feed, call_id: str, position: _Position, settings: Streaming) -> AsyncGenerator[bytes, None]:
    async with feed.watch(call_id) as call:
        yield b": connected\n\n"
        async with aclosing(_told(feed, call, position, settings)) as frames:
            async for frame in frames:
                yield frame


async def _told(feed: Feed, call: WatchedCall, position: _Position, settings: Streaming) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.rotate_seconds
    status: dict[str, Any] | None = None
    told = 0
    while True:
        version = call.version
        if call.loaded and status is None:
            status = _status(call)
            yield _frame("status", status)
        while told < len(call.known):
            some = call.known[told : told + MOST_AT_ONCE]
            told += len(some)
            if frames := b"".join(_encoded(some, position)):
                yield frames
        if call.loaded and status != _status(call):
            status = _status(call)
            yield _frame("status", status)
        if call.over and told == len(call.known):
            yield _frame("end", {"reason": "session_ended"})
            return
        left = until - loop.time()
        if left <= 0 or feed.closing:
            yield _frame("end", {"reason": "timeout"})
            return
        if not await call.change(version, min(left, settings.heartbeat_seconds)) and left > settings.heartbeat_seconds:
            yield b": still here\n\n"


def _encoded(happenings: list[Happening], position: _Position) -> Iterator[bytes]:
    for happening in happenings:
        if not position.has(happening):
            name, shape = ("transcript", _turn) if happening.kind == "turn" else ("event", event_record)
            yield _frame(name, shape(happening.row))


def _frame(name: str, data: dict[str, Any]) -> bytes:
    # ASCII: a client that takes every separator Unicode knows for the end of a line still sees one line
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _status(call: WatchedCall) -> dict[str, Any]:
    return {"status": call.status, "endedAt": wire_time(call.ended_at)}


def _turn(row: dict[str, Any]) -> dict[str, Any]:
    return session_turn(turn_record(row))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
