"""What tests of webhooks stand on: a database with endpoints and deliveries in it, and a dispatcher beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.settings import Settings
from agent_worker.store.endpoints import add_endpoint
from agent_worker.store.tables import attempts, deliveries
from agent_worker.webhooks.dispatcher import Dispatcher
from agent_worker.webhooks.outbox import Recipient, Told, delivery_rows, write

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cy0wMTIzNDU2Nzg5"
ALLOWED = "127.0.0.0/8"
EVERY_EVENT = ["call.status", "call.report", "call.analysis", "call.recording", "call.answered", "call.hangup"]


def endpoint_row(endpoint_id: str, url: str, **fields: Any) -> dict[str, Any]:
    """Return a workspace endpoint by column; it is told everything."""
    return {
        "id": endpoint_id,
        "organization_id": "org_local",
        "name": endpoint_id,
        "url": url,
        "events": EVERY_EVENT,
        "all_agents": True,
        "agent_ids": [],
        "filter_tags": {},
        "headers": {},
        "auth_headers": [],
        "timeout_ms": 8_000,
        "signing_secret_source": "workspace",
        "extraction_fields": [],
        "content_mode": "full",
        "created_at": utc_now(),
        "updated_at": utc_now(),
        **fields,
    }


class Outbox:
    """A database with an outbox in it.

    Attributes:
        catalog: the agents a dispatcher sees.
    """

    def __init__(self, folder: Path, database_url: str = "", **changes: Any) -> None:
        values = {"data_dir": folder, "database_url": database_url, "webhook_secret": SECRET, "egress_allow": ALLOWED}
        self.settings = Settings(**(values | changes))
        self.catalog = AgentCatalog.of([])
        self.control = EmbeddedControlPlane(self.settings, self.catalog)
        self._written = 0

    async def add(self, endpoint_id: str, url: str, **fields: Any) -> None:
        """Register an endpoint."""
        async with self.control.writing() as connection:
            await add_endpoint(connection, endpoint_row(endpoint_id, url, **fields))

    async def write(
        self,
        endpoint_id: str,
        *events: str,
        call_id: str | None = None,
        now: datetime | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Write deliveries of these events of one call, in order; returns their ids."""
        call = {"id": call_id, "organization_id": "org_local", "agent_id": "desk", "metadata": {}}
        rows: list[dict[str, Any]] = []
        start = now or utc_now()
        for event in events:
            self._written += 1
            told = Told(event, f"evt_{self._written}", {"type": event, "n": self._written, **(payload or {})}, start)
            moment = start + timedelta(microseconds=self._written)
            rows += delivery_rows(call, told, [Recipient(endpoint_id)], moment)
        async with self.control.writing() as connection:
            await write(connection, rows)
        return [row["id"] for row in rows]

    async def call(self, call_id: str) -> None:
        """Write the row of a call, so that deliveries can belong to it."""
        from agent_worker.store.tables import calls

        now = utc_now()
        row = {
            "id": call_id, "organization_id": "org_local", "agent_id": "desk", "status": "ended", "opened_status": "x",
            "direction": "inbound", "created_at": now, "updated_at": now, "pipeline_config": {}, "provenance": {},
            "metadata": {}, "structured_data": {},
        }  # fmt: skip
        async with self.control.writing() as connection:
            await connection.execute(insert(calls), [row])

    async def rows(self) -> dict[str, dict[str, Any]]:
        """Return every delivery by id."""
        async with self.control.reading() as connection:
            found = (await connection.execute(select(deliveries).order_by(deliveries.c.created_at))).mappings()
            return {row["id"]: dict(row) for row in found}

    async def attempts(self) -> list[dict[str, Any]]:
        """Return every attempt, in order."""
        async with self.control.reading() as connection:
            order = (attempts.c.created_at, attempts.c.attempt_number)
            found = (await connection.execute(select(attempts).order_by(*order))).mappings()
            return [dict(row) for row in found]

    async def wait_for(self, ids: Sequence[str], *statuses: str, seconds: float = 60) -> dict[str, dict[str, Any]]:
        """Return the deliveries by id once these have such a status."""
        return await self.until(lambda rows: all(rows[one]["status"] in statuses for one in ids), seconds=seconds)

    async def until(
        self, are_so: Callable[[dict[str, dict[str, Any]]], bool], *, seconds: float = 60
    ) -> dict[str, dict[str, Any]]:
        """Return the deliveries by id once they are so."""
        async with asyncio.timeout(seconds):
            while True:
                rows = await self.rows()
                if are_so(rows):
                    return rows
                await asyncio.sleep(0.03)

    @asynccontextmanager
    async def delivering(self, **options: Any) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher; by default a delivery that failed is tried again after 50 ms."""
        client = EgressClient(AddressPolicy.of(self.settings.egress_allow))
        given = {"schedule": (0.05,), "poll_seconds": 0.02} | options
        dispatcher = Dispatcher(self.control, client, self.settings, lambda: self.catalog, **given)
        running = asyncio.create_task(dispatcher.run())
        try:
            yield dispatcher
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await client.aclose()


@asynccontextmanager
async def outbox_on(folder: Path, database_url: str = "", **changes: Any) -> AsyncIterator[Outbox]:
    """Lend an outbox."""
    outbox = Outbox(folder, database_url, **changes)
    try:
        yield outbox
    finally:
        await outbox.control.aclose()
