"""`POST /v1/livekit/webhook`: what LiveKit's server says of rooms; its own signature opens it, no key of ours."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.requests import body_of
from agent_worker.control.server_events import ServerEvents
from agent_worker.errors import TelephonyError

MAX_BYTES = 65_536
PATH = "/v1/livekit/webhook"


def livekit_webhook_routes(backend: Backend) -> APIRouter:
    """Return the route."""
    router = APIRouter()
    events = ServerEvents(backend.control)

    @router.post(PATH, include_in_schema=False)
    async def take_event(request: Request) -> Response:
        """Take an event; 204 also where it is about nothing of ours, for LiveKit would only send it again."""
        authorization = request.headers.get("authorization", "")
        if not authorization or not backend.settings.livekit_api_key:
            raise _unsigned()
        body = await body_of(request, MAX_BYTES)
        from agent_worker.telephony.server_events import read_event

        try:
            event = read_event(backend.settings, body, authorization)
        except TelephonyError as error:
            raise _unsigned() from error
        if event is not None:
            await events.take(event.id, event.name, event.room, event.at, event.payload)
        return Response(status_code=204)

    return router


def _unsigned() -> ApiError:
    sentence = "This is not signed with the LiveKit key of this deployment."
    return ApiError(401, "UNAUTHORIZED", sentence, retryable=False)
