"""Brings recordings to where they stay, and deletes them: durable jobs, done by whoever has the file on its disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent_worker.control.job_runner import GiveUp, Handler, JobRunner
from agent_worker.control.recordings import ERASE, EXPIRE, UPLOAD, Kept, Recordings, look
from agent_worker.domain.call import utc_now
from agent_worker.errors import RecordingStoreError
from agent_worker.store.jobs import Job
from agent_worker.store.recordings import is_wanted, recording_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.control")

MOST_ATTEMPTS = 300
"""Three days, at one in fifteen minutes."""

AT_ONCE = 2
POLL_SECONDS = 2.0


class Control(Protocol):
    """What the jobs need of a control plane."""

    @property
    def recordings(self) -> Recordings:
        """Where recordings are."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits."""


def recording_runner(control: Control) -> JobRunner:
    """Return what does the jobs of this disk, and those any process can do."""
    handlers = RecordingJobs(control).handlers()
    disk = control.recordings.disk
    return JobRunner(
        control, handlers, host=disk, most_attempts=MOST_ATTEMPTS, at_once=AT_ONCE, poll_seconds=POLL_SECONDS
    )


class RecordingJobs:
    """The work itself; each job may be done twice, or begin where a killed process left it."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._recordings = control.recordings
        self._store = control.recordings.store

    def handlers(self) -> Mapping[str, Handler]:
        """Return what is done, by kind of job."""
        return {UPLOAD: self.upload, ERASE: self.erase, EXPIRE: self.expire}

    async def upload(self, job: Job) -> None:
        """Bring a file to where recordings stay, say so, and delete it here."""
        call_id, path = job.call_id, Path(job.payload["path"])
        if call_id is None or not self._store.may_delete(path):
            raise GiveUp("the job names no recording")
        async with self._control.reading() as connection:
            row = await recording_of(connection, call_id)
        wanted = is_wanted(row)
        if row is not None and wanted and row["location"] is None and not await self._bring(job, call_id, path, row):
            return
        # also where it was ready before: who brought it was killed before it could tidy up
        if self._store.location_of(path) is None or not wanted:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _bring(self, job: Job, call_id: str, path: Path, row: Mapping[str, object]) -> bool:
        """Return whether the file has been brought."""
        known = row["duration_ms"]
        kept = await look(path, "", known if isinstance(known, int) else None)
        try:
            if kept is None:
                raise FileNotFoundError(path)
            location = await self._store.put(path, call_id)
        except FileNotFoundError:
            await self._fail(call_id, "the file is gone")
            return False
        except RecordingStoreError as error:
            logger.warning("recording not brought yet", extra={"call_id": call_id, "error": str(error)})
            if job.attempts >= MOST_ATTEMPTS:
                await self._fail(call_id, error.message)
                raise GiveUp(error.message) from error
            raise
        kept = Kept(location, kept.size_bytes, kept.duration_ms)
        now = utc_now()
        url = await self._recordings.webhook_link(call_id, location, now)
        async with self._control.writing() as connection:
            wanted = await self._recordings.ready(connection, call_id, kept, url, now)
        if not wanted:  # purged meanwhile
            await self._store.delete(location)
        return True

    async def _fail(self, call_id: str, detail: str) -> None:
        async with self._control.writing() as connection:
            await self._recordings.failed(connection, call_id, detail, utc_now())

    async def erase(self, job: Job) -> None:
        """Delete a recording where it stays and where it was written."""
        location, path = job.payload.get("location"), job.payload.get("path")
        await self._forget_incoming(job)
        if location:
            await self._store.delete(str(location))
        if path and self._store.may_delete(Path(path)):
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)
        elif path:
            raise GiveUp("the path is not that of a recording of this disk")

    async def expire(self, job: Job) -> None:
        """Give up a recording that has not come: its host is gone."""
        if job.call_id is not None:
            await self._fail(job.call_id, "it was not brought within three days")
        await self._forget_incoming(job)

    async def _forget_incoming(self, job: Job) -> None:
        """Delete what a worker on another host has sent so far, if it sent it here."""
        part = self._store.incoming(job.id.partition(":")[2])
        await asyncio.to_thread(part.unlink, missing_ok=True)
