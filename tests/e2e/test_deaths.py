"""Processes that die, and a database that is away: nothing is lost, no caller is stranded."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent_worker.testing.sip_phone import CallFailed
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig, describe
from tests.e2e.talk import ask, ended_calls, event_types, greeted, heard_clip, reason, words


def busy_job(worker: WorkerProcess) -> psutil.Process:
    """Return the process of the call: the one that has a journal open."""
    for process in worker.job_processes():
        if any(file.path.endswith(".jsonl") for file in process.open_files()):
            return process
    raise AssertionError("no process has a journal open")


def check_lost(row: dict[str, Any]) -> None:
    """The call failed for want of its worker, with everything said until then, and a report."""
    assert (row["status"], reason(row)) == ("failed", "worker_lost"), describe([row])
    assert words(row, "user") == [CALLER_LINES[0]]
    assert words(row, "agent")[:2] == [GREETING, REPLIES[0].reply]
    assert row["report"]["outcome"] == "failed"
    assert "call.hangup" in event_types(row)


async def test_sigterm_lets_a_call_end_and_takes_no_new_one(rig: Rig, tmp_path: Path) -> None:
    """A drained worker refuses new calls, holds the old one to its end, and exits 0."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        stopping = asyncio.create_task(worker.terminate(60))
        await asyncio.sleep(0.5)
        health = await worker.health()
        assert health is not None
        assert (health["http_status"], health["status"]) == (503, "draining")
        second = await phone.dial(number, from_="+15557777")
        with pytest.raises((TimeoutError, CallFailed)):
            await second.wait_answered(3)
        await second.hang_up()
        await ask(call, CALLER_LINES[0])
        assert not stopping.done()
        await call.hang_up()
        assert await stopping == 0
        rows = await ended_calls(rig, worker)

    assert [reason(row) for row in rows] == ["user_hangup"]
    assert words(rows[0], "user") == [CALLER_LINES[0]]


async def test_a_killed_job_process_tells_the_caller_and_loses_nothing(rig: Rig, tmp_path: Path) -> None:
    """kill -9 of a call's process: the caller is told why, the line goes down, everything said is kept."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        busy_job(worker).kill()
        killed = time.monotonic()
        await call.wait_ended(15)
        down = time.monotonic() - killed
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)
        again = await phone.dial(number)
        await greeted(again)
        await again.hang_up()
        await ended_calls(rig, worker, 2)

    assert down < 10
    assert heard_clip(call, "goodbye")
    check_lost(row)
    assert row["recording_status"] == "ready"


async def test_a_killed_worker_leaves_no_caller_in_silence(rig: Rig, tmp_path: Path) -> None:
    """kill -9 of the parent alone: its call hangs up and writes its end within seconds; a restart reports it."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await worker.kill_parent()
        await call.wait_ended(5)
        await rig.stack.wait_no_rooms(3)
        await worker.start()
        [row] = await ended_calls(rig, worker)

    check_lost(row)


async def test_everything_killed_at_once_is_made_good_by_a_restart(rig: Rig, tmp_path: Path) -> None:
    """kill -9 of every process: the next start takes the caller's line down and reports the call, nothing lost."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await worker.kill_all()
        await worker.start()
        await call.wait_ended(20)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)

    check_lost(row)


async def test_a_locked_database_is_not_noticed_by_the_caller(rig: Rig, tmp_path: Path) -> None:
    """The database is locked for most of a minute in mid-call: turns go on as before, and every fact is there afterwards."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number], idleRePrompts={"enabled": False})
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        before = await ask(call, CALLER_LINES[0])
        lock = sqlite3.connect(worker.data_dir / "agent-worker.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        locked = time.monotonic()
        during = await ask(call, CALLER_LINES[1])
        await asyncio.sleep(max(0.0, 45 - (time.monotonic() - locked)))
        await call.hang_up()
        await asyncio.sleep(1)
        lock.execute("ROLLBACK")
        lock.close()
        [row] = await ended_calls(rig, worker, seconds=30)

    assert during < before + 1.0
    assert words(row, "user") == list(CALLER_LINES[:2])
    assert words(row, "agent") == [GREETING, REPLIES[0].reply, REPLIES[1].reply]
    assert reason(row) == "user_hangup"


async def test_a_database_that_is_gone_comes_back_with_every_fact(rig: Rig, tmp_path: Path) -> None:
    """The database's folder cannot be reached from before the call to after it; the journal delivers it all later."""
    number = rig.next_number()
    folder = tmp_path / "database"
    env = {"AGENT_WORKER_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/agent-worker.db"}
    folder.write_text("in the way")
    async with (
        rig.worker(rig.agent(numbers=[number]), folder=tmp_path, env=env) as worker,
        rig.phone() as phone,
    ):
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        await rig.stack.wait_no_rooms(3)
        assert list((worker.data_dir / "journal").glob("*.jsonl"))
        folder.unlink()
        folder.mkdir()
        (worker.data_dir / "agent-worker.db").symlink_to(folder / "agent-worker.db")
        [row] = await ended_calls(rig, worker, seconds=30)

    assert words(row, "user") == [CALLER_LINES[0]]
    assert reason(row) == "user_hangup"
