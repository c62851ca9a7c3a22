"""Asks the system for a host's addresses without ever holding up the loop, the deadline or the process's end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port -> addresses, best first. Raises: OSError or UnicodeError, where there are none."""

MAX_LOOKUPS = 64
_lookups = threading.BoundedSemaphore(MAX_LOOKUPS)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the host's addresses as the system's resolver orders them.

    The resolver blocks for as long as its servers are silent, whatever deadline we have, and a thread of a pool would
    be waited for when the process ends; so each lookup has a thread that nobody waits for, and they are counted.

    Raises:
        OSError: the name is unknown, no server answered, or too many lookups are stuck already.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def deliver(addresses: list[str], error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(addresses)
        else:
            answer.set_exception(error)

    def look_up() -> None:
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:
            failure = error
        finally:
            _lookups.release()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(deliver, addresses, failure)

    if not _lookups.acquire(blocking=False):
        raise OSError("too many lookups are waiting for the resolver")
    try:
        threading.Thread(target=look_up, name="resolve", daemon=True).start()
    except RuntimeError as error:
        _lookups.release()
        raise OSError("no thread is left for the resolver") from error
    return await answer
