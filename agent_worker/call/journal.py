"""The call's journal: an append-only file of facts on the worker's disk, written before anything else learns of them.

The writer holds an exclusive lock on the file for as long as it lives; the kernel lets go of it when the process
dies, however it dies, so whoever can take the lock knows that nobody writes any more.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import EventOccurred, Fact, encode

FactT = TypeVar("FactT", bound=Fact)


class Journal:
    """Writes the facts of one call.

    Raises:
        FileExistsError: there is a journal of this call already, and so another call of this id.
        OSError: the file cannot be created (disk full, no permission).
    """

    def __init__(self, folder: Path, call_id: str) -> None:
        self.call_id = call_id
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{call_id}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._written = 0
        self._listeners: list[Callable[[Fact], None]] = []

    def listen(self, listener: Callable[[Fact], None]) -> None:
        """Have every fact handed to `listener` once it is on disk."""
        self._listeners.append(listener)

    def write(self, kind: type[FactT], *, at: datetime | None = None, **fields: Any) -> FactT:
        """Append one fact; it survives the death of this process when the call returns.

        Args:
            at: when it happened; now where not given.
        """
        fact = kind(id=f"{self.call_id}:{self._written}", call_id=self.call_id, at=at or utc_now(), **fields)
        self._written += 1
        os.write(self._file, encode(fact))
        for listener in self._listeners:
            listener(fact)
        return fact

    def event(self, event_type: str, *, at: datetime | None = None, **fields: Any) -> None:
        """Append a row of the call's event list (contract 2.5)."""
        self.write(EventOccurred, at=at, event_type=event_type, **fields)

    def close(self) -> None:
        """Reach the disk and let go of the lock. Idempotent."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1
