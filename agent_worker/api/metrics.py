"""`GET /metrics` of `serve`, for Prometheus, and the counting of requests it tells about."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_worker import metrics
from agent_worker.api.requests import bearer
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import Direction, utc_now
from agent_worker.errors import ControlPlaneError, SettingsError
from agent_worker.settings import Settings
from agent_worker.store.gauges import Gauges, gauges

MIN_TOKEN_LENGTH = 16
NO_ROUTE = "none"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
EVENT_STREAM = b"text/event-stream"


def metrics_routes(control: EmbeddedControlPlane, settings: Settings) -> APIRouter:
    """Return the route, or none where no token is set; asking it needs the token, and no database.

    Raises:
        SettingsError: the token is too short.
    """
    token = settings.metrics_token.get_secret_value()
    if not token:
        return APIRouter()
    if len(token) < MIN_TOKEN_LENGTH:
        raise SettingsError(
            "metrics_token_invalid",
            f"AGENT_WORKER_METRICS_TOKEN must be {MIN_TOKEN_LENGTH} or more characters.",
            remedy="Make one with `openssl rand -hex 32`, and give it to Prometheus as `authorization.credentials`.",
        )
    router = APIRouter(dependencies=[Depends(bearer(token))])

    @router.get("/metrics", include_in_schema=False)
    async def tell_metrics() -> Response:
        await _measure(control)
        return Response(metrics.render(metrics.SERVE), headers={"content-type": metrics.CONTENT_TYPE})

    return router


async def _measure(control: EmbeddedControlPlane) -> None:
    """Set the gauges to what the database says; where it says nothing, they stay as they were."""
    try:
        async with control.reading() as connection:
            found = await gauges(connection)
    except ControlPlaneError:
        metrics.DATABASE_UP.set(0)
        return
    metrics.DATABASE_UP.set(1)
    _show(found)


def _show(found: Gauges) -> None:
    now = utc_now()
    for direction in Direction:
        metrics.CALLS_OPEN.labels(direction).set(found.open_calls.get(direction, 0))
    metrics.DELIVERIES_PENDING.clear()
    for event, count in found.deliveries.items():
        metrics.DELIVERIES_PENDING.labels(event).set(count)
    metrics.JOBS.clear()
    for (kind, status), count in found.jobs.items():
        metrics.JOBS.labels(kind, status).set(count)
    for gauge, oldest in (
        (metrics.DELIVERY_AGE_SECONDS, found.oldest_delivery),
        (metrics.JOB_AGE_SECONDS, found.oldest_job),
    ):
        gauge.set(0 if oldest is None else (now - oldest).total_seconds())


class Counted:
    """ASGI middleware: counts requests by the template of their route, never by their path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send)
        started = time.perf_counter()
        try:
            await self._app(scope, receive, answer)
        finally:
            answer.over()
            labels = (scope["method"] if scope["method"] in METHODS else NO_ROUTE, _template(scope))
            metrics.API_REQUESTS.labels(*labels, answer.status).inc()
            if not answer.streams:
                metrics.API_REQUEST_SECONDS.labels(*labels).observe(time.perf_counter() - started)


class _Answer:
    """Passes an answer on and notes its status; 500 where none was begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 500
        self.streams = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            content_type = dict(message.get("headers", ())).get(b"content-type", b"")
            if content_type.startswith(EVENT_STREAM):
                self.streams = True
                metrics.API_STREAMS.inc()
        await self._send(message)

    def over(self) -> None:
        """The answer has ended, well or not."""
        if self.streams:
            metrics.API_STREAMS.dec()


def _template(scope: Scope) -> str:
    route: Any = scope.get("route")
    return str(getattr(route, "path", NO_ROUTE))
