"""How many webhooks a second one `serve` delivers, alone and beside a dead endpoint: `python -m bench.webhooks`.

The outbox is filled first, then emptied by the product's own dispatcher into a receiver that answers at once, in a
process of its own. The second run has 10,000 more deliveries waiting for an endpoint that takes connections and never
answers. Numbers are of this machine; docs/performance.md has ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert, select

from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.settings import Settings
from agent_worker.store.endpoints import add_endpoint
from agent_worker.store.tables import calls, deliveries
from agent_worker.webhooks.dispatcher import Dispatcher
from agent_worker.webhooks.outbox import Recipient, Told, delivery_rows, write
from agent_worker.webhooks.signing import new_secret

ORGANIZATION = "org_local"
EVENTS = ("call.status", "call.status", "call.status", "call.report", "call.analysis")
TRANSCRIPT = [{"index": index, "source": "agent", "text": "Thank you for calling. " * 4} for index in range(20)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=5_000)
    parser.add_argument("--dead", type=int, default=10_000, help="deliveries that wait for a dead endpoint")
    parser.add_argument("--database", default="", help="a PostgreSQL URL; default: an SQLite file")
    given = parser.parse_args()
    for dead in (0, given.dead):
        with _receiver() as ports, tempfile.TemporaryDirectory() as folder:
            found = asyncio.run(_measure(Path(folder), given.database, given.deliveries, dead, ports))
        print(f"{dead:>6} waiting for a dead endpoint: {found}")


async def _measure(folder: Path, database: str, count: int, dead: int, ports: tuple[int, int]) -> str:
    settings = Settings(data_dir=folder, database_url=database, webhook_secret=new_secret(), egress_allow="127.0.0.1")
    control = EmbeddedControlPlane(settings, AgentCatalog.of([]))
    client = EgressClient(AddressPolicy.of(settings.egress_allow))
    run = f"{time.time_ns():x}"
    try:
        await _fill(control, run, count, dead, ports)
        running = asyncio.create_task(Dispatcher(control, client, settings, lambda: AgentCatalog.of([])).run())
        started = time.perf_counter()
        writes = await _until_delivered(control, f"whe_fast_{run}", count)
        seconds = time.perf_counter() - started
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        await client.aclose()
        await control.aclose()
    slowest, median = max(writes) * 1000, statistics.median(writes) * 1000
    return (
        f"{count / seconds:,.0f} deliveries/s ({count:,} in {seconds:.1f} s); "
        f"a write of a call beside it: median {median:.1f} ms, slowest {slowest:.0f} ms"
    )


async def _fill(control: EmbeddedControlPlane, run: str, count: int, dead: int, ports: tuple[int, int]) -> None:
    now = utc_now()
    for name, port in zip(("fast", "dead"), ports, strict=True):
        row = {
            "id": f"whe_{name}_{run}", "organization_id": ORGANIZATION, "name": name, "events": list(set(EVENTS)),
            "url": f"http://127.0.0.1:{port}/hook", "filter_tags": {}, "headers": {}, "auth_headers": [],
            "agent_ids": [], "extraction_fields": [], "created_at": now, "updated_at": now,
        }  # fmt: skip
        async with control.writing() as connection:
            await add_endpoint(connection, row)
    for name, wanted in (("dead", dead), ("fast", count)):
        for start in range(0, wanted, 500):
            await _write(control, f"whe_{name}_{run}", start, min(500, wanted - start), now)


async def _write(control: EmbeddedControlPlane, endpoint_id: str, start: int, count: int, now: datetime) -> None:
    rows: list[dict[str, Any]] = []
    found: dict[str, dict[str, Any]] = {}
    for number in range(start, start + count):
        call_id, event = f"{endpoint_id}-{number // len(EVENTS)}", EVENTS[number % len(EVENTS)]
        call = found.setdefault(call_id, _call(call_id, now + timedelta(microseconds=number)))
        payload = {"type": event, "call_id": call_id, "metadata": {"campaignId": "spring"}}
        if event == "call.report":
            payload["transcript"] = {"entries": TRANSCRIPT}
        told = Told(event, f"evt-{endpoint_id}-{number}", payload, now)
        rows += delivery_rows(call, told, [Recipient(endpoint_id)], now + timedelta(microseconds=number))
    async with control.writing() as connection:
        known = set((await connection.execute(select(calls.c.id).where(calls.c.id.in_(list(found))))).scalars())
        new = [call for call_id, call in found.items() if call_id not in known]
        if new:
            await connection.execute(insert(calls), new)
        await write(connection, rows)


def _call(call_id: str, at: datetime) -> dict[str, Any]:
    return {
        "id": call_id, "organization_id": f"{ORGANIZATION}-{call_id}", "agent_id": "desk", "status": "ended",
        "opened_status": "connecting", "direction": "inbound", "created_at": at, "updated_at": at,
        "pipeline_config": {}, "provenance": {}, "metadata": {}, "structured_data": {},
    }  # fmt: skip


async def _until_delivered(control: EmbeddedControlPlane, endpoint_id: str, count: int) -> list[float]:
    """Wait until everything was delivered; returns how long short writes beside it took, as those of live calls."""
    table = deliveries.c
    done = select(func.count()).where(table.endpoint_id == endpoint_id, table.status == "succeeded")
    writes: list[float] = []
    while True:
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        async with control.writing() as connection:
            await connection.execute(calls.update().where(calls.c.id == f"{endpoint_id}-0").values(note="still here"))
        writes.append(time.perf_counter() - started)
        async with control.reading() as connection:
            if (await connection.execute(done)).scalar_one() >= count:
                return writes


@contextlib.contextmanager
def _receiver() -> Iterator[tuple[int, int]]:
    """Lend two receivers of another process: the port of one that answers, and of one that never does."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_receive, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.terminate()
        process.join()


def _receive(there: Connection) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.split(b":")[1]))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        writer.close()

    async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            pass

    async def listen() -> None:
        servers = [await asyncio.start_server(handler, "127.0.0.1", 0, limit=2**20) for handler in (answer, hang)]
        there.send(tuple(server.sockets[0].getsockname()[1] for server in servers))
        await asyncio.Event().wait()

    asyncio.run(listen())


if __name__ == "__main__":
    main()
