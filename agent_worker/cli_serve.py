"""Runs the control plane for workers on other hosts: binds, says where, serves, and stops when told to."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Coroutine

import typer
from fastapi import FastAPI

from agent_worker.api.server import address_of, listening, make_server
from agent_worker.app import create_app
from agent_worker.control.api_keys import make_first_key
from agent_worker.logging_setup import configure_logging
from agent_worker.settings import Settings
from agent_worker.stop_signals import on_stop_signals
from agent_worker.store.engine import Database

logger = logging.getLogger("agent_worker.serve")


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
        asyncio.run(serve(app, bound, first_key=_show_first_key(settings)))
    return 0


async def _show_first_key(settings: Settings) -> None:
    """Print an admin key where the database never had a key; it is nowhere else, and in no log."""
    key = await make_first_key(settings)
    if key is not None:
        typer.echo("The first key of the API, scope admin; it is shown this once. `keys create` makes others.")
        typer.echo(f"API key: {key}")
        sys.stdout.flush()


async def _check_database(settings: Settings) -> None:
    """Raise `SettingsError` where the URL cannot be used; a database that is away is waited for later."""
    await Database(settings.database).aclose()


async def serve(app: FastAPI, bound: socket.socket, *, first_key: Coroutine[None, None, None]) -> None:
    """Serve on this socket until SIGTERM or SIGINT; requests in flight are finished, a second signal cuts them off.

    Args:
        first_key: what shows the first key, beside the serving.
    """
    server = make_server(app)
    on_stop_signals(server.stop, server.stop_at_once)
    showing = asyncio.create_task(first_key, name="first-key")
    await server.serve(sockets=[bound])
    showing.cancel()
    await asyncio.gather(showing, return_exceptions=True)
    logger.info("stopped")
