"""Measures listing and searching very many calls: `python -m bench.calls_list --rows 1000000 --database URL`.

Each list is asked for many times, from different places and with different values, and as often over HTTP; one
`EXPLAIN` of each says whether the database used an index. An empty or missing database is filled first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table
from sqlalchemy import event, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.control.call_totals import CallTotals
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.api_key import hash_of, new_key
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store.call_lists import BUSY, COMPLETED, FAILED, IN_PROGRESS, NO_ANSWER, Filters, page
from agent_worker.store.keys import save_key
from agent_worker.store.tables import calls
from bench.calls_data import AGENTS, CAMPAIGNS, FIRST_NAMES, ORGANIZATION, OWN_NUMBERS, TOPICS, fill

BAR_MS = 20.0

Make = Callable[[random.Random, "Known"], Filters]


@dataclass(frozen=True)
class Known:
    """Something of the database, to ask for.

    Attributes:
        calls: `(id, created_at, customer's number)` of some calls.
        names: customers' last names, which are rare, and other words of summaries.
    """

    calls: list[tuple[str, datetime, str]]
    names: list[str]
    words: list[str]


@dataclass
class Case:
    """One kind of list."""

    name: str
    make: Make
    offset: int = 0
    total: bool = False
    milliseconds: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    plan: str = ""


def _base(**values: Any) -> Filters:
    return Filters(ORGANIZATION, **values)


def _agent(chance: random.Random) -> frozenset[str]:
    return frozenset({chance.choice(AGENTS)})


def _some(*results: int) -> frozenset[int]:
    return frozenset(results)


def cases() -> list[Case]:
    """Return every combination of filters that is fast in its own way."""

    def span(r: random.Random, k: Known, days: float) -> dict[str, datetime]:
        at = r.choice(k.calls)[1]
        return {"since": at - timedelta(days=days), "until": at}

    return [
        Case("all, newest", lambda r, k: _base()),
        Case("all, from a cursor anywhere", lambda r, k: _base(before=r.choice(k.calls)[1])),
        Case("agent", lambda r, k: _base(agent_ids=_agent(r), before=r.choice(k.calls)[1])),
        Case("agent that took no call", lambda r, k: _base(agent_ids=frozenset({"nobody"}))),
        Case("10 agents", lambda r, k: _base(agent_ids=frozenset(r.sample(AGENTS, 10)), before=r.choice(k.calls)[1])),
        Case("in progress (none)", lambda r, k: _base(results=_some(IN_PROGRESS))),
        Case("completed", lambda r, k: _base(results=_some(COMPLETED), before=r.choice(k.calls)[1])),
        Case(
            "failed, all ways", lambda r, k: _base(results=_some(FAILED, NO_ANSWER, BUSY), before=r.choice(k.calls)[1])
        ),
        Case("busy, inbound (none)", lambda r, k: _base(results=_some(BUSY), outbound=False)),
        Case("outbound, not done", lambda r, k: _base(outbound=True, done=False, before=r.choice(k.calls)[1])),
        Case("agent, no answer, done", lambda r, k: _base(agent_ids=_agent(r), results=_some(NO_ANSWER), done=True)),
        Case(
            "campaign", lambda r, k: _base(campaign_ids=frozenset({r.choice(CAMPAIGNS)}), before=r.choice(k.calls)[1])
        ),
        Case("campaign, busy", lambda r, k: _base(campaign_ids=frozenset({r.choice(CAMPAIGNS)}), results=_some(BUSY))),
        Case(
            "campaign, agent",
            lambda r, k: _base(campaign_ids=frozenset({r.choice(CAMPAIGNS)}), agent_ids=frozenset({r.choice(AGENTS)})),
        ),
        Case("customer's number", lambda r, k: _base(number=r.choice(k.calls)[2])),
        Case("own number", lambda r, k: _base(number=r.choice(OWN_NUMBERS), before=r.choice(k.calls)[1])),
        Case("own number, busy", lambda r, k: _base(number=r.choice(OWN_NUMBERS), results=_some(BUSY))),
        Case("one day", lambda r, k: _base(**span(r, k, 1))),
        Case(
            "one hour, agent, failed",
            lambda r, k: _base(**span(r, k, 0.04), agent_ids=_agent(r), results=_some(FAILED)),
        ),
        Case("deleted ones too", lambda r, k: _base(include_deleted=True, before=r.choice(k.calls)[1])),
        Case("search: name", lambda r, k: _base(search=r.choice(k.names))),
        Case("search: first and last name", lambda r, k: _base(search=f"{r.choice(FIRST_NAMES)} {r.choice(k.names)}")),
        Case("search: first name", lambda r, k: _base(search=r.choice(FIRST_NAMES))),
        Case("search: beginning of a name", lambda r, k: _base(search=r.choice(k.names)[:4])),
        Case("search: word of summaries", lambda r, k: _base(search=r.choice(k.words))),
        Case("search: two such words", lambda r, k: _base(search=" ".join(r.sample(k.words, 2)))),
        Case("search: word of every call", lambda r, k: _base(search="caller")),
        Case(
            "search: topic, agent, failed",
            lambda r, k: _base(search=r.choice(TOPICS), agent_ids=_agent(r), results=_some(FAILED)),
        ),
        Case("search: name, busy", lambda r, k: _base(search=r.choice(k.names), results=_some(BUSY))),
        Case("search: word nobody said", lambda r, k: _base(search="xylophone")),
        Case("search: number", lambda r, k: _base(search=r.choice(k.calls)[2])),
        Case("search: end of a number", lambda r, k: _base(search=r.choice(k.calls)[2][-7:])),
        Case("search: beginning of an id", lambda r, k: _base(search=r.choice(k.calls)[0][:8])),
        Case("search: name, one month", lambda r, k: _base(search=r.choice(k.names), **span(r, k, 30))),
        Case("page 3 of an agent, with total", lambda r, k: _base(agent_ids=_agent(r)), offset=100, total=True),
        Case("page 3 of all, with total", lambda r, k: _base(), offset=100, total=True),
        Case("page 200 of all", lambda r, k: _base(), offset=9_950),
        Case("page 3 of a search, with total", lambda r, k: _base(search=r.choice(k.names)), offset=100, total=True),
    ]


async def known_of(connection: AsyncConnection) -> Known:
    """Look at some calls, evenly spread."""
    newest = await connection.scalar(select(func.max(calls.c.created_at)))
    oldest = await connection.scalar(select(func.min(calls.c.created_at)))
    assert newest is not None and oldest is not None
    found, words, names = [], [], []
    for step in range(300):
        at = oldest + (newest - oldest) * step / 300
        filters = _base(before=at + timedelta(hours=12))
        for row in await page(connection, filters, 1):
            own_is_caller = row["direction"] == "outbound"
            found.append(
                (row["id"], row["created_at"], row["dialed_number"] if own_is_caller else row["caller_number"])
            )
            names.append(row["customer_name"].split()[-1])
            words += row["summary"].rstrip(".").split(". ")[-2].lower().split()[:3]
    return Known(found, names, words)


async def measure(control: EmbeddedControlPlane, found: list[Case], known: Known, repeats: int) -> None:
    """Ask for each list so often."""
    chance = random.Random(11)
    for case in found:
        totals = CallTotals()
        for index in range(repeats + 2):
            filters = case.make(chance, known)
            began = time.perf_counter()
            async with control.reading() as connection:
                rows = await page(connection, filters, 51, case.offset)
                if case.total:
                    await totals.total(connection, filters)
            if index >= 2:  # what is compiled once is not measured
                case.milliseconds.append((time.perf_counter() - began) * 1000)
                case.rows.append(len(rows))


async def measure_http(settings: Settings, found: list[Case], known: Known, repeats: int) -> None:
    """Ask for the lists by cursor over HTTP, the whole way but the network."""
    from agent_worker.app import create_app

    key = new_key()
    control = EmbeddedControlPlane(settings)
    async with control.writing() as connection:
        await save_key(
            connection,
            settings.organization_id,
            name="bench",
            hashed=hash_of(key),
            shown=key[-4:],
            scope="read",
            agent_ids=None,
            now=utc_now(),
        )
    await control.aclose()
    chance = random.Random(12)
    transport = httpx.ASGITransport(create_app(settings))
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://serve", headers=headers) as client:
        for case in found:
            if case.offset or case.total:
                continue
            for index in range(repeats + 2):
                query = _query(case.make(chance, known))
                began = time.perf_counter()
                answer = await client.get("/v1/calls", params=query)
                answer.raise_for_status()
                if index >= 2:
                    case.http.append((time.perf_counter() - began) * 1000)


_WORDS = {IN_PROGRESS: "in_progress", COMPLETED: "completed", FAILED: "failed", NO_ANSWER: "no_answer", BUSY: "busy"}


def _query(filters: Filters) -> dict[str, str]:
    results = sorted(filters.results or ())
    query = {
        "agent_id": ",".join(sorted(filters.agent_ids or ())),
        "campaign_id": ",".join(sorted(filters.campaign_ids or ())),
        "phone_number": filters.number or "",
        "status": ",".join(_WORDS[result] for result in results),
        "direction": {None: "", True: "outbound", False: "inbound"}[filters.outbound],
        "done": "" if filters.done is None else str(filters.done).lower(),
        "include_deleted": "true" if filters.include_deleted else "",
        "search": filters.search or "",
        "since": filters.since.isoformat() if filters.since else "",
        "until": filters.until.isoformat() if filters.until else "",
        "cursor": filters.before.isoformat() if filters.before else "",
    }
    return {name: value for name, value in query.items() if value}


async def explain(control: EmbeddedControlPlane, found: list[Case], known: Known) -> None:
    """Note for each list which indexes its statements use, and whether any reads a whole table."""
    chance = random.Random(13)
    for case in found:
        async with control.reading() as connection:
            case.plan = verdict(await plans(connection, case.make(chance, known), case.offset))


async def plans(connection: AsyncConnection, filters: Filters, offset: int = 0) -> list[str]:
    """Return the lines of the plans of every statement that a page takes."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if not statement.startswith("SET "):
            statements.append((statement, parameters))

    assert connection.sync_connection is not None
    event.listen(connection.sync_connection, "before_cursor_execute", note)
    await page(connection, filters, 51, offset)
    event.remove(connection.sync_connection, "before_cursor_execute", note)
    prefix = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
    lines: list[str] = []
    for statement, parameters in statements:
        lines += [str(row[-1]) for row in await connection.exec_driver_sql(f"{prefix} {statement}", parameters)]
    return lines


