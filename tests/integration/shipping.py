"""What the shipper's tests stand on: journals, a control plane that may be away, and a shipper between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper, OnOrphan
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal
from agent_worker.domain.fact import (
    CallEnded,
    Fact,
    encode,
)
from agent_worker.settings import Settings
from agent_worker.store import queries


class Rig:
    """A journal folder, a control plane over a real database, and a shipper between them."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.settings = Settings(data_dir=folder, database_url=database_url, lease_seconds=5)
        self.journals = self.settings.journal_dir
        self.journals.mkdir(parents=True)
        self.control = EmbeddedControlPlane(self.settings)

    @asynccontextmanager
    async def shipping(
        self,
        control: Any = None,
        on_orphan: OnOrphan | None = None,
        deadline_seconds: float = 10,
        **options: Any,
    ) -> AsyncIterator[JournalShipper]:
        shipper = JournalShipper(
            self.journals,
            control or self.control,
            worker_id="w1",
            lease_seconds=5,
            on_orphan=on_orphan,
            poll_seconds=0.02,
            **options,
        )
        shipper.start()
        try:
            yield shipper
        finally:
            await shipper.aclose(deadline_seconds)

    def path(self, call_id: str = "call-1") -> Path:
        return self.journals / f"{call_id}.jsonl"

    def write(self, facts: Sequence[Fact], call_id: str = "call-1", tail: bytes = b"") -> Path:
        """Write a journal nobody holds, as a dead process leaves it."""
        self.path(call_id).write_bytes(b"".join(encode(fact) for fact in facts) + tail)
        return self.path(call_id)

    async def call(self, call_id: str = "call-1") -> dict[str, Any] | None:
        async with self.control.reading() as connection:
            return await queries.call_detail(connection, call_id)

    async def events(self, call_id: str = "call-1") -> list[dict[str, Any]]:
        async with self.control.reading() as connection:
            return await queries.call_events(connection, call_id)

    async def seen(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the call is in the database and the condition holds for it."""
        async with asyncio.timeout(30):
            while True:
                detail = await self.call()
                if detail is not None and condition(detail):
                    return
                await asyncio.sleep(0.02)

    async def ended(self, call_id: str = "call-1") -> dict[str, Any]:
        """Wait until the call is over in the database and its journal is gone; return it."""
        await until(lambda: not self.path(call_id).exists())
        detail = await self.call(call_id)
        assert detail is not None
        return detail


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Unreliable:
    """A control plane that fails as it is told, in front of a real one."""

    def __init__(self, control: EmbeddedControlPlane, fails: Callable[[Sequence[Fact]], Exception | None]) -> None:
        self._control = control
        self._fails = fails
        self.failures = 0
        self.renewed: list[tuple[str, ...]] = []

    async def open_call(self, offer: CallOffer, *, budget_seconds: float) -> CallPlan | CallRefusal:
        return await self._control.open_call(offer, budget_seconds=budget_seconds)

    async def record(self, facts: Sequence[Fact]) -> None:
        error = self._fails(facts)
        if error is not None:
            self.failures += 1
            raise error
        await self._control.record(facts)

    async def finish_call(self, ended: CallEnded) -> None:
        await self.record([ended])

    async def renew_leases(self, call_ids: Sequence[str], *, worker_id: str, until: datetime) -> None:
        self.renewed.append(tuple(call_ids))
        await self._control.renew_leases(call_ids, worker_id=worker_id, until=until)

    async def aclose(self) -> None:
        await self._control.aclose()
