"""A worker whose control plane is another process's `serve`: calls are the same, also while that one is down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_worker.control.remote import UNREACHABLE_EVENT
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.domain.number import NumberConfig
from agent_worker.store.agents import save_agent, save_number
from agent_worker.store.engine import Database
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig
from tests.e2e.talk import ask, ended_calls, event_types, eventually, find, greeted, reason, words


def far_env(serve: ServeProcess, folder: Path) -> dict[str, str]:
    """What a worker is told; it has no agents, no prompts and no database of its own."""
    return serve.worker_env | {
        "AGENT_WORKER_AGENTS_DIR": str(folder / "no-agents"),
        "AGENT_WORKER_PROMPTS_DIR": str(folder / "no-prompts"),
    }


def serve_with(rig: Rig, folder: Path, *agents: dict[str, Any], **env: str) -> ServeProcess:
    """Return a `serve` that may delete rooms on the rig's LiveKit."""
    return ServeProcess(folder / "serve", agents, env=rig.stack.env | env)


def journals(worker: WorkerProcess) -> list[Path]:
    return list((worker.data_dir / "journal").glob("*.jsonl"))


async def test_a_call_ends_up_in_the_other_hosts_database(rig: Rig, tmp_path: Path) -> None:
    """Answered by the agent of `serve`, with its prompt; row, events, transcript and report are there, and only there."""
    number = rig.next_number()
    async with (
        serve_with(rig, tmp_path, rig.agent(numbers=[number])) as serve,
        rig.worker(folder=tmp_path, numbers=[number], env=far_env(serve, tmp_path)) as worker,
        rig.phone() as phone,
    ):
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        [row] = await ended_calls(rig, serve)
        health = await worker.health()

    assert find(call, GREETING).missing_head == 0
    assert reason(row) == "user_hangup"
    assert words(row, "user") == [CALLER_LINES[0]]
    assert words(row, "agent") == [GREETING, REPLIES[0].reply]
    assert {"call.initiated", "call.answered", "call.hangup"} <= set(event_types(row))
    assert UNREACHABLE_EVENT not in event_types(row)
    assert row["report"]["outcome"] == "completed"
    assert health is not None
    assert health["control_plane"] == "ok"
    assert not (worker.data_dir / "agent-worker.db").exists()


async def test_the_webhook_is_asked_by_the_other_host(rig: Rig, tmp_path: Path) -> None:
    """`serve` knows where and with which secret; the caller hears what it answered."""
    number = rig.next_number()
    greeting = "Certainly, I have a room for two people."
    async with HookReceiver() as hook:
        hook.answer_with({"firstMessage": greeting}, delay_ms=300)
        agent = rig.agent(numbers=[number], webhooks={"preCall": {"url": hook.url}})
        async with (
            serve_with(rig, tmp_path, agent, AGENT_WORKER_EGRESS_ALLOW="127.0.0.1") as serve,
            rig.worker(folder=tmp_path, numbers=[number], env=far_env(serve, tmp_path)) as worker,
            rig.phone() as phone,
        ):
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
            [row] = await ended_calls(rig, serve)
            kept = "".join(path.read_text() for path in (worker.data_dir / "cache").glob("*.json"))
        assert len(hook.requests) == 1
    find(call, greeting)
    assert "call.pre_call" in event_types(row)
    assert "front-desk" in kept
    assert hook.url not in kept


async def test_killed_in_mid_call_and_back_later_nothing_is_missing(rig: Rig, tmp_path: Path) -> None:
    """kill -9 of `serve` while people talk: they notice nothing, and it gets every fact when it is back."""
    number = rig.next_number()
    async with (
        serve_with(rig, tmp_path, rig.agent(numbers=[number])) as serve,
        rig.worker(folder=tmp_path, numbers=[number], env=far_env(serve, tmp_path)) as worker,
        rig.phone() as phone,
    ):
        call = await phone.dial(number)
        await greeted(call)
        before = await ask(call, CALLER_LINES[0])
        await serve.kill()
        during = await ask(call, CALLER_LINES[1])
        await call.hang_up()
        await rig.stack.wait_no_rooms(3)
        await asyncio.sleep(1)
        assert journals(worker)
        await serve.start()
        [row] = await ended_calls(rig, serve, seconds=30)
        assert await eventually(lambda: asyncio.sleep(0, not journals(worker)))

    assert during < before + 1.0
    assert reason(row) == "user_hangup"
    assert words(row, "user") == list(CALLER_LINES[:2])
    assert words(row, "agent") == [GREETING, REPLIES[0].reply, REPLIES[1].reply]
    assert event_types(row).count("call.hangup") == 1


