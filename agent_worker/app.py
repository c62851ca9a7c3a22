"""The control plane as a web application: routes, and what runs beside them. The table of contents of `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from fastapi import FastAPI

from agent_worker import __version__, metrics
from agent_worker.api.auth import Authenticate, Principal, Scope, hash_of
from agent_worker.api.backend import Backend, Streaming
from agent_worker.api.errors import install_errors
from agent_worker.api.gate import Gate
from agent_worker.api.health import health_routes
from agent_worker.api.livekit_webhook import livekit_webhook_routes
from agent_worker.api.metrics import Counted, metrics_routes
from agent_worker.api.open_calls import OpenCalls
from agent_worker.api.openapi import openapi_routes
from agent_worker.api.recording_files import recording_file_routes
from agent_worker.api.recording_intake import recording_intake_routes
from agent_worker.api.v1 import v1_routes
from agent_worker.api.worker_routes import worker_routes
from agent_worker.control.analysis import analysis_runner
from agent_worker.control.authenticator import Authenticator
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.job_runner import JobRunner, host_name
from agent_worker.control.make import make_catalog, make_keeper
from agent_worker.control.recording_jobs import recording_runner
from agent_worker.control.retention import Retention
from agent_worker.control.server_events import LIVEKIT_EVENT, ServerEvents
from agent_worker.control.sweeper import Sweeper
from agent_worker.domain.dialling import DialPolicy
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.settings import Settings
from agent_worker.webhooks.dispatcher import Dispatcher
from agent_worker.webhooks.housekeeping import Housekeeper

logger = logging.getLogger("agent_worker.app")

Loop = Callable[[], Awaitable[None]]

RESTART_SECONDS = 5.0
"""How long a loop that broke rests before it starts anew."""


def create_app(settings: Settings, *, streaming: Streaming | None = None) -> FastAPI:
    """Return the application; its loops run while it does.

    Args:
        streaming: how streams of live calls behave, where not as usual.

    Raises:
        ConfigErrors: all mistakes in all agent files.
        SettingsError: AGENT_WORKER_CONTROL_TOKEN, …_RECORDINGS_URL or …_DIAL_ALLOW cannot be used.
    """
    # this process is the control plane, whatever a worker beside it is told by the same environment
    settings = settings.model_copy(update={"control_url": ""})
    catalog = make_catalog(settings)
    control = EmbeddedControlPlane(settings, catalog)
    keeper = make_keeper(control, catalog)
    backend = Backend(settings, control, catalog, keeper, streaming or Streaming())
    opened = OpenCalls(control)
    _ = control.recordings  # at once: a URL that cannot be used is found before a call
    _ = DialPolicy.of(settings.dial_allow)
    authenticator = Authenticator(control)
    webhooks = EgressClient(AddressPolicy.of(settings.egress_allow))
    loops = {
        "catalog": keeper.run,
        "keys": authenticator.run,
        "webhooks": Dispatcher(control, webhooks, settings, catalog.current).run,
        **_loops(control, settings),
    }

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(_forever(name, run), name=name) for name, run in loops.items()]
        yield
        for loop in running:
            loop.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await opened.aclose()
        await webhooks.aclose()
        await control.aclose()

    app = FastAPI(
        title="agent_worker",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_errors(app)
    app.include_router(health_routes(lambda: keeper.state))
    app.include_router(metrics_routes(control, settings))
    app.add_middleware(Gate, authenticate=_authenticate(authenticator), settings=settings)
    app.add_middleware(Counted)
    app.state.before_stop = control.feed.close
    app.include_router(v1_routes(backend))
    app.include_router(livekit_webhook_routes(backend))
    app.include_router(recording_file_routes(control))
    app.include_router(openapi_routes(app))
    _add_workers_routes(app, backend, opened)
    return app


def _add_workers_routes(app: FastAPI, backend: Backend, opened: OpenCalls) -> None:
    """Let workers on other hosts in, where there is a token for them."""
    control, settings = backend.control, backend.settings
    if settings.control_token.get_secret_value():
        app.include_router(worker_routes(control, opened, backend.catalog.current, settings))
        app.include_router(recording_intake_routes(control, settings))


def _loops(control: EmbeddedControlPlane, settings: Settings) -> dict[str, Loop]:
    """Return what runs beside the routes, by name."""
    events = {LIVEKIT_EVENT: ServerEvents(control).run}
    return {
        "sweeper": Sweeper(control, _room_closer(settings), grace_seconds=settings.lease_seconds).run,
        "feed": control.feed.run,
        "retention": Retention(control, settings).run,
        "recordings": lambda: recording_runner(control).run(),
        "loop-lag": partial(metrics.watch_loop, metrics.SERVE_LOOP_LAG),
        "jobs": JobRunner(control, events, host=host_name()).run,
        "analysis": analysis_runner(control, settings, os.environ).run,
        "old-webhooks": Housekeeper(control, settings).run,
        **_traces(control, settings),
    }


def _traces(control: EmbeddedControlPlane, settings: Settings) -> dict[str, Loop]:
    """Return the loop that sends calls to a collector, where one is set."""
    if not settings.otlp_endpoint:
        return {}
    from agent_worker.control.traces import EXPORT_TRACE, TraceExporter

    return {"traces": JobRunner(control, {EXPORT_TRACE: TraceExporter(control, settings).run}, host=host_name()).run}


def _authenticate(authenticator: Authenticator) -> Authenticate:
    async def authenticate(key: str) -> Principal | None:
        row = await authenticator.find(hash_of(key))
        if row is None:
            return None
        agents = None if row["agent_ids"] is None else frozenset(row["agent_ids"])
        return Principal(row["id"], Scope[row["scope"].upper()], agents)

    return authenticate


async def _forever(name: str, run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:  # one loop that meets what nobody foresaw must not end, nor end the others
            logger.exception("loop broke, starting it anew", extra={"loop": name})
        await asyncio.sleep(RESTART_SECONDS)


def _room_closer(settings: Settings) -> Callable[[str], Awaitable[object]]:
    if not settings.livekit_url:
        logger.warning("LIVEKIT_URL is not set: calls of lost workers are closed here, their rooms are left to LiveKit")
        return _leave_room
    from agent_worker.telephony.client import livekit_client
    from agent_worker.telephony.rooms import delete_consultations, delete_room

    async def close(room: str) -> None:
        async with livekit_client(settings) as client:
            await delete_consultations(client, room)
            await delete_room(client, room)

    return close


async def _leave_room(_room: str) -> None:
    return None
