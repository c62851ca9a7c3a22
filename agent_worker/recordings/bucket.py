"""Recordings in a bucket of an object store: S3 and what speaks it, Google Cloud Storage, Azure."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.ogg import HEAD_BYTES, mono_head
from agent_worker.recordings.place import MEDIA_TYPE, Channels, missing

logger = logging.getLogger("agent_worker.recordings")

PART_BYTES = 5 * 2**20
"""The least an S3 store takes as one part of several; a smaller file goes at once."""

REQUEST_SECONDS = 120
CONNECT_SECONDS = 5
RETRIES = 2
RETRY_SECONDS = 30
REASON_CHARS = 300

_QUERY = re.compile(r"\?\S+")


class Bucket:
    """Implements `Place`; each recording is two objects, for a link of the store's own fetches what is there.

    Args:
        url: `s3://bucket/prefix`, `gs://…` or `az://…`; credentials come from the environment.
    """

    def __init__(self, url: str) -> None:
        self.base = url.rstrip("/")
        self._opened: Any = None
        self._opening = asyncio.Lock()
        self._signs = True

    async def put(self, source: Path, name: str) -> None:
        """Keep a copy under this name, and one that plays as mono; each is there whole or not at all."""
        size = (await asyncio.to_thread(source.stat)).st_size
        for channels in ("mono", "dual"):
            await self._put(source, size, name, channels)

    async def _put(self, source: Path, size: int, name: str, channels: Channels) -> None:
        import obstore

        store, key = await self._store(), object_name(name, channels)
        attributes = {"Content-Type": MEDIA_TYPE}
        try:
            if size <= PART_BYTES:
                whole = _as(channels, await asyncio.to_thread(source.read_bytes))
                await obstore.put_async(store, key, whole, attributes=attributes, use_multipart=False)
            else:
                parts = _parts(source, channels)
                await obstore.put_async(
                    store, key, parts, attributes=attributes, chunk_size=PART_BYTES, max_concurrency=2
                )
        except obstore.exceptions.BaseError as error:
            raise _failed(error) from None

    async def delete(self, name: str) -> None:
        """Delete both; what is not there is deleted already."""
        import obstore

        store = await self._store()
        for channels in ("mono", "dual"):
            try:
                await obstore.delete_async(store, object_name(name, channels))
            except (obstore.exceptions.NotFoundError, FileNotFoundError):
                continue
            except obstore.exceptions.BaseError as error:
                raise _failed(error) from None

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[OpenObject]:
        """Open it for reading."""
        import obstore

        store = await self._store()
        try:
            about = await obstore.head_async(store, name)
        except (obstore.exceptions.NotFoundError, FileNotFoundError):
            raise missing() from None
        except obstore.exceptions.BaseError as error:
            raise _failed(error) from None
        yield OpenObject(store, name, about["size"])

    async def url(self, name: str, channels: Channels, seconds: int) -> str | None:
        """Return a URL that the store signed; None where the credentials cannot sign."""
        import obstore

        if not self._signs:
            return None
        try:
            key = object_name(name, channels)
            return await obstore.sign_async(await self._store(), "GET", key, timedelta(seconds=seconds))
        except obstore.exceptions.BaseError as error:
            self._signs = False
            logger.warning("the store signs no links, serve hands recordings on", extra={"error": type(error).__name__})
            return None

    async def _store(self) -> Any:
        async with self._opening:
            if self._opened is None:
                self._opened = await asyncio.to_thread(_open, self.base)
            return self._opened


class OpenObject:
    """A recording that is open."""

    def __init__(self, store: Any, name: str, size: int) -> None:
        self._store = store
        self._name = name
        self.size = size

    async def read(self, start: int, end: int) -> bytes:
        """Return the bytes of [start, end)."""
        import obstore

        try:
            return bytes(await obstore.get_range_async(self._store, self._name, start=start, end=end))
        except obstore.exceptions.BaseError as error:
            raise _failed(error) from None


def object_name(name: str, channels: Channels) -> str:
    """Return the name of the object that plays so."""
    return name if channels == "dual" else f"{name.removesuffix('.ogg')}.mono.ogg"


def _open(url: str) -> Any:
    # loaded here, so that who keeps recordings in a folder does not pay for it
    import obstore
    from obstore.store import from_url

    try:
        return from_url(
            url,
            # http only where the operator's endpoint says so; the stores' own are https
            client_options={
                "timeout": f"{REQUEST_SECONDS}s",
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "allow_http": True,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise _failed(error) from None


def _as(channels: Channels, content: bytes) -> bytes:
    return content if channels == "dual" else mono_head(content[:HEAD_BYTES]) + content[HEAD_BYTES:]


async def _parts(source: Path, channels: Channels) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(source.open, "rb")
    try:
        begins = True
        while part := await asyncio.to_thread(file.read, 2**20):
            yield _as(channels, part) if begins else part
            begins = False
    finally:
        file.close()


def _failed(error: Exception) -> RecordingStoreError:
    # the first line says what happened; a query, and all that follows, may hold a signature
    said = _QUERY.sub("", str(error).partition("\n")[0])[:REASON_CHARS]
    return RecordingStoreError("recordings_store_failed", f"{type(error).__name__}: {said}", retryable=True)