def verdict(lines: list[str]) -> str:
    """Return the indexes a plan uses, and the tables it reads whole."""
    used, scanned = set(), set()
    for line in lines:
        for name in (
            "ix_calls_",
            "uq_call",
            "pk_call",
            "call_search_words",
            "ix_call_search",
            "sqlite_autoindex_calls",
        ):
            if name in line:
                at = line.index(name)
                used.add(line[at:].split(" ")[0].strip("()"))
        text = line.strip().lstrip("-> ")
        if text.startswith(("Seq Scan on ", "Parallel Seq Scan on ")):
            scanned.add(text.split(" on ")[1].split(" ")[0])
        if text.startswith("SCAN ") and text.split(" ")[1] in ("calls", "call_search", "reports", "recordings"):
            scanned.add(text.split(" ")[1])
    if scanned:
        return f"READS ALL OF {', '.join(sorted(scanned))}"
    return ", ".join(sorted(used)) or "-"


def show(found: list[Case], console: Console) -> bool:
    """Print the table; returns whether every list is within the bar."""
    table = Table("list", "rows", "p50 ms", "p95 ms", "max ms", "HTTP p95 ms", "indexes")
    for case in found:
        p50, p95, most = (float(np.percentile(case.milliseconds, share)) for share in (50, 95, 100))
        http = f"{np.percentile(case.http, 95):.1f}" if case.http else "-"
        style = "red" if p95 > BAR_MS else None
        table.add_row(
            case.name,
            f"{np.median(case.rows):.0f}",
            f"{p50:.1f}",
            f"{p95:.1f}",
            f"{most:.1f}",
            http,
            case.plan,
            style=style,
        )
    console.print(table)
    everything = [value for case in found for value in case.milliseconds]
    over_http = [value for case in found for value in case.http]
    console.print(
        f"all lists together: p50 {np.percentile(everything, 50):.1f} ms, p95 {np.percentile(everything, 95):.1f} ms; "
        f"over HTTP: p50 {np.percentile(over_http, 50):.1f} ms, p95 {np.percentile(over_http, 95):.1f} ms"
    )
    return all(np.percentile(case.milliseconds, 95) <= BAR_MS for case in found)


