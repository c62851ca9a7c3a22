"""Several `serve` on one PostgreSQL: they start together, share the work, and one that is killed is missed by nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, insert, select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.traces import EXPORT_TRACE
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store import tables
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.serve_process import ServeProcess
from tests.call_facts import START, CallStory, whole_call
from tests.databases import fresh_database
from tests.integration.serving import DESK, remote_to
from tests.integration.test_metrics import TOKEN as METRICS_TOKEN
from tests.integration.test_metrics import scraped
from tests.integration.test_traces import Collector, collecting

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1yZXBsaWNhcw=="
REPLICAS = 3
CALLS = 45


@asynccontextmanager
async def replicas(folder: Path, collector: Collector, database_url: str) -> AsyncIterator[list[ServeProcess]]:
    """Start three at the same moment on an empty database."""
    env = {
        "AGENT_WORKER_DATABASE_URL": database_url,
        "AGENT_WORKER_WEBHOOK_SECRET": SECRET,
        "AGENT_WORKER_METRICS_TOKEN": METRICS_TOKEN,
        "AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1",
        "AGENT_WORKER_ANALYSIS": "off",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    made = [ServeProcess(folder / f"serve-{number}", [DESK], env=env) for number in range(REPLICAS)]
    async with AsyncExitStack() as stack:
        for serve in made:
            stack.push_async_callback(serve.kill)
        await asyncio.gather(*(serve.start() for serve in made))
        yield made


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[EmbeddedControlPlane]:
    """A look at the database the replicas share."""
    with fresh_database("postgresql", tmp_path) as url:
        made = EmbeddedControlPlane(Settings(data_dir=tmp_path, database_url=url))
        yield made
        await made.aclose()


def database_of(control: EmbeddedControlPlane) -> str:
    return control._settings.database


async def add_endpoint(control: EmbeddedControlPlane, url: str) -> None:
    now = utc_now()
    async with control.writing() as connection:
        row = {
            "id": "whe_1",
            "organization_id": "org_local",
            "name": "CRM",
            "url": url,
            "events": ["call.report", "call.status"],
            "all_agents": True,
            "agent_ids": [],
            "filter_tags": {},
            "headers": {},
            "auth_headers": [],
            "extraction_fields": [],
            "created_at": now,
            "updated_at": now,
        }
        await connection.execute(insert(tables.webhook_endpoints), [row])


async def tell(serves: Sequence[ServeProcess], stories: Sequence[CallStory], folder: Path) -> None:
    """Report calls as workers of several hosts do, each to another replica."""

    async def of_one(number: int, serve: ServeProcess) -> None:
        async with remote_to(serve.url, folder / f"worker-{number}") as worker:
            for story in stories[number :: len(serves)]:
                ended = story.facts[-1]
                assert ended.kind == "call_ended"
                await worker.control.record(story.facts[:-1])
                await worker.control.finish_call(ended)

    await asyncio.gather(*(of_one(number, serve) for number, serve in enumerate(serves)))


async def count(control: EmbeddedControlPlane, table: Any, *conditions: Any) -> int:
    async with control.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(table).where(*conditions))).scalar_one())


async def open_work(control: EmbeddedControlPlane) -> int:
    waiting = tables.deliveries.c.status.in_(("pending", "delivering"))
    traces = tables.jobs.c.kind == EXPORT_TRACE
    return await count(control, tables.deliveries, waiting) + await count(control, tables.jobs, traces)


async def all_done(control: EmbeddedControlPlane, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while await open_work(control):  # noqa: ASYNC110 - other processes do it
            await asyncio.sleep(0.1)


async def asked_of_all(serves: Sequence[ServeProcess], key: str, call_id: str) -> list[dict[str, Any]]:
    """What each replica says of a call one of them was told, with the key one of them made."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, trust_env=False, timeout=30) as client:
        return [(await client.get(f"{serve.url}/v1/calls/{call_id}")).json() for serve in serves]


def calls(number: int) -> list[CallStory]:
    """Stories with ids that are trace ids."""
    return [whole_call(f"{n:032x}", start=START + timedelta(hours=n)) for n in range(number)]


async def test_three_start_at_once_and_share_the_work(control: EmbeddedControlPlane, tmp_path: Path) -> None:
    """One of them migrates and makes the first key; each delivery and each trace is made once, by whichever is free."""
    stories = calls(CALLS)
    async with HookReceiver(secret=SECRET) as receiver, collecting() as collector:
        async with replicas(tmp_path, collector, database_of(control)) as serves:
            keys = [line for serve in serves for line in serve.log().splitlines() if line.startswith("API key: ")]
            assert len(keys) == 1
            assert await count(control, tables.api_keys) == 1
            await add_endpoint(control, receiver.url)
            await tell(serves, stories, tmp_path)
            await all_done(control)
            told = [await scraped(serve.url, METRICS_TOKEN) for serve in serves]
            shown = await asked_of_all(serves, keys[0].removeprefix("API key: "), stories[0].call_id)
        made = await count(control, tables.deliveries)
        failed = await count(control, tables.deliveries, tables.deliveries.c.status != "succeeded")
    assert [call["id"] for call in shown] == [stories[0].call_id] * REPLICAS
    assert failed == 0
    assert made >= CALLS
    assert all(request.verified for request in receiver.requests)
    by_id = Counter(request.headers["webhook-id"] for request in receiver.requests)
    assert (len(by_id), set(by_id.values())) == (made, {1})
    roots = [span.trace_id.hex() for span in collector.spans if not span.parent_span_id]
    assert sorted(roots) == [story.call_id for story in stories]
    exported = [found.get(("agent_worker_traces_total", (("result", "exported"),)), 0) for found in told]
    assert sum(exported) == CALLS
    assert sum(1 for share in exported if share) >= 2


async def test_one_killed_in_the_middle_is_missed_by_nobody(control: EmbeddedControlPlane, tmp_path: Path) -> None:
    """`kill -9` of a replica that holds claims: the others finish them, under the same ids."""
    stories = calls(CALLS)
    async with HookReceiver(secret=SECRET) as receiver, collecting() as collector:
        async with replicas(tmp_path, collector, database_of(control)) as serves:
            await add_endpoint(control, receiver.url)
            receiver.answer_with({}, delay_ms=300)
            telling = asyncio.create_task(tell(serves[1:], stories, tmp_path))
            await receiver.wait_for_requests(CALLS // 2, timeout_seconds=60)
            await serves[0].kill()
            await telling
            await all_done(control)
        made = await count(control, tables.deliveries)
        async with control.reading() as connection:
            query = select(tables.deliveries.c.error).where(tables.deliveries.c.status != "succeeded")
            assert (await connection.execute(query)).scalars().all() == []
    by_id = Counter(request.headers["webhook-id"] for request in receiver.requests)
    assert len(by_id) == made
    assert max(by_id.values()) <= 2
    roots = {span.trace_id.hex() for span in collector.spans if not span.parent_span_id}
    assert roots == {story.call_id for story in stories}
