"""Does durable jobs: claims what is due, keeps the claim while it works, and tries again what did not succeed."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from agent_worker.domain.call import utc_now
from agent_worker.errors import AgentWorkerError, ControlPlaneError
from agent_worker.store.jobs import Job, any_due, claim, finish, give_up, put_off, renew

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.control")

LEASE = timedelta(seconds=30)
POLL_SECONDS = 0.5
FIRST_RETRY_SECONDS = 2.0
LONGEST_RETRY_SECONDS = 900.0

Handler = Callable[[Job], Awaitable[None]]
"""Does one job; doing it again after a crash must be harmless."""


class GiveUp(Exception):
    """A handler's verdict: trying again would not help; the text says why, to an operator."""


class Store(Protocol):
    """What the runner needs of a control plane."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits."""


def process_name() -> str:
    """Return a name for this process that no other has, for claims."""
    return f"{host_name()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def host_name() -> str:
    """Return this host's name: files on its disk are on nobody else's."""
    return socket.gethostname()


class JobRunner:
    """Runs jobs of the given kinds until cancelled.

    Args:
        handlers: by kind.
        most_attempts: after so many a job is left as failed.
        at_once: jobs done at the same time.
    """

    def __init__(
        self,
        control: Store,
        handlers: Mapping[str, Handler],
        *,
        host: str,
        most_attempts: int = 8,
        at_once: int = 4,
        poll_seconds: float = POLL_SECONDS,
        lease: timedelta = LEASE,
    ) -> None:
        self._control = control
        self._handlers = handlers
        self._host = host
        self._name = process_name()
        self._most_attempts = most_attempts
        self._at_once = at_once
        self._poll = poll_seconds
        self._lease = lease
        self._running: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Claim and do jobs until cancelled; what is half done then is claimed anew once its lease has run out."""
        try:
            while True:
                if not await self._claim_some():
                    await asyncio.sleep(self._poll)
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _claim_some(self) -> bool:
        free = self._at_once - len(self._running)
        if free <= 0:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            return True
        now = utc_now()
        kinds = list(self._handlers)
        try:
            async with self._control.reading() as connection:
                if not await any_due(connection, kinds, host=self._host, now=now):
                    return False
            async with self._control.writing() as connection:
                found = await claim(
                    connection,
                    kinds,
                    by=self._name,
                    host=self._host,
                    now=now,
                    until=now + self._lease,
                    limit=free,
                )
        except ControlPlaneError as error:
            logger.warning("jobs put off", extra={"code": error.code})
            return False
        for job in found:
            task = asyncio.create_task(self._do(job), name=job.id)
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return bool(found)

    async def _do(self, job: Job) -> None:
        keeping = asyncio.create_task(self._keep(job))
        try:
            await self._handlers[job.kind](job)
        except GiveUp as error:
            await self._settle(job, str(error), final=True)
        except Exception as error:  # whatever a handler meets, the job is tried again and the others go on
            if not isinstance(error, AgentWorkerError):
                logger.exception("job broke", extra={"job_id": job.id})
            await self._settle(job, f"{type(error).__name__}: {error}", final=job.attempts >= self._most_attempts)
        else:
            await self._settle(job, None, final=True)
        finally:
            keeping.cancel()

    async def _keep(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                async with self._control.writing() as connection:
                    if not await renew(connection, job, by=self._name, until=utc_now() + self._lease):
                        return
            except ControlPlaneError:
                continue

    async def _settle(self, job: Job, error: str | None, *, final: bool) -> None:
        now = utc_now()
        try:
            async with self._control.writing() as connection:
                if error is None:
                    await finish(connection, job, by=self._name)
                elif final:
                    logger.error("job given up", extra={"job_id": job.id, "attempts": job.attempts})
                    await give_up(connection, job, by=self._name, now=now, error=error)
                else:
                    due_at = now + timedelta(seconds=retry_seconds(job.attempts))
                    await put_off(connection, job, by=self._name, due_at=due_at, error=error)
        except ControlPlaneError as problem:
            # the claim runs out, and the job is done again
            logger.warning("job not settled", extra={"job_id": job.id, "code": problem.code})


def retry_seconds(attempts: int) -> float:
    """Return how long to wait after so many attempts: doubling, with jitter."""
    delay = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** (attempts - 1))
    return delay * random.uniform(0.75, 1.25)
