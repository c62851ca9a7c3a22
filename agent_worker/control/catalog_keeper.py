"""Keeps this host's copy of the configuration fresh: of the database's, or of another host's control plane."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from agent_worker.config import catalog_cache
from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.domain.call import utc_now
from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.control")

EVERY_SECONDS = 2.0

Fetch = Callable[[str | None], Awaitable[dict[str, Any] | None]]
"""Returns the configuration with its `etag`, or None where that is still the given one."""

UNKNOWN = "unknown"
OK = "ok"


class CatalogKeeper:
    """Asks for the configuration every few seconds and writes what changed to the cache file.

    Attributes:
        state: `unknown` before the first answer, `ok`, or the code of the error met last.
        first: set once this process, or an earlier one, has had an answer.
    """

    def __init__(self, catalog: CachedCatalog, fetch: Fetch, *, every_seconds: float = EVERY_SECONDS) -> None:
        self.state = UNKNOWN
        self.first = asyncio.Event()
        self._catalog = catalog
        self._fetch = fetch
        self._every = every_seconds
        self._etag: str | None = None
        self._asking = asyncio.Lock()  # of two answers the later one is kept
        if catalog.is_known:
            self.first.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._every)

    async def refresh(self) -> None:
        """Ask once; what goes wrong is in `state` and in the log."""
        async with self._asking:
            await self._refresh()

    async def _refresh(self) -> None:
        known = self._etag if self._catalog.path.exists() else None
        try:
            snapshot = await self._fetch(known)
            if snapshot is not None:
                self._keep(snapshot)
        except ControlPlaneError as error:
            self._failed(error.code, str(error))
        except OSError as error:
            self._failed("cache_not_writable", f"The cached configuration cannot be written ({type(error).__name__}).")
        except Exception as error:  # an odd answer must not end the asking: the next edit would never arrive
            code = type(error).__name__
            if self.state != code:
                logger.exception("configuration not refreshed")
            self._failed(code, "The configuration could not be refreshed.")
        else:
            self._answered()

    def _keep(self, snapshot: dict[str, Any]) -> None:
        about = {catalog_cache.SOURCE: self._catalog.source, "cached_at": utc_now().isoformat(timespec="seconds")}
        catalog_cache.write(self._catalog.path, snapshot | about)
        self._etag = snapshot.get("etag")
        found = self._catalog.current()
        logger.info("configuration refreshed", extra={"agents": len(found.agents), "numbers": len(found.numbers)})

    def _answered(self) -> None:
        if self.state not in (UNKNOWN, OK):
            logger.info("configuration can be asked for again", extra={"source": self._catalog.source})
        self.state = OK
        self.first.set()

    def _failed(self, code: str, sentence: str) -> None:
        if self.state != code:
            kept = "the cached one is used" if self._catalog.is_known else "and none is cached"
            logger.error(
                "configuration cannot be asked for, %s",
                kept,
                extra={"source": self._catalog.source, "code": code, "problem": sentence},
            )
        self.state = code
