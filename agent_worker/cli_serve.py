"""Runs the control plane for workers on other hosts: binds, says where, serves, and stops when told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import typer
import uvicorn
from fastapi import FastAPI

from agent_worker.app import create_app
from agent_worker.errors import SettingsError
from agent_worker.logging_setup import configure_logging
from agent_worker.settings import Settings
from agent_worker.store.engine import Database

logger = logging.getLogger("agent_worker.serve")

IDLE_CONNECTION_SECONDS = 75
"""Longer than a worker keeps an idle connection, so that none is closed under a request."""

STOP_SECONDS = 10
BACKLOG = 1_024


def run_serve(settings: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        AgentWorkerError: a setting or an agent file is wrong, or the port is taken.
    """
    configure_logging(settings, text=sys.stderr.isatty())
    asyncio.run(_check_database(settings))
    app = create_app(settings)
    with listening(settings.api_host, settings.api_port) as bound:
        typer.echo(f"Listening on {address_of(bound)}")
        sys.stdout.flush()
        asyncio.run(serve(app, bound))
    return 0


async def _check_database(settings: Settings) -> None:
    """Raise `SettingsError` where the URL cannot be used; a database that is away is waited for later."""
    await Database(settings.database).aclose()


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Lend a socket that listens there; 0 is any free port.

    Raises:
        SettingsError: the address is not this machine's, or somebody else has the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number and number > 0 else "unknown host"
        raise SettingsError(
            "api_address_not_free",
            f"Cannot listen on {host}, port {port}: {reason}.",
            remedy="Set AGENT_WORKER_API_HOST to an address of this machine and AGENT_WORKER_API_PORT to a free port.",
        ) from error
    with bound:
        yield bound


def address_of(bound: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve on this socket until SIGTERM or SIGINT; requests in flight are finished, a second signal cuts them off."""
    server = make_server(app)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve(sockets=[bound])
    logger.info("stopped")


class ApiServer(uvicorn.Server):
    """A server that is told to stop, and ends with this process's exit code instead of the signal's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to this process."""
        yield

    def stop(self) -> None:
        """Finish the requests in flight and end; told again, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def make_server(app: FastAPI) -> ApiServer:
    """Return a server for the application; it logs like the rest of the process."""
    return ApiServer(
        uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_CONNECTION_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
    )
