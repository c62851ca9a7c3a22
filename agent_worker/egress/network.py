"""Opens connections for the HTTP client: resolves, checks every address, and connects to the ones it checked.

The client below knows no other way to open a connection, so what was checked is what is connected to: a name that
resolves to something else a moment later changes nothing. TLS still verifies the name in the URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Iterable, Sequence

import httpcore

from agent_worker.egress.destination import Destination
from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import Resolve
from agent_worker.errors import EgressError

SocketOptions = Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]

# loaded by the first connection otherwise, which took a call 40 ms of a blocked event loop
importlib.import_module("anyio._backends._asyncio")

MAX_ADDRESSES_TRIED = 6
NEXT_ADDRESS_SECONDS = 0.25
"""How long one address may keep silent before the next is tried beside it."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """What `httpcore` opens one connection with: it leads to the destination and nowhere else."""

    def __init__(self, policy: AddressPolicy, destination: Destination, resolve: Resolve) -> None:
        self._policy = policy
        self._destination = destination
        self._resolve = resolve
        self._sockets = httpcore.AnyIOBackend()
        self._opened: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to one of the destination's addresses, all of which are allowed.

        Raises:
            EgressError: the host has no address, or one that is refused.
            httpcore.NetworkError: no address could be connected to.
        """
        there = self._destination
        addresses = [there.host] if there.address else await self._addresses(there)
        for address in addresses:
            self._policy.check_address(there, address)
        return await self._connect_first(addresses[:MAX_ADDRESSES_TRIED], there.port)

    async def close(self) -> None:
        """Close what was opened, also where a request was given up before the HTTP side had it."""
        while self._opened:
            with contextlib.suppress(httpcore.NetworkError, OSError):
                await self._opened.pop().aclose()

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: SocketOptions | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL leads to a local socket."""
        raise EgressError("egress_address_refused", "An agent's URL may not reach a local socket.")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def _addresses(self, there: Destination) -> Sequence[str]:
        try:
            addresses = await self._resolve(there.host, there.port)
        except (OSError, UnicodeError) as error:
            raise _unresolvable(there.host) from error
        if not addresses:
            raise _unresolvable(there.host)
        return addresses

    async def _connect_first(self, addresses: Sequence[str], port: int) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers; a silent one delays the next by a moment only."""
        if len(addresses) == 1:
            return await self._connect(addresses[0], port)
        waiting = list(addresses)
        attempts: set[asyncio.Task[httpcore.AsyncNetworkStream]] = set()
        failure: BaseException | None = None
        try:
            while waiting or attempts:
                if waiting:
                    attempts.add(asyncio.create_task(self._connect(waiting.pop(0), port)))
                patience = NEXT_ADDRESS_SECONDS if waiting else None
                done, _ = await asyncio.wait(attempts, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    attempts.discard(attempt)
                    failure = attempt.exception()
                    if failure is None:
                        return attempt.result()
            raise failure or httpcore.ConnectError("no address answered")
        finally:
            await _abandon(attempts)

    async def _connect(self, address: str, port: int) -> httpcore.AsyncNetworkStream:
        stream = await self._sockets.connect_tcp(address, port)
        self._opened.append(stream)
        return stream


async def _abandon(attempts: Iterable[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, httpcore.AsyncNetworkStream):
            with contextlib.suppress(httpcore.NetworkError, OSError):
                await outcome.aclose()


def _unresolvable(host: str) -> EgressError:
    return EgressError(
        "egress_unresolvable",
        f"{host} has no address: the name is unknown, or no name server answered.",
        remedy="Check the host in the URL, and that this machine's DNS works.",
    )