async def run(url: str, rows: int, repeats: int, folder: Path, console: Console) -> tuple[list[Case], bool]:
    """Fill the database where it is empty, and measure."""
    settings = Settings(data_dir=folder, database_url=url, api_requests_per_minute=0, control_url="")
    settings = settings.model_copy(update={"organization_id": ORGANIZATION})
    control = EmbeddedControlPlane(settings)
    async with control.reading() as connection:
        has_calls = await connection.scalar(select(calls.c.id).limit(1)) is not None
    if not has_calls:
        await control.aclose()
        console.print(f"filling with {rows:,} calls …")
        console.print(f"filled in {await asyncio.to_thread(fill, url, rows):.0f} s")
    async with control.reading() as connection:
        known = await known_of(connection)
    found = cases()
    await explain(control, found, known)
    await measure(control, found, known, repeats)
    await measure_http(settings, found, known, repeats)
    await control.aclose()
    return found, show(found, console)


def main() -> int:
    """Measure as the arguments say; 1 where a list is over the bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", help="SQLAlchemy URL; default: an SQLite file that is deleted afterwards")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-calls-") as scratch:
        url = given.database or f"sqlite:///{Path(scratch) / 'calls.db'}"
        found, is_within = asyncio.run(run(url, given.rows, given.repeats, Path(scratch), Console(width=180)))
    if given.json:
        told = [{"list": case.name, "ms": case.milliseconds, "http_ms": case.http, "plan": case.plan} for case in found]
        given.json.write_text(json.dumps(told, indent=2))
    return 0 if is_within else 1


if __name__ == "__main__":
    sys.exit(main())
