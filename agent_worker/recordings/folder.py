"""Recordings in a folder of this host."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.place import Channels, call_of, missing


class Folder:
    """Implements `Place`; only files right in the folder are ever touched, and no link is followed."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def holds(self, path: Path) -> bool:
        """Return whether this is the path of one of its recordings."""
        return path.parent == self.path and call_of(path.name) is not None

    async def put(self, source: Path, name: str) -> None:
        """Keep a copy under this name; it is there whole or not at all."""
        target = self._path_of(name)
        if source == target:
            return
        if not await asyncio.to_thread(source.is_file):
            raise FileNotFoundError(source)
        try:
            await asyncio.to_thread(_copy, source, target)
        except OSError as error:
            raise _failed(error) from error

    async def delete(self, name: str) -> None:
        """Delete it; what is not there is deleted already."""
        try:
            await asyncio.to_thread(self._path_of(name).unlink, missing_ok=True)
        except OSError as error:
            raise _failed(error) from error

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[OpenFile]:
        """Open it for reading."""
        file = await asyncio.to_thread(_open, self._path_of(name))
        try:
            yield OpenFile(file)
        finally:
            os.close(file)

    async def url(self, name: str, channels: Channels, seconds: int) -> str | None:
        """Return None: `serve` hands files on, by links of its own."""
        return None

    def _path_of(self, name: str) -> Path:
        # a name that is more than a name would lead out of the folder
        if call_of(name) is None:
            raise missing()
        return self.path / name


class OpenFile:
    """A recording that is open."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.size = os.fstat(file).st_size

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes of [start, end)."""
        try:
            return await asyncio.to_thread(os.pread, self._file, end - start, start)
        except OSError as error:
            raise _failed(error) from error


def _open(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise missing() from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise missing()
    return file


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # what a copier that was killed left behind; one that still lives does it again
    for draft in target.parent.glob(f".{target.name}.*.part"):
        draft.unlink(missing_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with source.open("rb") as old, draft.open("xb") as new:
            shutil.copyfileobj(old, new, 2**20)
            new.flush()
            os.fsync(new.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _failed(error: OSError) -> RecordingStoreError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return RecordingStoreError("recordings_folder_failed", f"The recordings' folder: {reason}.", retryable=True)
