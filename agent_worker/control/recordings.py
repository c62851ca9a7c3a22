"""What becomes of recordings: pending while the call goes on, then uploading, then ready or failed.

Every step is one transaction: the row, the job or the links that follow, and who is told.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.errors import SettingsError
from agent_worker.recordings.disk import disk_name
from agent_worker.recordings.links import PATH, Link, LinkSigner
from agent_worker.recordings.ogg import played_ms_of
from agent_worker.recordings.place import Channels
from agent_worker.recordings.store import RecordingStore
from agent_worker.settings import Settings
from agent_worker.store import jobs
from agent_worker.store.recordings import change_recording, is_wanted, recording_of
from agent_worker.webhooks.signing import webhook_secret

logger = logging.getLogger("agent_worker.control")

UPLOAD, ERASE, EXPIRE = "upload_recording", "erase_recording", "expire_recording"

WEBHOOK_LINK = timedelta(days=7)
GIVE_UP = timedelta(hours=72)
"""After the end of a call its recording is ready or has failed by then: its host may never come back."""

OPEN_STATUSES = ("pending", "uploading")

_ADDRESS = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(/[^\s?#]*)?")

Announce = Callable[[AsyncConnection, str, datetime, str | None], Awaitable[None]]
"""Tells whoever subscribed that a call's recording is at this URL, or has failed."""


@dataclass(frozen=True)
class Kept:
    """A recording that is where recordings stay."""

    location: str
    size_bytes: int
    duration_ms: int | None


