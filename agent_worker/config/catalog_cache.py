"""The configuration as a file on this host: what calls are planned from while a database or another host is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_worker.config.catalog import AgentCatalog

logger = logging.getLogger("agent_worker.config")

DATABASE_FILE = "catalog.json"
"""Where the agents and numbers of the database are kept, in the cache folder."""

REMOTE_FILE = "remote-catalog.json"
"""Where the configuration of another host's control plane is kept: a host may run both."""

SOURCE = "source"
"""Key of the snapshot that says whose it is: another control plane's configuration is no use."""

MAX_BYTES = 256 * 2**20

FRESH_SECONDS = 0.05
"""What a call that rings waits for an edit to be read; a hundred agents take some 30 ms."""

FIRST_SECONDS = 2.0
"""What it waits where nothing has been read yet."""

_CONTENT = frozenset({"agents", "numbers", "connections", "prompts"})


def read(path: Path) -> dict[str, Any] | None:
    """Return the snapshot in the file; None where there is none, or it cannot be read."""
    try:
        return _snapshot(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        _not_readable(path, error)
        return None


def _snapshot(path: Path) -> dict[str, Any] | None:
    """Return what is in the file; None where that is no snapshot.

    Raises:
        OSError: the disk does not give it, now.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        snapshot = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        _not_readable(path, error)
        return None
    return snapshot if isinstance(snapshot, dict) else None


def _not_readable(path: Path, error: Exception) -> None:
    logger.error("cached configuration not readable", extra={"file": path.name, "error": type(error).__name__})


def write(path: Path, snapshot: Mapping[str, Any]) -> None:
    """Replace the file by this snapshot: at once, and for nobody else's eyes, for it holds secrets of tools.

    Raises:
        OSError: the disk does not take it; the file is as it was.
    """
    content = json.dumps(snapshot, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


_Seen = tuple[int, int, int]


@dataclass(frozen=True)
class _Reading:
    """What one look into the file gave; no `cached` where that is of no use, no `seen` where to look again."""

    seen: _Seen | None = None
    cached: AgentCatalog | None = None
    joined: AgentCatalog | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    error: OSError | None = None


class CachedCatalog:
    """The agents of this host's files and those of the cache file, as one; looks at the file at every use.

    Args:
        files: what stands in this host's own files, None where all configuration comes from elsewhere.
        path: the cache file, which another process writes.
        source: whose snapshot to take; one of any other source is as good as none.
    """

    def __init__(self, files: AgentCatalog | None, path: Path, *, source: str) -> None:
        self.files = files
        self.path = path
        self.source = source
        self._seen: _Seen | None = None
        self._unreadable = False
        self._aside: asyncio.Task[None] | None = None
        self._cached: AgentCatalog | None = None
        self._about: Mapping[str, Any] = {}
        self._joined: AgentCatalog = files or AgentCatalog.of([])

    def current(self) -> AgentCatalog:
        """Return the configuration in force: where files and cache know the same name, the file's counts.

        A file that cannot be used changes nothing: what was read before stays in force, as it does while `fresh`
        reads.
        """
        self._refresh()
        return self._joined

    async def fresh(self, within_seconds: float = FRESH_SECONDS) -> AgentCatalog:
        """Return what `current` does, without keeping the event loop: a large file is read in a thread.

        Where that takes longer, what was read before stays in force for now, and the reading goes on.
        """
        if not self._is_reading and (seen := self._unseen()) is not None:
            self._aside = asyncio.create_task(self._read_aside(seen), name="catalog-reading")
        if self._aside is not None and self._is_reading:
            seconds = FIRST_SECONDS if self._cached is None else within_seconds
            await asyncio.wait({self._aside}, timeout=seconds)
        return self._joined

    @property
    def is_known(self) -> bool:
        """Whether there is a cached configuration of this source."""
        self._refresh()
        return self._cached is not None

    @property
    def about(self) -> Mapping[str, Any]:
        """What the cached snapshot says beside agents, numbers, connections and prompts."""
        self._refresh()
        return self._about

    @property
    def _is_reading(self) -> bool:
        return self._aside is not None and not self._aside.done()

    def _refresh(self) -> None:
        if not self._is_reading and (seen := self._unseen()) is not None:
            self._take(self._read(seen))

    async def _read_aside(self, seen: _Seen) -> None:
        self._take(await asyncio.to_thread(self._read, seen))

    def _unseen(self) -> _Seen | None:
        """Return what tells the file from the one read last, None where it is that one, or there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        return None if seen == self._seen else seen

    def _read(self, seen: _Seen) -> _Reading:
        """Read the file; runs in a thread too, so it changes nothing here."""
        try:
            snapshot = _snapshot(self.path)
            if snapshot is None or snapshot.get(SOURCE) != self.source:
                return _Reading(seen)
            cached = _usable(snapshot)
            about = {key: value for key, value in snapshot.items() if key not in _CONTENT}
            return _Reading(seen, cached, self.files.joined(cached) if self.files else cached, about)
        except OSError as error:
            return _Reading(error=error)
        except Exception as error:  # noqa: BLE001 - calls: whatever a file holds, they go on with what was read before
            _not_readable(self.path, error)
            return _Reading(seen)

    def _take(self, reading: _Reading) -> None:
        if reading.error is not None and not self._unreadable:  # said once: it is tried again at every look
            _not_readable(self.path, reading.error)
        self._unreadable = reading.error is not None
        self._seen = reading.seen or self._seen
        if reading.cached is not None and reading.joined is not None:
            self._cached, self._joined, self._about = reading.cached, reading.joined, reading.about


def _usable(snapshot: Mapping[str, Any]) -> AgentCatalog:
    """Return the snapshot's catalog, without what of it this version cannot read."""
    try:
        return AgentCatalog.from_snapshot(snapshot)
    except (ValidationError, KeyError, TypeError, AttributeError):
        pass
    kept: dict[str, dict[str, Any]] = {part: {} for part in ("agents", "numbers")}
    for part, rows in kept.items():
        found = snapshot.get(part)
        for row_id, row in found.items() if isinstance(found, Mapping) else ():
            if _is_usable(part, row_id, {row_id: row}):
                rows[row_id] = row
    connections = snapshot.get("connections")
    lines: Iterable[tuple[int, Any]] = enumerate(connections) if isinstance(connections, list) else ()
    usable = [row for index, row in lines if _is_usable("connections", str(index), [row])]
    prompts = snapshot.get("prompts")
    return AgentCatalog.from_snapshot(
        {**kept, "connections": usable, "prompts": prompts if isinstance(prompts, Mapping) else {}}
    )


def _is_usable(part: str, row_id: str, rows: Any) -> bool:
    try:
        AgentCatalog.from_snapshot({"agents": {}, "numbers": {}, part: rows})
    except (ValidationError, TypeError, AttributeError) as error:
        # the values themselves are nobody's business in a log
        logger.error(
            "cached configuration not usable", extra={"part": part, "id": row_id, "error": type(error).__name__}
        )
        return False
    return True
