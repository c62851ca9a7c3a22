"""What follows a real call is done though its endpoint is down, and though `serve` is killed while it does it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from spekoai import AsyncSpeko
from spekoai.models import WebhookEndpointInput
from sqlalchemy import select

from agent_worker.store.deliveries import INTERRUPTED
from agent_worker.store.engine import Database
from agent_worker.store.tables import attempts, deliveries, recordings
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.stand_ins.openai import OpenAIStandIn, least_form
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, Rig
from tests.e2e.talk import ask, ended_calls, eventually, greeted
from tests.e2e.test_remote_control import far_env
from tests.integration.object_store import BUCKET, URL, ObjectStore, object_store

SECRET = "whsec_c2VjcmV0LW9mLXdoYXQtZm9sbG93cy1hLWNhbGw="
TOLD = ["call.report", "call.analysis", "call.recording"]
SUMMARY = "Somebody asked for a room."
CLAIM_SECONDS = 90.0
"""A dead process's claim runs out within 30 s; the rest is for a busy machine."""


@dataclass
class Office:
    """A worker, a `serve` of another host, and one endpoint that is told what comes of calls."""

    rig: Rig
    number: str
    worker: WorkerProcess
    serve: ServeProcess
    bucket: ObjectStore
    analyst: OpenAIStandIn
    port: int
    key: str

    @property
    def speko(self) -> AsyncSpeko:
        """The API's client, to be entered."""
        return AsyncSpeko(api_key=self.key, base_url=self.serve.url)

    def receiver(self) -> HookReceiver:
        """Return what listens at the endpoint; until it is entered, nobody does."""
        return HookReceiver(secret=SECRET, port=self.port)

    async def call(self) -> str:
        """Have a conversation on the phone; returns the call's id once its last fact has arrived."""
        async with self.rig.phone() as phone:
            call = await phone.dial(self.number)
            await greeted(call)
            await ask(call, CALLER_LINES[0])
            await call.hang_up()
            [row] = await ended_calls(self.rig, self.serve)
        return str(row["id"])

    async def rows(self, query: Any) -> list[dict[str, Any]]:
        database = Database(f"sqlite:///{self.serve.data_dir / 'agent-worker.db'}")
        try:
            async with database.read() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]
        finally:
            await database.aclose()

    async def refused(self) -> list[dict[str, Any]]:
        """Return the deliveries that nobody took."""
        return await self.rows(select(deliveries.c.id).where(deliveries.c.error.is_not(None)))

    async def delivered(self) -> list[dict[str, Any]]:
        """Return every delivery once all are made."""
        async with asyncio.timeout(CLAIM_SECONDS):
            while True:
                rows = await self.rows(select(deliveries.c.id, deliveries.c.event, deliveries.c.status))
                if {row["event"] for row in rows} == set(TOLD) and {row["status"] for row in rows} == {"succeeded"}:
                    return rows
                await asyncio.sleep(0.2)


@asynccontextmanager
async def office(rig: Rig, folder: Path) -> AsyncIterator[Office]:
    number, port = rig.next_number(), free_port()
    async with object_store() as bucket, OpenAIStandIn(delay_ms=50) as analyst:
        analyst.form = lambda schema: least_form(schema) | {"summary": SUMMARY}
        env = {
            **rig.stack.env,
            **bucket.env,
            "READER_BASE_URL": analyst.base_url,
            "AGENT_WORKER_ANALYSIS": "reader:one",
            "AGENT_WORKER_RECORDINGS_URL": URL,
            "AGENT_WORKER_WEBHOOK_SECRET": SECRET,
            "AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1",
        }
        serve = ServeProcess(folder / "serve", [rig.agent(numbers=[number])], env=env)
        async with serve, rig.worker(folder=folder, numbers=[number], env=far_env(serve, folder)) as worker:
            made = Office(rig, number, worker, serve, bucket, analyst, port, serve.api_key)
            async with made.speko as speko:
                endpoint = {"name": "CRM", "url": f"http://127.0.0.1:{port}/hook", "events": TOLD}
                await speko.webhooks.create(WebhookEndpointInput.model_validate(endpoint))
            yield made


async def test_an_endpoint_that_was_down_for_the_whole_call_is_told_of_each_event_once(
    rig: Rig, tmp_path: Path
) -> None:
    """It comes back when it was tried in vain: one signed delivery for each event, in their order."""
    async with office(rig, tmp_path) as it:
        call_id = await it.call()
        assert await eventually(it.refused, seconds=30)
        async with it.receiver() as receiver:
            await it.delivered()
        async with it.speko as speko:
            report = await speko.calls.report(call_id)
            recording = await speko.calls.recording(call_id)
    assert all(request.verified for request in receiver.requests)
    assert [request.json["type"] for request in receiver.requests] == TOLD
    assert {request.json["call_id"] for request in receiver.requests} == {call_id}
    assert (report.analysis_status, report.summary) == ("completed", SUMMARY)
    assert recording.url


@pytest.mark.parametrize("busy_with", ["analysis", "upload", "delivery"])
async def test_serve_killed_in_the_middle_loses_and_doubles_nothing(rig: Rig, tmp_path: Path, busy_with: str) -> None:
    """kill -9, then a new `serve`: one analysis, one recording, every webhook; only what was on its way comes again."""
    async with office(rig, tmp_path) as it, it.receiver() as receiver:
        match busy_with:
            case "analysis":
                await it.analyst.set_fault("hang")
            case "upload":
                it.bucket.open.clear()
            case "delivery":
                receiver.answer_with({}, delay_ms=120_000)
        call_id = await it.call()
        match busy_with:
            case "analysis":
                assert await eventually(lambda: asyncio.sleep(0, it.analyst.sightings.of("openai", "hanging")))
            case "upload":
                await it.bucket.asked_to_write()
            case "delivery":
                await receiver.wait_for_requests(1, timeout_seconds=60)
        await it.serve.kill()
        await it.analyst.set_fault("none")
        it.bucket.open.set()
        receiver.answer_with({})
        await it.serve.start()
        rows = await it.delivered()
        async with it.speko as speko:
            report = await speko.calls.report(call_id)
        [recording] = await it.rows(select(recordings.c.status))
        cut = await it.rows(select(attempts.c.id).where(attempts.c.error == INTERRUPTED))
    came = Counter(request.headers["webhook-id"] for request in receiver.requests)
    assert set(came) == {row["id"] for row in rows}
    assert sum(came.values()) == len(TOLD) + (busy_with == "delivery")
    assert len(cut) == (busy_with == "delivery")
    assert all(request.verified for request in receiver.requests)
    assert (report.analysis_status, report.summary) == ("completed", SUMMARY)
    assert len(it.analyst.requests) == 1
    assert recording["status"] == "ready"
    stored = f"{BUCKET}/recordings/{call_id}"
    assert set(it.bucket.objects) == {f"{stored}.mono.ogg", f"{stored}.ogg"}
