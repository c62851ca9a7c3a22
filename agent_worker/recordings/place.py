"""What a place of recordings is, on a disk or in a bucket, and what goes wrong there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal, Protocol

from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.ogg import HEAD_BYTES, mono_head

Channels = Literal["mono", "dual"]

MEDIA_TYPE = "audio/ogg"
PIECE_BYTES = 256 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")


def file_name(call_id: str) -> str:
    """Return the name of a call's file.

    Raises:
        RecordingStoreError: the id cannot be part of a name.
    """
    if not _NAME.fullmatch(call_id):
        raise missing()
    return f"{call_id}.ogg"


def call_of(name: str) -> str | None:
    """Return the id of the call whose file this is, None where it is nobody's."""
    stem = name.removesuffix(".ogg")
    return stem if stem != name and _NAME.fullmatch(stem) else None


def missing() -> RecordingStoreError:
    """Return the error of a recording that is not where it should be."""
    return RecordingStoreError("recording_missing", "There is no such recording in the store.")


class Readable(Protocol):
    """A recording that is open.

    Attributes:
        size: its length in bytes.
    """

    size: int

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes of [start, end).

        Raises:
            RecordingStoreError: they cannot be had.
        """


class Place(Protocol):
    """Keeps files by name; each verb may raise `RecordingStoreError`."""

    async def put(self, source: Path, name: str) -> None:
        """Keep a copy under this name; it is there whole or not at all.

        Raises:
            OSError: the source cannot be read.
        """

    async def delete(self, name: str) -> None:
        """Delete it; what is not there is deleted already."""

    def open(self, name: str) -> AbstractAsyncContextManager[Readable]:
        """Open it for reading."""

    async def url(self, name: str, channels: Channels, seconds: int) -> str | None:
        """Return a URL that fetches it for so long, None where the place makes none."""


async def pieces(recording: Readable, start: int, end: int, channels: Channels) -> AsyncIterator[bytes]:
    """Yield the bytes of [start, end), as one channel or as recorded."""
    if channels == "mono" and start < HEAD_BYTES:
        head = mono_head(await recording.read(0, min(HEAD_BYTES, recording.size)))
        yield head[start:end]
        start = len(head)
    while start < end:
        piece = await recording.read(start, min(start + PIECE_BYTES, end))
        if not piece:
            raise missing()
        yield piece
        start += len(piece)
