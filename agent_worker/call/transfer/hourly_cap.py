"""How many people this host calls in an hour: one file that the processes of all its calls count in, under a lock."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger("agent_worker.call")

FILE = "transfers-of-the-hour"
"""In the worker's data folder: a line for each attempt, its time in seconds since 1970."""

HOUR_SECONDS = 3_600.0

PATIENCE_SECONDS = 0.1
"""How long the lock is waited for: it is held for microseconds, and the loop that carries audio stands still."""

_POLL_SECONDS = 0.001
_MOST_BYTES = 1 << 20


class HourlyCap:
    """Counts attempts at a transfer, those of other processes included; it survives all of them.

    A file that cannot be used stops nobody: the attempt is made, and the log says why it was not counted.

    Args:
        path: the file, made at first use.
        most: attempts within an hour; 0 = without limit, and nothing is counted.
        clock: seconds since 1970, the same for all processes.
        patience_seconds: how long the lock is waited for.
    """

    def __init__(
        self,
        path: Path,
        most: int,
        *,
        clock: Callable[[], float] = time.time,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._path = path
        self._most = most
        self._clock = clock
        self._patience = patience_seconds

    def take(self) -> bool:
        """Count one attempt; returns whether it may be made, and counts it only then."""
        if not self._most:
            return True
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            try:
                self._lock(file)
                return self._count(file)
            finally:
                os.close(file)  # and with it the lock
        except OSError as error:
            logger.error("transfer not counted", extra={"file": str(self._path), "error": type(error).__name__})
            return True

    def _lock(self, file: int) -> None:
        """Take the lock.

        Raises:
            TimeoutError: somebody else keeps it.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
            time.sleep(_POLL_SECONDS)

    def _count(self, file: int) -> bool:
        now = self._clock()
        lines = os.read(file, _MOST_BYTES).split()
        moments = [moment for moment in map(_moment, lines) if moment is not None]
        if len(moments) < len(lines):
            logger.error("transfers miscounted: the file has been written to", extra={"file": str(self._path)})
        # also a clock that was set back leaves nothing that counts for longer than an hour
        recent = [moment for moment in moments if abs(now - moment) < HOUR_SECONDS]
        if len(recent) >= self._most:
            return False
        text = "".join(f"{moment:.3f}\n" for moment in [*recent, now]).encode("ascii")
        # in this order: a process that dies in between leaves too many attempts rather than too few
        os.pwrite(file, text, 0)
        os.ftruncate(file, len(text))
        return True


def _moment(line: bytes) -> float | None:
    try:
        return float(line)
    except ValueError:
        return None
