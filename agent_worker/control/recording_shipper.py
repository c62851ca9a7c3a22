"""What a worker's parent process does about recordings that are finished: it brings them to where they stay.

Where the control plane is on another host, they are sent to it; else the jobs of this disk are done here, so that
nothing else has to run. Either way the files on the disk are all there is to know, so a restart goes on with them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent_worker.control.base import ControlPlane
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.journal_file import SUFFIX
from agent_worker.control.remote import RemoteControlPlane
from agent_worker.errors import ControlPlaneError
from agent_worker.recordings.place import call_of
from agent_worker.recordings.store import RecordingStore
from agent_worker.settings import Settings

if TYPE_CHECKING:
    from agent_worker.control.job_runner import JobRunner

logger = logging.getLogger("agent_worker.control")

POLL_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
REFUSED_SECONDS = 3_600.0
"""After so long a recording that was refused is offered again: nobody but its owner may throw it away."""

STOP_SECONDS = 20.0
"""How long a worker that stops goes on bringing what it has; the rest is brought at the next start."""


class Sends(Protocol):
    """What the shipper needs of a control plane on another host."""

    async def send_recording(self, call_id: str, path: Path) -> None:
        """Return once all of the file is kept there, or unwanted."""


class RecordingShipper:
    """Sends each finished recording in a folder to another host's control plane, then deletes it.

    A recording is finished when the call's journal is gone: its writer is, and the control plane knows of the call.
    """

    def __init__(self, folder: Path, journals: Path, control: Sends, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._folder = folder
        self._journals = journals
        self._control = control
        self._poll = poll_seconds
        self._refused: dict[str, float] = {}
        self._tries: dict[str, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task that `aclose` ends and awaits."""
        self._task = asyncio.create_task(self._run(), name="recording-shipper")

    async def aclose(self, deadline_seconds: float = STOP_SECONDS) -> None:
        """Stop after sending what can be within the deadline."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        with contextlib.suppress(TimeoutError, ControlPlaneError, OSError):
            async with asyncio.timeout(deadline_seconds):
                await self._ship()

    async def _run(self) -> None:
        pause = self._poll
        while True:
            try:
                await self._ship()
                pause = self._poll
            except (ControlPlaneError, OSError) as error:
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                code = error.code if isinstance(error, ControlPlaneError) else type(error).__name__
                logger.warning("recordings are kept here for now", extra={"code": code})
            except Exception:  # whatever one recording meets, the others are brought
                pause = LONGEST_PAUSE_SECONDS
                logger.exception("recording not sent")
            await asyncio.sleep(pause)

    async def _ship(self) -> None:
        now = time.monotonic()
        for call_id, path in await asyncio.to_thread(self._finished):
            if now < self._refused.get(call_id, 0.0):
                continue
            self._tries[call_id] = self._tries.get(call_id, 0) + 1
            try:
                await self._control.send_recording(call_id, path)
            except ControlPlaneError as error:
                if error.retryable:
                    raise
                self._refused[call_id] = now + REFUSED_SECONDS
                logger.error("recording not taken, it stays here", extra={"call_id": call_id, "code": error.code})
            else:
                await asyncio.to_thread(path.unlink, missing_ok=True)
            self._tries.pop(call_id, None)

    def _finished(self) -> list[tuple[str, Path]]:
        if not self._folder.is_dir():
            return []
        found = [
            (call_id, path)
            for path in sorted(self._folder.iterdir())
            if (call_id := call_of(path.name)) and path.is_file()
        ]
        finished = [one for one in found if not (self._journals / f"{one[0]}{SUFFIX}").exists()]
        # what failed before is last in line, so that one recording that always does starves no other
        return sorted(finished, key=lambda one: self._tries.get(one[0], 0))


class RecordingWork:
    """Does the recording jobs of this disk beside the calls."""

    def __init__(self, control: EmbeddedControlPlane) -> None:
        self._control = control
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task that `aclose` ends and awaits."""
        self._task = asyncio.create_task(self._run(), name="recording-jobs")

    async def aclose(self, deadline_seconds: float = STOP_SECONDS) -> None:
        """Stop once nothing is left to do or the deadline is over."""
        with contextlib.suppress(TimeoutError, ControlPlaneError, OSError):
            async with asyncio.timeout(deadline_seconds):
                while await self._is_something_due():  # noqa: ASYNC110 - a database has no event for it
                    await asyncio.sleep(0.2)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        from agent_worker.control.recording_jobs import recording_runner

        runner: JobRunner | None = None
        while True:
            try:
                runner = runner or recording_runner(self._control)
                await runner.run()
            except Exception:  # whatever a job meets, the calls go on, and so do the other jobs
                logger.exception("recording jobs broke")
            await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def _is_something_due(self) -> bool:
        from agent_worker.control.recordings import UPLOAD
        from agent_worker.store.jobs import waiting

        async with self._control.reading() as connection:
            return await waiting(connection, UPLOAD, host=self._control.recordings.disk)


def recording_shipper(control: ControlPlane, settings: Settings) -> RecordingShipper | RecordingWork:
    """Return what brings this worker's recordings to where they stay.

    Raises:
        SettingsError: AGENT_WORKER_RECORDINGS_URL cannot be used.
    """
    if isinstance(control, RemoteControlPlane):
        return RecordingShipper(settings.recordings_dir, settings.journal_dir, control)
    assert isinstance(control, EmbeddedControlPlane), "there are two"
    RecordingStore(settings)
    return RecordingWork(control)
