"""`up` on a real call: the API beside the worker, a control plane that dies in mid-call, and a stop that waits."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from agent_worker.testing.sip_phone import SipPhone
from agent_worker.testing.up_process import UpProcess
from tests.e2e.rig import CALLER_LINES, REPLIES, Rig
from tests.e2e.talk import answered, ask, ended_calls, eventually, greeted, reason, words


@asynccontextmanager
async def up(rig: Rig, folder: Path, number: str, **env: str) -> AsyncIterator[tuple[UpProcess, SipPhone]]:
    agent = rig.agent(numbers=[number])
    async with rig.worker(agent, folder=folder, process=UpProcess, env=env) as worker, rig.phone() as phone:
        assert isinstance(worker, UpProcess)
        yield worker, phone


async def asked(worker: UpProcess, path: str) -> Any:
    """What the API answers; None while it is away."""
    headers = {"authorization": f"Bearer {worker.api_key}"}
    async with httpx.AsyncClient(base_url=worker.url, headers=headers, trust_env=False, timeout=5) as client:
        try:
            answer = await client.get(path)
        except httpx.TransportError:
            return None
    return answer.json() if answer.status_code == 200 else None


async def test_a_call_is_seen_by_the_api_and_outlives_the_control_plane(rig: Rig, tmp_path: Path) -> None:
    """Live while it goes; `kill -9` of `serve` costs the caller nothing; the report is there when it is back."""
    number = rig.next_number()
    async with up(rig, tmp_path, number) as (worker, phone):
        call = await phone.dial(number)
        await greeted(call)
        page = await eventually(lambda: asked(worker, "/v1/calls"), until=lambda found: bool(found and found["calls"]))
        [live] = page["calls"]
        assert (live["status"], live["ended_at"]) == ("active", None)
        worker.child("serve").kill()
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        report = await eventually(lambda: asked(worker, f"/v1/calls/{live['id']}/report"), seconds=40)
        async with httpx.AsyncClient(trust_env=False) as prometheus:
            metrics = (await prometheus.get(f"http://127.0.0.1:{worker.health_port}/metrics")).text
        code = await worker.terminate()
    assert answered(call, REPLIES[0].reply or "")
    assert [entry["text"] for entry in report["transcript"]["entries"] if entry["source"] == "user"] == [
        CALLER_LINES[0]
    ]
    assert 'agent_worker_calls_ended_total{direction="inbound",reason="user_hangup"} 1.0' in metrics
    assert 'agent_worker_answer_seconds_count{direction="inbound"} 1.0' in metrics
    assert "agent_worker_turn_seconds_count 1.0" in metrics
    assert code == 0


async def test_stopping_lets_the_call_end_and_takes_its_facts(rig: Rig, tmp_path: Path) -> None:
    """TERM in mid-call: the conversation goes on to its end, everything said is in the database, then all is gone."""
    number = rig.next_number()
    async with up(rig, tmp_path, number) as (worker, phone):
        call = await phone.dial(number)
        await greeted(call)
        worker.process.send_signal(signal.SIGTERM)
        await ask(call, CALLER_LINES[0])
        still = await asked(worker, "/v1/calls")
        await call.hang_up()
        code = await worker.process.wait(60)
        [row] = await ended_calls(rig, worker)
    assert still is not None
    assert code == 0
    assert reason(row) == "user_hangup"
    assert words(row, "user") == [CALLER_LINES[0]]
    assert list((worker.data_dir / "journal").glob("*.jsonl")) == []


async def test_a_killed_supervisor_takes_the_rest_with_it(rig: Rig, tmp_path: Path) -> None:
    """`kill -9` of the supervisor: no new calls, the live one ends as the caller likes, and nobody is left."""
    number = rig.next_number()
    async with up(rig, tmp_path, number) as (worker, phone):
        call = await phone.dial(number)
        await greeted(call)
        everybody = worker.tree()[1:]
        await worker.kill_parent()
        await ask(call, CALLER_LINES[0])
        await call.hang_up()

        async def left() -> list[int]:
            return [each.pid for each in everybody if each.is_running() and each.status() != "zombie"]

        assert await eventually(left, seconds=60, until=lambda pids: not pids) == []
        database = sqlite3.connect(worker.data_dir / "agent-worker.db")
        assert database.execute("SELECT disconnection_reason FROM calls").fetchall() == [("user_hangup",)]
        database.close()
    assert answered(call, REPLIES[0].reply or "")
