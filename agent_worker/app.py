"""The control plane as a web application: routes, and what runs beside them. The table of contents of `serve`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import FastAPI

from agent_worker import __version__
from agent_worker.api.auth import Principal, Scope, hash_of
from agent_worker.api.backend import Backend
from agent_worker.api.errors import install_errors
from agent_worker.api.health import health_routes
from agent_worker.api.open_calls import OpenCalls
from agent_worker.api.v1 import v1_routes
from agent_worker.api.worker_routes import worker_routes
from agent_worker.control.authenticator import Authenticator
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.job_runner import Handler, JobRunner, host_name
from agent_worker.control.make import make_catalog, make_keeper
from agent_worker.control.sweeper import Sweeper
from agent_worker.settings import Settings

logger = logging.getLogger("agent_worker.app")

RESTART_SECONDS = 5.0
"""How long a loop that broke rests before it starts anew."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its loops run while it does.

    Raises:
        ConfigErrors: all mistakes in all agent files.
        SettingsError: AGENT_WORKER_CONTROL_TOKEN is too short.
    """
    # this process is the control plane, whatever a worker beside it is told by the same environment
    settings = settings.model_copy(update={"control_url": ""})
    catalog = make_catalog(settings)
    control = EmbeddedControlPlane(settings, catalog)
    keeper = make_keeper(control, catalog)
    backend = Backend(settings, control, catalog, keeper)
    opened = OpenCalls(control)
    loops: dict[str, Callable[[], Awaitable[None]]] = {
        "catalog": keeper.run,
        "sweeper": Sweeper(control, _room_closer(settings), grace_seconds=settings.lease_seconds).run,
        "jobs": JobRunner(control, _job_handlers(backend), host=host_name()).run,
    }

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(_forever(name, run), name=name) for name, run in loops.items()]
        yield
        for loop in running:
            loop.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await opened.aclose()
        await control.aclose()

    app = FastAPI(
        title="agent_worker", version=__version__, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None
    )
    install_errors(app)
    app.include_router(health_routes(lambda: keeper.state))
    app.state.authenticate = _authenticate(Authenticator(control))
    app.include_router(v1_routes(backend))
    if settings.control_token.get_secret_value():
        app.include_router(worker_routes(control, opened, catalog.current, settings))
    return app


def _job_handlers(_backend: Backend) -> dict[str, Handler]:
    """Return what is done after calls, by kind of job."""
    return {}


def _authenticate(authenticator: Authenticator) -> Callable[[str], Awaitable[Principal | None]]:
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
    from agent_worker.telephony.rooms import delete_room

    async def close(room: str) -> None:
        async with livekit_client(settings) as client:
            await delete_room(client, room)

    return close


async def _leave_room(_room: str) -> None:
    return None
