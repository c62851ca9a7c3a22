"""Connections to servers that agents name, kept alive for a while and never shared between two names."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpcore

from agent_worker.egress.destination import Destination
from agent_worker.egress.network import CheckedNetwork
from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import Resolve

MAX_CONNECTIONS = 256
MAX_KEPT = 32
KEEP_ALIVE_SECONDS = 15.0

Place = tuple[str, str, int]
"""Scheme, host and port: what a connection was made, and its certificate verified, for."""


@dataclass(frozen=True)
class Connection:
    """One connection, open or about to be.

    Attributes:
        kept: it has served a request before, so its server may be closing it at this moment.
    """

    http: httpcore.AsyncHTTPConnection
    network: CheckedNetwork
    kept: bool = False

    async def close(self) -> None:
        """Close it, in whatever state it is."""
        await self.http.aclose()
        # a request given up within the TLS handshake leaves a socket that the library forgets
        await self.network.close()


class Connections:
    """Lends connections, at most 256 at once, one request at a time each."""

    def __init__(self, policy: AddressPolicy, resolve: Resolve, tls: ssl.SSLContext) -> None:
        self._policy = policy
        self._resolve = resolve
        self._tls = tls
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._kept: list[tuple[Place, Connection]] = []

    @contextlib.asynccontextmanager
    async def lend(self, destination: Destination, *, fresh: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection for one request; afterwards it is kept if it can serve another, else closed.

        Args:
            fresh: a new one, though one may be kept.
        """
        place = (destination.scheme, destination.host, destination.port)
        async with self._slots:
            connection = None if fresh else await self._take(place)
            connection = connection or self._open(destination)
            try:
                yield connection
            finally:
                await self._put_back(place, connection)

    async def aclose(self) -> None:
        """Close what is kept."""
        while self._kept:
            await self._kept.pop()[1].close()

    async def _take(self, place: Place) -> Connection | None:
        expired = [connection for _, connection in self._kept if connection.http.has_expired()]
        # off the list before any is waited for: others take from it meanwhile
        self._kept = [entry for entry in self._kept if entry[1] not in expired]
        for connection in expired:
            await connection.close()
        for at in reversed(range(len(self._kept))):  # the one used last has the longest to live
            if self._kept[at][0] == place:
                return self._kept.pop(at)[1]
        return None

    def _open(self, destination: Destination) -> Connection:
        network = CheckedNetwork(self._policy, destination, self._resolve)
        http = httpcore.AsyncHTTPConnection(
            httpcore.Origin(destination.scheme.encode(), destination.host.encode(), destination.port),
            ssl_context=self._tls,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=network,
        )
        return Connection(http, network)

    async def _put_back(self, place: Place, connection: Connection) -> None:
        if not connection.http.is_available():
            await connection.close()
            return
        self._kept.append((place, Connection(connection.http, connection.network, kept=True)))
        if len(self._kept) > MAX_KEPT:
            await self._kept.pop(0)[1].close()