async def test_a_call_that_comes_while_it_is_down_is_answered_from_the_cache(rig: Rig, tmp_path: Path) -> None:
    """Also by a worker that was restarted meanwhile; the call says so, and is delivered later."""
    number = rig.next_number()
    async with (
        serve_with(rig, tmp_path, rig.agent(numbers=[number])) as serve,
        rig.worker(folder=tmp_path, numbers=[number], env=far_env(serve, tmp_path)) as worker,
        rig.phone() as phone,
    ):
        await serve.kill()
        assert await worker.terminate() == 0
        await worker.start()
        health = await eventually(worker.health, until=lambda h: (h or {}).get("control_plane") != "unknown")
        call = await phone.dial(number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        await rig.stack.wait_no_rooms(3)
        await serve.start()
        [row] = await ended_calls(rig, serve, seconds=30)

    assert health is not None
    assert (health["status"], health["control_plane"]) == ("ready", "control_plane_unreachable")
    assert "configuration cannot be asked for, the cached one is used" in worker.log()
    assert words(row, "agent") == [GREETING, REPLIES[0].reply]
    assert event_types(row).count(UNREACHABLE_EVENT) == 1
    moments = call.moments
    assert moments.answered_at is not None
    assert moments.ringing_at is not None
    assert moments.answered_at - moments.ringing_at < 5.0


async def test_a_worker_without_any_configuration_waits_for_it(rig: Rig, tmp_path: Path) -> None:
    """Neither a cache nor a `serve`: not ready, and it says why; then a wrong token, said too; then calls are taken."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number])
    name = f"phone-agent-{number[1:]}"
    serve = serve_with(rig, tmp_path, agent)
    right = serve.env["AGENT_WORKER_CONTROL_TOKEN"]
    env = rig.stack.env | rig.providers.env | far_env(serve, tmp_path)
    worker = WorkerProcess(tmp_path, env, [], agent_name=name, ready_seconds=4)
    inbound = await rig.stack.route_number([number], name)
    try:
        with pytest.raises(RuntimeError, match="not ready"):
            await worker.start()
        health = await worker.health() or {}
        assert (health["http_status"], health["status"]) == (503, "waiting_for_control_plane")
        assert "waiting for the control plane" in worker.log()
        serve.env["AGENT_WORKER_CONTROL_TOKEN"] = "another-token-than-the-workers"
        await serve.start()
        refused = await eventually(
            worker.health, until=lambda h: (h or {}).get("control_plane") != health["control_plane"]
        )
        assert refused is not None
        assert (refused["status"], refused["control_plane"]) == ("waiting_for_control_plane", "control_token_refused")
        await serve.kill()
        serve.env["AGENT_WORKER_CONTROL_TOKEN"] = right
        await serve.start()
        ready = await eventually(worker.health, seconds=60, until=lambda h: (h or {}).get("http_status") == 200)
        assert ready, worker.log()
        async with rig.phone() as phone:
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
            await ended_calls(rig, serve)
    finally:
        await worker.kill_all()
        await serve.kill()
        await rig.stack.forget_number(inbound)


async def test_an_agent_changed_in_the_database_says_so_at_the_next_call(rig: Rig, tmp_path: Path) -> None:
    """Edited while everything runs: the next caller hears the new words, rendered ahead, without a restart."""
    number = rig.next_number()
    async with (
        serve_with(rig, tmp_path, rig.agent(numbers=[])) as serve,
        rig.worker(folder=tmp_path, numbers=[number], env=far_env(serve, tmp_path)) as worker,
        rig.phone() as phone,
    ):
        rendered = [len(list((worker.data_dir / "cache" / "speech").glob("*.pcm")))]
        database = Database(f"sqlite:///{serve.data_dir / 'agent-worker.db'}")
        for greeting in (REPLIES[0].reply, REPLIES[1].reply):
            agent = AgentConfig.model_validate(
                {"name": "stored", "systemPrompt": "You help.", "firstMessage": greeting}
            )
            async with database.write() as connection:
                agent_id = await save_agent(connection, "org_local", agent, agent_id="agent_1", now=utc_now())
                if greeting == REPLIES[0].reply:
                    entry = NumberConfig(e164=number, agent_id=agent_id)
                    await save_number(connection, "org_local", entry, number_id=None, now=utc_now())
            await asyncio.sleep(8)
            rendered.append(len(list((worker.data_dir / "cache" / "speech").glob("*.pcm"))))
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
            find(call, greeting)
        rows = await ended_calls(rig, serve, 2)
        await database.aclose()
    assert [row["agent_id"] for row in rows] == ["agent_1", "agent_1"]
    assert rendered[0] < rendered[1] < rendered[2]


async def test_an_agent_of_the_workers_own_database_needs_no_restart_either(rig: Rig, tmp_path: Path) -> None:
    """With the control plane inside the worker, a stored agent takes calls seconds after it was saved."""
    number = rig.next_number()
    greeting = REPLIES[0].reply
    async with (
        rig.worker(rig.agent(numbers=[]), folder=tmp_path, numbers=[number]) as worker,
        rig.phone() as phone,
    ):
        database = Database(f"sqlite:///{worker.data_dir / 'agent-worker.db'}")
        agent = AgentConfig.model_validate(
            {"name": "stored", "systemPrompt": "You help.", "firstMessage": greeting, "numbers": [number]}
        )
        async with database.write() as connection:
            await save_agent(connection, "org_local", agent, agent_id="agent_1", now=utc_now())
        await database.aclose()
        await asyncio.sleep(4)
        call = await phone.dial(number)
        await greeted(call)
        await call.hang_up()
        [row] = await ended_calls(rig, worker)
    find(call, greeting)
    assert row["agent_id"] == "agent_1"
