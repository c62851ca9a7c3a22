"""Ships journals to the control plane, and ends the calls whose process died before it could.

One runs in the parent process of every worker. It may be killed at any moment, as may the job processes and
the database: what is in a journal is delivered by whoever runs next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from agent_worker import metrics
from agent_worker.control.base import ControlPlane
from agent_worker.control.journal_file import SUFFIX, JournalFile, Line
from agent_worker.control.orphan import last_words
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallEnded, CallOpened, Fact
from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.control")

BATCH_FACTS = 200
WATCH_SECONDS = 0.5
ORPHAN_SECONDS = 10.0
"""How long the caller of a lost call may take to be told."""

EMPTY_GRACE_SECONDS = 5.0
"""How long a journal may be without a fact and without a lock: its writer opens it before it locks it."""

FIRST_BACKOFF_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 5.0

LIVE_POLL_SECONDS = 0.025
"""How often journals are looked at while calls are live: what was said is elsewhere before anybody has to wait."""

OnOrphan = Callable[[CallOpened], Awaitable[object]]
OnDelivered = Callable[[Sequence[Fact]], object]


@dataclass(frozen=True)
class Standing:
    """How far delivery is.

    Attributes:
        behind_bytes: what the journals hold and nobody has taken.
        behind_seconds: for how long the control plane has taken nothing, 0 where it does.
    """

    journals: int
    behind_bytes: int
    behind_seconds: float


class JournalShipper:
    """Delivers the facts of every journal in `folder`, in order within a call, then deletes the journal.

    Args:
        worker_id: who renews the leases of the calls whose writers live.
        lease_seconds: how long a renewed lease lasts; it is renewed three times as often.
        on_orphan: told of each call whose process died, before its end is written; what it raises is logged.
        on_delivered: told of facts the control plane has taken.
        orphan_seconds: how long `on_orphan` may take.
        poll_seconds: how often the journals are looked at while no call is live.
    """

    def __init__(
        self,
        folder: Path,
        control: ControlPlane,
        *,
        worker_id: str,
        lease_seconds: float,
        on_orphan: OnOrphan | None = None,
        on_delivered: OnDelivered | None = None,
        orphan_seconds: float = ORPHAN_SECONDS,
        poll_seconds: float = 0.25,
    ) -> None:
        self._folder = folder
        self._control = control
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._on_orphan = on_orphan
        self._on_delivered = on_delivered
        self._orphan_seconds = orphan_seconds
        self._poll_seconds = poll_seconds
        self._journals: dict[Path, JournalFile] = {}
        self._burials: set[Path] = set()
        self._stopping = asyncio.Event()
        self._failures = 0
        self._paused_until = 0.0
        self._refused_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in a task that `aclose` ends and awaits."""
        self._task = asyncio.create_task(self._run(), name="journal-shipper")

    def standing(self) -> Standing:
        """Return how far delivery is now."""
        behind = 0
        for journal in self._journals.values():
            with contextlib.suppress(OSError):
                behind += max(0, journal.size() - journal.offset)
        refused = 0.0 if self._refused_since is None else time.monotonic() - self._refused_since
        return Standing(len(self._journals), behind, refused)

    async def aclose(self, deadline_seconds: float = 10.0) -> None:
        """Stop after delivering what can be within the deadline; the rest stays in its journals."""
        self._stopping.set()
        try:
            async with asyncio.timeout(deadline_seconds):
                if self._task is not None:
                    await self._task
                await self._drain()
        except TimeoutError:
            logger.warning("journals left for the next start", extra={"journals": len(self._journals)})
        self._task = None

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._ship_pause, self._ship), name="ship-journals")
            group.create_task(self._every(lambda: WATCH_SECONDS, lambda: self._watch(group)), name="watch-journals")
            group.create_task(self._every(lambda: self._lease_seconds / 3, self._renew), name="renew-leases")

    async def _every(self, seconds: Callable[[], float], step: Callable[[], Awaitable[bool]]) -> None:
        """Run `step` until stopped, at once again where it says that there is more to do."""
        while not self._stopping.is_set():
            try:
                more = await step()
            except Exception:  # nothing a step meets may end the delivery of everybody else's calls
                logger.exception("journal step failed")
                more = False
            if not more:
                await self._pause(seconds())

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    async def _drain(self) -> None:
        while True:
            moved = await self._ship()
            for journal in list(self._journals.values()):
                if not journal.complete and not journal.ended and not self._is_written(journal):
                    moved |= await self._bury(journal)
            if moved:
                continue
            if not any(journal.complete for journal in self._journals.values()):
                return
            await asyncio.sleep(min(self._poll_seconds, 0.1))

    # --- delivering

    def _ship_pause(self) -> float:
        live = any(not (journal.complete or journal.ended) for journal in self._journals.values())
        taken = time.monotonic() >= self._paused_until
        return min(LIVE_POLL_SECONDS, self._poll_seconds) if live and taken else self._poll_seconds

    async def _ship(self) -> bool:
        """Give each journal one batch; returns whether anything was delivered."""
        self._discover()
        moved = False
        for journal in list(self._journals.values()):
            if time.monotonic() < self._paused_until:
                break
            moved |= await self._ship_one(journal)
        return moved

    def _discover(self) -> None:
        try:
            found = {path for path in self._folder.iterdir() if path.name.endswith(SUFFIX)}
        except FileNotFoundError:
            found = set()
        for path in sorted(found - self._journals.keys()):
            self._journals[path] = JournalFile(path)
        for path in self._journals.keys() - found:
            del self._journals[path]

    async def _ship_one(self, journal: JournalFile) -> bool:
        try:
            lines, offset = journal.read(BATCH_FACTS) if journal.size() > journal.offset else ([], 0)
            if lines:
                await self._deliver(journal, lines)
                journal.offset = offset
                journal.ended |= any(isinstance(line.fact, CallEnded) for line in lines)
                self._failures = 0
                self._refused_since = None
            if journal.ended and journal.delete_if_done():
                self._journals.pop(journal.path, None)
            return bool(lines)
        except FileNotFoundError:
            self._journals.pop(journal.path, None)
        except ControlPlaneError as error:
            self._back_off(journal, error.code)
        except Exception as error:  # one journal that cannot be read or delivered must not keep the others
            logger.exception("journal not delivered", extra={"call_id": journal.call_id})
            self._back_off(journal, type(error).__name__)
        return False

    async def _deliver(self, journal: JournalFile, lines: Sequence[Line]) -> None:
        rejected = [line.raw for line in lines if line.fact is None]
        group: list[Line] = []
        for line in lines:
            if isinstance(line.fact, CallEnded):
                rejected += await self._send(group)
                rejected += await self._send([line])
                group = []
            elif line.fact is not None:
                group.append(line)
        rejected += await self._send(group)
        if rejected:
            journal.reject(rejected)
            metrics.FACTS_REJECTED.inc(len(rejected))
            logger.error("journal lines rejected", extra={"call_id": journal.call_id, "lines": len(rejected)})

    async def _send(self, lines: Sequence[Line]) -> list[bytes]:
        """Deliver facts together, or one by one where one of them is refused; returns the refused lines."""
        if not lines:
            return []
        try:
            await self._hand_over([line.fact for line in lines if line.fact is not None])
        except ControlPlaneError as error:
            if error.retryable:
                raise
            if len(lines) == 1:
                return [lines[0].raw]
            return [raw for line in lines for raw in await self._send([line])]
        return []

    async def _hand_over(self, facts: list[Fact]) -> None:
        if isinstance(facts[0], CallEnded):
            await self._control.finish_call(facts[0])
        else:
            await self._control.record(facts)
        if self._on_delivered is not None:
            self._on_delivered(facts)

    def _back_off(self, journal: JournalFile, code: str) -> None:
        delay = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**self._failures)
        if self._failures == 0:
            logger.warning("control plane does not take facts, journals keep them", extra={"code": code})
            self._refused_since = time.monotonic()
        self._failures = min(self._failures + 1, 10)
        self._paused_until = time.monotonic() + delay * random.uniform(0.75, 1.25)
        # last in line next time, so that a journal that always fails starves nobody
        if self._journals.pop(journal.path, None) is not None:
            self._journals[journal.path] = journal

    # --- the living and the dead

    async def _watch(self, group: asyncio.TaskGroup) -> bool:
        for journal in list(self._journals.values()):
            if journal.complete or journal.ended or journal.path in self._burials:
                continue
            if not self._is_written(journal):
                self._burials.add(journal.path)
                group.create_task(self._bury(journal), name=f"bury-{journal.call_id}")
        return False

    def _is_written(self, journal: JournalFile) -> bool:
        try:
            with journal.locked() as file:
                journal.seen_alive |= file is None
                return file is None
        except OSError:
            return True  # gone or unreadable: nothing to end here

    async def _bury(self, journal: JournalFile) -> bool:
        """End the call of a journal whose writer is gone; returns whether the journal now has an end."""
        try:
            with journal.locked() as file:
                if file is None:
                    return False
                scan = journal.scan()
                if scan.last_at is None:
                    return self._drop_factless(journal, file)
                if not scan.ended:
                    lost_at = utc_now() if journal.seen_alive else scan.last_at
                    logger.warning("call lost its process", extra={"call_id": journal.call_id})
                    await self._tell(scan.opened)
                    journal.cut_torn_line(file)
                    journal.append(file, last_words(journal.call_id, scan, lost_at))
                journal.complete = True
                return True
        except OSError as error:
            logger.warning("lost call not ended yet", extra={"call_id": journal.call_id, "error": type(error).__name__})
            return False
        finally:
            self._burials.discard(journal.path)

    def _drop_factless(self, journal: JournalFile, file: int) -> bool:
        if journal.age_seconds(time.time()) < EMPTY_GRACE_SECONDS:
            return False
        journal.cut_torn_line(file)
        if journal.size() == 0:
            journal.path.unlink()
        else:
            journal.ended = True  # complete lines that say nothing: deleted once they are kept aside
        return True

    async def _tell(self, opened: CallOpened | None) -> None:
        if opened is None or self._on_orphan is None:
            return
        try:
            async with asyncio.timeout(self._orphan_seconds):
                await self._on_orphan(opened)
        except Exception as error:  # noqa: BLE001 - whatever became of the caller, the call's end must be written
            logger.warning(
                "caller of a lost call not told",
                extra={"call_id": opened.call_id, "error": type(error).__name__},
            )

    async def _renew(self) -> bool:
        alive = [j.call_id for j in self._journals.values() if j.seen_alive and not (j.complete or j.ended)]
        if alive:
            until = utc_now() + timedelta(seconds=self._lease_seconds)
            try:
                await self._control.renew_leases(alive, worker_id=self._worker_id, until=until)
            except ControlPlaneError as error:
                logger.info("leases not renewed", extra={"code": error.code})
        return False
