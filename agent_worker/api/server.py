"""The server behind the API: a socket that listens, and uvicorn on it, told by us when to stop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from agent_worker.errors import SettingsError

IDLE_CONNECTION_SECONDS = 75
"""Longer than a worker keeps an idle connection, so that none is closed under a request."""

STOP_SECONDS = 10
BACKLOG = 1_024


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


class ApiServer(uvicorn.Server):
    """A server that is told to stop, and ends with this process's exit code instead of the signal's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to this process."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Have streams end, which nobody else would, and wait for the requests in flight."""
        self.config.app.state.before_stop()  # type: ignore[union-attr]
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Finish the requests in flight and end."""
        self.should_exit = True

    def stop_at_once(self) -> None:
        """End, whatever is in flight."""
        self.should_exit = self.force_exit = True


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