class Recordings:
    """Where recordings of this deployment are, and who is told.

    Raises:
        SettingsError: AGENT_WORKER_RECORDINGS_URL or AGENT_WORKER_PUBLIC_URL cannot be used.
    """

    def __init__(self, settings: Settings, announce: Announce) -> None:
        self.store = RecordingStore(settings)
        self._settings = settings
        self._announce = announce
        if settings.public_url and not _ADDRESS.fullmatch(settings.public_url):
            raise SettingsError(
                "public_url_invalid",
                "AGENT_WORKER_PUBLIC_URL is not the URL of a host.",
                remedy="Write https://calls.example.com, without query or fragment.",
            )

    @cached_property
    def disk(self) -> str:
        """Whose the files of this process's data folder are."""
        return disk_name(self._settings.data_dir)

    @cached_property
    def signer(self) -> LinkSigner:
        """Makes and reads the links of `serve`."""
        return LinkSigner(webhook_secret(self._settings))

    async def link(
        self,
        call_id: str,
        location: str,
        channels: Channels,
        expires_at: datetime,
        now: datetime,
        *,
        base_url: str = "",
    ) -> str:
        """Return a URL that fetches a recording until then: the store's own where it makes any, else one of `serve`.

        Args:
            base_url: where `serve` is reached, unless the settings say so.
        """
        url = await self.store.url(location, channels, max(1, math.ceil((expires_at - now).total_seconds())))
        if url is not None:
            return url
        token = self.signer.token(Link(call_id, channels, int(expires_at.timestamp())))
        return f"{self._settings.public_url.rstrip('/') or base_url or self._own_url()}{PATH}/{token}"

    def _own_url(self) -> str:
        host = self._settings.api_host
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._settings.api_port}"

    async def settle(
        self, connection: AsyncConnection, changed: Iterable[str], ended: Iterable[str], now: datetime
    ) -> None:
        """Do what follows from facts that were just applied.

        Args:
            changed: calls whose recording a fact changed.
            ended: calls that are over for the first time.
        """
        for call_id in sorted({*changed, *ended}):
            row = await recording_of(connection, call_id)
            if row is not None and row["status"] is not None:
                await self._settle(connection, call_id, row, call_id in changed, now)

    async def _settle(
        self, connection: AsyncConnection, call_id: str, row: Mapping[str, Any], changed: bool, now: datetime
    ) -> None:
        path = self._own_path(row)
        if path is not None:
            await change_recording(connection, call_id, now, host=self.disk)
        if row["status"] == "failed" and changed:
            await self._announce(connection, call_id, now, None)
        # a worker of an earlier version says `ready` where it has only written its file
        elif path is not None and row["location"] is None and row["status"] in ("uploading", "ready"):
            await self.bring(connection, call_id, path, now)
        if row["ended_at"] is not None and row["status"] in OPEN_STATUSES:
            await jobs.enqueue(connection, EXPIRE, call_id, now=now, call_id=call_id, due_at=now + GIVE_UP)

    def _own_path(self, row: Mapping[str, Any]) -> Path | None:
        path = Path(row["path"]) if row["path"] else None
        return path if path is not None and self.store.spool.holds(path) else None

    async def bring(self, connection: AsyncConnection, call_id: str, path: Path, now: datetime) -> None:
        """Have a finished file of this disk brought to where recordings stay; one that is there already is ready."""
        location = self.store.location_of(path)
        row = await recording_of(connection, call_id, lock=True)
        if row is None or not is_wanted(row):
            await self._erase(connection, call_id, path, now)
        elif row["location"] is not None:
            return
        elif location is None:
            # one that was given up keeps its status, so that nobody is told twice, until it is there after all
            status = "failed" if row["status"] == "failed" else "uploading"
            await change_recording(connection, call_id, now, status=status, path=str(path), host=self.disk)
            await jobs.enqueue(
                connection, UPLOAD, call_id, now=now, call_id=call_id, host=self.disk, payload={"path": str(path)}
            )
        elif (kept := await look(path, location, row["duration_ms"])) is None:
            await self.failed(connection, call_id, "the file is gone", now)
        else:
            await change_recording(connection, call_id, now, path=str(path), host=self.disk)
            await self.ready(connection, call_id, kept, await self.webhook_link(call_id, location, now), now)

    async def webhook_link(self, call_id: str, location: str, now: datetime) -> str | None:
        """Return the link that is sent out; None where none can be made, which must not keep the recording back."""
        try:
            return await self.link(call_id, location, "mono", now + WEBHOOK_LINK, now)
        except SettingsError as error:
            logger.error("no link to the recording is sent", extra={"call_id": call_id, "code": error.code})
            return None

    async def ready(
        self, connection: AsyncConnection, call_id: str, kept: Kept, url: str | None, now: datetime
    ) -> bool:
        """Say that a recording is there; returns False where nobody may have it any more.

        Args:
            url: for the webhook.
        """
        row = await recording_of(connection, call_id, lock=True)
        if row is None or not is_wanted(row):
            return False
        values: dict[str, Any] = {
            "status": "ready",
            "location": kept.location,
            "size_bytes": kept.size_bytes,
            "duration_ms": kept.duration_ms,
        }
        if self.store.is_in_bucket(kept.location):
            values |= {"path": None, "host": None}  # the file goes, and any host can read and delete what is there
        await change_recording(connection, call_id, now, **values)
        if row["location"] is None and row["status"] != "failed":
            await self._announce(connection, call_id, now, url)
        return True

    async def failed(self, connection: AsyncConnection, call_id: str, detail: str, now: datetime) -> None:
        """Say that there will be no recording, unless there is one by now."""
        row = await recording_of(connection, call_id, lock=True)
        if row is not None and row["status"] in (*OPEN_STATUSES, "ready") and row["location"] is None:
            logger.error("recording failed", extra={"call_id": call_id, "detail": detail})
            await change_recording(connection, call_id, now, status="failed", detail=detail)
            await self._announce(connection, call_id, now, None)

    async def _erase(self, connection: AsyncConnection, call_id: str, path: Path, now: datetime) -> None:
        """Have a file of this disk deleted that came for a call nobody may hear any more."""
        await change_recording(connection, call_id, now, status="suppressed", path=None, host=None, duration_ms=None)
        payload = {"path": str(path), "location": None}
        await jobs.enqueue(connection, ERASE, call_id, now=now, host=self.disk, payload=payload, again=True)


async def look(path: Path, location: str, duration_ms: int | None) -> Kept | None:
    """Return what a finished file is, None where there is none or nothing in it."""
    try:
        size = (await asyncio.to_thread(path.stat)).st_size
        duration = duration_ms or await asyncio.to_thread(played_ms_of, path)
    except OSError:
        return None
    return Kept(location, size, duration) if size else None
