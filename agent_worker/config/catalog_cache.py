"""The configuration as a file on this host: what calls are planned from while a database or another host is away."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
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
_CONTENT = frozenset({"agents", "numbers", "connections", "prompts"})


def read(path: Path) -> dict[str, Any] | None:
    """Return the snapshot in the file; None where there is none, or it cannot be read."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        snapshot = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.error("cached configuration not readable", extra={"file": path.name, "error": type(error).__name__})
        return None
    return snapshot if isinstance(snapshot, dict) else None


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
        self._seen: tuple[int, int, int] | None = None
        self._cached: AgentCatalog | None = None
        self._about: dict[str, Any] = {}
        self._joined: AgentCatalog = files or AgentCatalog.of([])

    def current(self) -> AgentCatalog:
        """Return the configuration in force: where files and cache know the same name, the file's counts.

        A file that cannot be used changes nothing: what was read before stays in force.
        """
        self._refresh()
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

    def _refresh(self) -> None:
        try:
            found = self.path.stat()
        except OSError:
            return
        seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        snapshot = read(self.path)
        if snapshot is None or snapshot.get(SOURCE) != self.source:
            return
        self._cached = _usable(snapshot)
        self._about = {key: value for key, value in snapshot.items() if key not in _CONTENT}
        self._joined = self.files.joined(self._cached) if self.files else self._cached


def _usable(snapshot: Mapping[str, Any]) -> AgentCatalog:
    """Return the snapshot's catalog, without the agents and numbers of it that this version cannot read."""
    try:
        return AgentCatalog.from_snapshot(snapshot)
    except (ValidationError, KeyError, TypeError, AttributeError):
        pass
    kept: dict[str, dict[str, Any]] = {}
    for part in ("agents", "numbers"):
        rows = snapshot.get(part)
        kept[part] = {
            row_id: row
            for row_id, row in (rows.items() if isinstance(rows, Mapping) else ())
            if _is_usable(part, row_id, row)
        }
    prompts = snapshot.get("prompts")
    return AgentCatalog.from_snapshot({**kept, "prompts": prompts if isinstance(prompts, Mapping) else {}})


def _is_usable(part: str, row_id: str, row: Any) -> bool:
    try:
        AgentCatalog.from_snapshot({"agents": {}, "numbers": {}, part: {row_id: row}})
    except (ValidationError, TypeError, AttributeError) as error:
        # the values themselves are nobody's business in a log
        logger.error(
            "cached configuration not usable", extra={"part": part, "id": row_id, "error": type(error).__name__}
        )
        return False
    return True
