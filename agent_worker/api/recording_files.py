"""`/recordings/{token}`: hands a recording to whoever has a link to it, in pieces, so that a player can seek."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response, StreamingResponse

from agent_worker.api.byte_range import Unsatisfiable, asked_range
from agent_worker.api.errors import ApiError
from agent_worker.api.recordings import not_available
from agent_worker.api.shapes import ErrorBody
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.links import MOST_TOKEN_CHARS, PATH, Link
from agent_worker.recordings.place import MEDIA_TYPE, Readable, pieces
from agent_worker.store.recordings import recording_of

Token = Annotated[str, Path(max_length=MOST_TOKEN_CHARS, description="As `GET /v1/calls/{id}/recording` gave it.")]

_AUDIO: dict[str, Any] = {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 403, 404, 416, 500, 502, 503)
}


def recording_file_routes(control: EmbeddedControlPlane) -> APIRouter:
    """Return the routes; the token is all they ask for."""
    router = APIRouter(tags=["recordings"])
    about = {
        200: {**_AUDIO, "description": "The whole file."},
        206: {**_AUDIO, "description": "The range that was asked for."},
        304: {"description": "It has not changed."},
        **_ERRORS,
    }

    @router.get(f"{PATH}/{{token}}", response_class=Response, responses=about)
    async def get_recording_file(request: Request, token: Token) -> Response:
        """Return the Ogg Opus file, or the range of it that `Range` asks for."""
        return await _answer(control, request, token)

    @router.head(f"{PATH}/{{token}}", include_in_schema=False)
    async def head_recording_file(request: Request, token: Token) -> Response:
        return await _answer(control, request, token)

    return router


async def _answer(control: EmbeddedControlPlane, request: Request, token: str) -> Response:
    link = _link(control, token)
    async with control.reading() as connection:
        row = await recording_of(connection, link.call_id)
    # asked at each request: what was purged is gone, whoever still has a link
    if row is None or row["status"] != "ready" or row["location"] is None or row["purged_at"] is not None:
        raise not_available()
    async with AsyncExitStack() as stack:
        try:
            recording = await stack.enter_async_context(control.recordings.store.open(row["location"]))
        except RecordingStoreError as error:
            raise _not_readable(error) from error
        headers = _headers(link, row["location"], recording.size)
        if _same(request.headers.get("if-none-match", ""), headers["etag"]):
            return Response(status_code=304, headers=headers)
        found = _range(request, headers["etag"], recording.size)
        start, end = found or (0, recording.size)
        headers["content-length"] = str(end - start)
        if found:
            headers["content-range"] = f"bytes {start}-{end - 1}/{recording.size}"
        status = 206 if found else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
        body = _stream(recording, start, end, link, stack.pop_all())
    return StreamingResponse(body, status, headers=headers, media_type=MEDIA_TYPE)


def _link(control: EmbeddedControlPlane, token: str) -> Link:
    link = control.recordings.signer.read(token)
    if link is None:
        sentence = "The link is not one of ours: ask GET /v1/calls/{id}/recording for one."
        raise ApiError(403, "LINK_INVALID", sentence, retryable=False)
    if link.expires <= time.time():
        sentence = "The link has expired: ask GET /v1/calls/{id}/recording for another."
        raise ApiError(403, "LINK_EXPIRED", sentence, retryable=False)
    return link


def _not_readable(error: RecordingStoreError) -> ApiError:
    if not error.retryable:
        return not_available()
    return ApiError(502, "RECORDING_STORE_FAILED", "The recording cannot be read just now.", retryable=True)


def _headers(link: Link, location: str, size: int) -> dict[str, str]:
    # what is ready never changes: which file it is says what is in it
    etag = hashlib.sha256(f"{location} {size} {link.channels}".encode()).hexdigest()[:32]
    suffix = "" if link.channels == "mono" else "-dual"
    return {
        "accept-ranges": "bytes",
        "cache-control": f"private, max-age={max(0, int(link.expires - time.time()))}",
        "content-disposition": f'inline; filename="{link.call_id}{suffix}.ogg"',
        "etag": f'"{etag}"',
        "x-content-type-options": "nosniff",
    }


def _same(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


def _range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    asked = request.headers.get("range", "")
    condition = request.headers.get("if-range")
    if not asked or (condition is not None and condition.strip() != etag):
        return None
    try:
        return asked_range(asked, size)
    except Unsatisfiable:
        sentence = f"The recording has {size} bytes."
        raise ApiError(
            416, "RANGE_NOT_SATISFIABLE", sentence, retryable=False, headers={"content-range": f"bytes */{size}"}
        ) from None


async def _stream(
    recording: Readable, start: int, end: int, link: Link, open_file: AsyncExitStack
) -> AsyncIterator[bytes]:
    async with open_file:
        async for piece in pieces(recording, start, end, link.channels):
            yield piece
