"""`/v1/calls/{id}/recording`, `/v1/sessions/{id}/recording`: a link to the recording that works for some minutes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse
from pydantic import ConfigDict

from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import CallId, Reader, the_call
from agent_worker.api.shapes import Moment, SnakeShape, errors
from agent_worker.domain.call import utc_now
from agent_worker.recordings.place import Channels
from agent_worker.store.columns import wire_time
from agent_worker.store.recordings import recording_of

Form = Annotated[
    Channels, Query(description="`mono`: both voices mixed. `dual`: the caller on the left, the agent on the right.")
]

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")
_NO_STORE = {"cache-control": "no-store"}


class CallRecording(SnakeShape):
    """Where the recording can be fetched, without a key, until the link expires."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "url": "https://calls.example.com/recordings/kx0b…",
                "expires_at": "2026-03-02T09:35:00.000000Z",
                "channels": "mono",
            }
        },
    )

    url: str
    expires_at: Moment
    channels: Channels


def recordings_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["recordings"])

    @router.get("/calls/{call_id}/recording", responses=errors(404))
    async def get_call_recording(
        request: Request, principal: Reader, call_id: CallId, channels: Form = "mono"
    ) -> CallRecording:
        """Return a link to the Ogg Opus file; 404 `RECORDING_NOT_AVAILABLE` until there is one."""
        url, expires_at = await _link(backend, request, principal, call_id, channels)
        return CallRecording(url=url, expires_at=wire_time(expires_at) or "", channels=channels)

    redirect: dict[int | str, dict[str, Any]] = {302: {"description": "`location` is the link.", "model": None}}

    @router.get(
        "/sessions/{session_id}/recording",
        status_code=302,
        response_class=RedirectResponse,
        responses={**errors(404), **redirect},
    )
    async def get_session_recording(request: Request, principal: Reader, session_id: CallId) -> RedirectResponse:
        """Lead to the Ogg Opus file, both voices mixed; 404 `RECORDING_NOT_AVAILABLE` until there is one."""
        try:
            url, _ = await _link(backend, request, principal, session_id, "mono")
        except ApiError as error:
            raise not_available() if error.code == "NOT_FOUND" else error from error
        return RedirectResponse(url, 302, headers=_NO_STORE)

    return router


def not_available() -> ApiError:
    """Return the answer where there is no recording, or not yet, or not any more."""
    sentence = "The recording is not available: it is not there yet, was not made, or has been erased."
    return ApiError(404, "RECORDING_NOT_AVAILABLE", sentence)


async def _link(
    backend: Backend, request: Request, principal: Principal, call_id: str, channels: Channels
) -> tuple[str, datetime]:
    async with backend.control.reading() as connection:
        await the_call(connection, backend, principal, call_id)
        row = await recording_of(connection, call_id)
    if row is None or row["status"] != "ready" or row["location"] is None or row["purged_at"] is not None:
        raise not_available()
    now = utc_now()
    expires_at = (now + timedelta(seconds=backend.settings.recording_link_seconds)).replace(microsecond=0)
    base_url = _base_url(request)
    recordings = backend.control.recordings
    url = await recordings.link(call_id, row["location"], channels, expires_at, now, base_url=base_url)
    return url, expires_at


def _base_url(request: Request) -> str:
    """Return the address the request came to, where it is one: its header may say anything."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}" if _HOST.fullmatch(host) else ""
