"""A call's journal as its reader sees it: complete lines, and a lock that tells whether its writer lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_worker.domain.fact import CallEnded, CallOpened, DataCollected, Fact, RecordingChanged, decode, encode

READ_BYTES = 256 * 1024
SUFFIX = ".jsonl"
REJECTED = ".rejected"


@dataclass(frozen=True)
class Line:
    """A complete line and what it says; `fact` is None where it says nothing."""

    raw: bytes
    fact: Fact | None


@dataclass
class Scan:
    """What a whole journal says.

    Attributes:
        next_sequence: number of the next fact.
        last_at: when the last fact happened, None where there is no fact.
        recording: the last word on the recording.
        structured_data: the last word on what tools collected.
    """

    opened: CallOpened | None = None
    ended: bool = False
    next_sequence: int = 0
    last_at: datetime | None = None
    recording: RecordingChanged | None = None
    structured_data: dict[str, Any] = field(default_factory=dict)

    def add(self, fact: Fact) -> None:
        """Take one more fact into account."""
        self.last_at = fact.at
        tail = fact.id.rpartition(":")[2]
        self.next_sequence = max(self.next_sequence, int(tail) + 1 if tail.isdecimal() else 0)
        match fact:
            case CallOpened():
                self.opened = fact
            case RecordingChanged():
                self.recording = fact
            case DataCollected():
                self.structured_data = fact.structured_data
            case CallEnded():
                self.ended = True
            case _:
                pass


class JournalFile:
    """Reads one journal from its beginning; how far is kept in memory only, for facts are idempotent.

    Every method may raise `OSError`; one on a file that is gone raises `FileNotFoundError`.

    Attributes:
        offset: bytes that have been delivered.
        ended: the call's end has been delivered.
        complete: the writer is gone and the file needs nobody to end it.
        seen_alive: the writer has been seen at work.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.call_id = path.name.removesuffix(SUFFIX)
        self.offset = 0
        self.ended = False
        self.complete = False
        self.seen_alive = False

    def size(self) -> int:
        """Return the file's length in bytes."""
        return self.path.stat().st_size

    def age_seconds(self, now: float) -> float:
        """Return how long ago the file was last written; `now` is seconds since the epoch."""
        return now - self.path.stat().st_mtime

    def read(self, most: int) -> tuple[list[Line], int]:
        """Return at most `most` complete lines from `offset` on, and the offset behind them."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read(READ_BYTES)
            while b"\n" not in data:
                more = file.read(len(data) or READ_BYTES)
                if not more:
                    return [], self.offset
                data += more
        raw = data[: data.rindex(b"\n") + 1].splitlines(keepends=True)[:most]
        return [_read(line) for line in raw], self.offset + sum(map(len, raw))

    def scan(self) -> Scan:
        """Read the whole file, a piece at a time."""
        found = Scan()
        with self.path.open("rb") as file:
            for raw in file:
                line = _read(raw) if raw.endswith(b"\n") else None
                if line and line.fact:
                    found.add(line.fact)
        return found

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the writer's lock during the block; yields a descriptor, or None while the writer lives."""
        file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield file
        finally:
            os.close(file)

    def cut_torn_line(self, file: int) -> None:
        """Move what stands behind the last complete line to the rejected lines. Needs the lock."""
        size = os.fstat(file).st_size
        data = os.pread(file, size, 0)
        end = data.rfind(b"\n") + 1
        if end < size:
            self.reject([data[end:]])
            os.ftruncate(file, end)

    def append(self, file: int, facts: Sequence[Fact]) -> None:
        """Write facts to the end, down to the disk. Needs the lock."""
        data = b"".join(encode(fact) for fact in facts)
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)

    def reject(self, lines: Sequence[bytes]) -> None:
        """Keep lines nobody can use beside the journal, each once, for a person to look at."""
        if not lines:
            return
        target = self.path.with_name(self.path.name + REJECTED)
        kept = set(target.read_bytes().splitlines()) if target.exists() else set()
        fresh = [line.rstrip(b"\n") for line in lines]
        with target.open("ab") as file:
            file.writelines(line + b"\n" for line in fresh if line and line not in kept)

    def delete_if_done(self) -> bool:
        """Delete the file if its writer is gone and nothing was added; returns whether it is gone."""
        try:
            with self.locked() as file:
                if file is None:
                    return False
                self.cut_torn_line(file)
                if os.fstat(file).st_size != self.offset:
                    return False
                self.path.unlink()
        except FileNotFoundError:
            pass
        return True


def _read(raw: bytes) -> Line:
    try:
        return Line(raw, decode(raw))
    except ValidationError:
        return Line(raw, None)
