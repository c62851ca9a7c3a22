"""`python -m bench.stream`: from a line in a call's journal to the same line at a client that watches the call."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from agent_worker.api.auth import hash_of, new_key
from agent_worker.call.journal import Journal
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.call import Direction, DisconnectionReason, utc_now
from agent_worker.domain.fact import CallAnswered, CallEnded, CallOpened, CallPlanned, TranscriptSpoken
from agent_worker.settings import Settings
from agent_worker.store.keys import save_key
from agent_worker.testing.serve_process import ServeProcess

AGENT = {"name": "desk", "systemPrompt": "You help."}
IDLE_SECONDS = 10.0


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def follow(url: str, key: str, call_id: str, arrived: dict[tuple[str, int], float]) -> None:
    headers = {"authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(10, read=None)
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout) as client,
        client.stream("GET", f"/v1/sessions/{call_id}/stream") as answer,
    ):
        answer.raise_for_status()
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: ") and name == "transcript":
                arrived.setdefault((call_id, json.loads(line[6:])["index"]), time.monotonic())


def begin(folder: Path, number: int) -> Journal:
    journal = Journal(folder, f"bench-{number}")
    journal.write(
        CallOpened, organization_id="org_local", direction=Direction.INBOUND, room_name=f"room-{number}", job_id="AJ"
    )
    journal.write(CallPlanned, agent_id="desk")
    journal.write(CallAnswered)
    return journal


async def talk(journal: Journal, lines: int, interval: float, written: dict[tuple[str, int], float]) -> None:
    for index in range(lines):
        await asyncio.sleep(interval)
        # on disk when this returns: the line is committed to the conversation
        journal.write(TranscriptSpoken, index=index, source="user", text=f"Line {index}.", started_at=utc_now())
        written[journal.call_id, index] = time.monotonic()


async def idle_cpu(process: psutil.Process) -> tuple[float, float]:
    """Return the CPU use of this process and of `serve`, in percent of a core."""
    own = psutil.Process()
    before = [sum(p.cpu_times()[:2]) for p in (own, process)]
    await asyncio.sleep(IDLE_SECONDS)
    after = [sum(p.cpu_times()[:2]) for p in (own, process)]
    first, second = ((b - a) / IDLE_SECONDS * 100 for a, b in zip(before, after, strict=True))
    return first, second


async def make_key(control: EmbeddedControlPlane) -> str:
    key = new_key()
    async with control.writing() as connection:
        options: dict[str, Any] = {"name": "bench", "scope": "read", "agent_ids": None, "now": utc_now()}
        await save_key(connection, "org_local", hashed=hash_of(key), shown=key[-4:], **options)
    return key


async def measure(given: argparse.Namespace, folder: Path, console: Console) -> None:
    env = {"AGENT_WORKER_DATABASE_URL": given.database} if given.database else {}
    serve = ServeProcess(folder, [AGENT], env=env, ready_seconds=120)
    settings = Settings(
        data_dir=serve.data_dir, agents_dir=serve.agents_dir, prompts_dir=folder, database_url=given.database
    )
    control = EmbeddedControlPlane(settings)
    shipper = JournalShipper(settings.journal_dir, control, worker_id="bench", lease_seconds=30)
    table = Table(title=f"Journal to client, {given.calls} calls, {os.cpu_count()} cores", title_justify="left")
    async with serve:
        key = await make_key(control)
        served = psutil.Process(serve.process.pid)
        shipper.start()
        nothing = await idle_cpu(served)
        journals = [begin(settings.journal_dir, number) for number in range(given.calls)]
        await asyncio.sleep(2)
        arrived: dict[tuple[str, int], float] = {}
        written: dict[tuple[str, int], float] = {}
        following = [asyncio.create_task(follow(serve.url, key, journal.call_id, arrived)) for journal in journals]
        await asyncio.sleep(1)
        silent = await idle_cpu(served)
        await asyncio.gather(*(talk(journal, given.lines, given.interval, written) for journal in journals))
        await asyncio.sleep(2)
        for journal in journals:
            journal.write(CallEnded, disconnection_reason=DisconnectionReason.USER_HANGUP)
            journal.close()
        await asyncio.gather(*following)
        await shipper.aclose()
    await control.aclose()
    delays = [(arrived[line] - at) * 1000 for line, at in written.items() if line in arrived]
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_row("lines written / arrived", f"{len(written)} / {len(delays)}")
    table.add_row("delay p50 / p95 / max", " / ".join(f"{percentile(delays, p):.0f}" for p in (0.5, 0.95, 1)) + " ms")
    table.add_row("CPU worker's shipper / serve, nothing live", "{:.1f} / {:.1f} %".format(*nothing))
    table.add_row("CPU worker's shipper / serve, calls watched, silent", "{:.1f} / {:.1f} %".format(*silent))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.stream", description=__doc__)
    parser.add_argument("--calls", type=int, default=10, help="calls at once, each watched once (default 10)")
    parser.add_argument("--lines", type=int, default=40, help="lines of each call (default 40)")
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between lines of a call (default 0.5)")
    parser.add_argument("--database", default="", help="database URL; default: an SQLite file")
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as scratch:
        asyncio.run(measure(parser.parse_args(), Path(scratch), Console()))


if __name__ == "__main__":
    main()
