"""Webhooks of a real `serve` that is killed while it delivers, and of one whose endpoint is down: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.fact import CallAnswered
from agent_worker.settings import Settings
from agent_worker.store.deliveries import INTERRUPTED
from agent_worker.store.tables import attempts, deliveries
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import ServeProcess
from tests.call_facts import CallStory
from tests.integration.serving import DESK, remote_to
from tests.webhooks import SECRET

ENV = {
    "AGENT_WORKER_WEBHOOK_SECRET": SECRET,
    "AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1",
    "AGENT_WORKER_ANALYSIS": "off",
}


def agent_told_at(url: str) -> dict[str, Any]:
    return {**DESK, "webhooks": {"postCall": {"url": url}}}


def story(call_id: str) -> CallStory:
    made = CallStory(call_id)
    made.opened(agent_id="desk")
    made.add(CallAnswered)
    made.said(0, "user", "Hello.")
    made.ended()
    return made


async def tell(serve: ServeProcess, call_id: str, folder: Path) -> None:
    async with remote_to(serve.url, folder) as worker:
        await worker.control.record(story(call_id).facts)


@asynccontextmanager
async def look_into(serve: ServeProcess) -> AsyncIterator[EmbeddedControlPlane]:
    control = EmbeddedControlPlane(Settings(data_dir=serve.data_dir))
    try:
        yield control
    finally:
        await control.aclose()


async def delivered(serve: ServeProcess, *, seconds: float) -> list[dict[str, Any]]:
    """Return the deliveries once all are made."""
    async with look_into(serve) as control, asyncio.timeout(seconds):
        while True:
            async with control.reading() as connection:
                query = select(deliveries).order_by(deliveries.c.created_at)
                rows = [dict(row) for row in (await connection.execute(query)).mappings()]
            if all(row["status"] == "succeeded" for row in rows):
                return rows
            await asyncio.sleep(0.1)


async def test_serve_killed_in_the_middle_of_a_delivery_loses_nothing(tmp_path: Path) -> None:
    """What it was sending is sent again once its claim has run out, under the same id; nothing else comes twice."""
    async with HookReceiver(secret=SECRET) as receiver:
        agent = agent_told_at(receiver.url)
        serve = ServeProcess(tmp_path, [agent], env=ENV)
        async with serve:
            await tell(serve, "call-done", tmp_path)
            await receiver.wait_for_requests(1, timeout_seconds=120)
            await delivered(serve, seconds=120)
            receiver.answer_with({}, delay_ms=60_000)
            await tell(serve, "call-cut", tmp_path)
            await receiver.wait_for_requests(2, timeout_seconds=120)
            await serve.kill()
        receiver.answer_with({})
        async with ServeProcess(tmp_path, [agent], env=ENV) as again:
            await tell(again, "call-after", tmp_path)
            rows = await delivered(again, seconds=120)
            async with look_into(again) as control, control.reading() as connection:
                errors = list((await connection.execute(select(attempts.c.error))).scalars())
    ids = {row["call_id"]: row["id"] for row in rows}
    came = Counter(request.headers["webhook-id"] for request in receiver.requests)
    assert came == {ids["call-done"]: 1, ids["call-cut"]: 2, ids["call-after"]: 1}
    assert all(request.verified for request in receiver.requests)
    assert sorted(error or "" for error in errors) == ["", "", "", INTERRUPTED]


async def test_an_endpoint_that_was_down_for_the_calls_is_told_of_each_once(tmp_path: Path) -> None:
    """`serve` is stopped and started meanwhile; when somebody listens, each report comes once, and verifies."""
    port = free_port()
    agent = agent_told_at(f"http://127.0.0.1:{port}/hook")
    async with ServeProcess(tmp_path, [agent], env=ENV) as serve:
        await tell(serve, "call-1", tmp_path)
        await tell(serve, "call-2", tmp_path)
        assert await serve.terminate() == 0
    async with (
        HookReceiver(secret=SECRET, port=port) as receiver,
        ServeProcess(tmp_path, [agent], env=ENV) as serve,
    ):
        rows = await delivered(serve, seconds=120)
    assert [row["call_id"] for row in rows] == ["call-1", "call-2"]
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted(row["id"] for row in rows)
    assert all(request.verified for request in receiver.requests)
