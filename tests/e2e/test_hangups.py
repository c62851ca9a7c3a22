"""Every way a caller can leave, and every silence they can fall into."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from agent_worker.testing.stand_ins import Rule
from tests.e2e.rig import CALLER_LINES, GREETING, Rig
from tests.e2e.talk import ended_calls, event_types, find, greeted, reason, say, words

IDLE = {
    "enabled": True,
    "delayMs": 2_000,
    "maxPrompts": 2,
    "messages": ["Are you still there?", "I cannot hear you, please say something."],
    "goodbye": "I hear nobody, so I will hang up. Goodbye.",
}


async def test_silence_is_reprompted_then_ended(rig: Rig, tmp_path: Path) -> None:
    """Each reprompt is heard in turn, then the goodbye, and the call ends for being idle."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number], idleRePrompts=IDLE)
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await call.wait_ended(40)
        [row] = await ended_calls(rig, worker)

    places = [find(call, text).offset for text in (GREETING, *IDLE["messages"], IDLE["goodbye"])]
    assert places == sorted(places)
    assert all(later - earlier > 2.0 for earlier, later in itertools.pairwise(places))
    assert find(call, IDLE["goodbye"]).missing_tail == 0
    assert (row["status"], reason(row)) == ("ended", "idle")


async def test_a_caller_who_speaks_starts_the_reprompts_anew(rig: Rig, tmp_path: Path) -> None:
    """After the caller's words the first reprompt is heard again."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number], idleRePrompts=IDLE)
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await call.wait_speech(10, after=time.monotonic())
        await call.wait_silence(1.0)
        await say(call, CALLER_LINES[0])
        await call.wait_ended(50)
        [row] = await ended_calls(rig, worker)

    announced = [e["text"] for e in row["transcript"]["entries"] if e["metadata"].get("announcement")]
    first, second = IDLE["messages"]
    assert announced == [first, first, second, IDLE["goodbye"]]
    assert reason(row) == "idle"


async def test_a_caller_who_gives_up_while_it_rings(rig: Rig, tmp_path: Path) -> None:
    """CANCEL before the call is picked up: no leg, no room, and a row that says so."""
    number = rig.next_number()
    rig.providers.cartesia.delay_ms = 3_000
    agent = rig.agent(numbers=[number], firstMessage="A greeting that takes its time to be made ready.")
    try:
        async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
            call = await phone.dial(number)
            async with asyncio.timeout(5):
                await call.ringing.wait()
            await asyncio.sleep(0.6)
            await call.hang_up()
            await rig.stack.wait_no_rooms(3)
            [row] = await ended_calls(rig, worker)
    finally:
        rig.providers.cartesia.delay_ms = 150

    assert not call.answered.is_set()
    assert (row["status"], reason(row)) == ("failed", "cancelled")
    assert "call.answered" not in event_types(row)


async def test_a_caller_whose_audio_stops_is_let_go(rig: Rig, tmp_path: Path) -> None:
    """The bridge gives up on a phone that sends nothing; the call ends and leaves nothing behind."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        call.stop_rtp()
        await call.wait_ended(60)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)

    assert call.ended_by == "them"
    assert row["status"] == "ended"
    assert reason(row) in ("media_timeout", "idle")


async def test_hanging_up_while_the_agent_speaks(rig: Rig, tmp_path: Path) -> None:
    """The transcript keeps what was heard of the sentence, marked as interrupted or partial, and no leg stays."""
    number = rig.next_number()
    long = "This is a very long greeting that goes on and on, one word after another, until nobody listens any more."
    agent = rig.agent(numbers=[number], firstMessage=long)
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await call.wait_answered()
        await call.wait_speech()
        await asyncio.sleep(1.0)
        await call.hang_up()
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)

    assert reason(row) == "user_hangup"
    [spoken] = words(row, "agent")
    assert long.startswith(spoken.rstrip()[:20])


@pytest.mark.parametrize("seconds", [30])
async def test_hanging_up_while_a_tool_runs(rig: Rig, tmp_path: Path, seconds: int) -> None:
    """A tool that would take half a minute holds neither the line nor the end of the call."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "slow.py").write_text(
        "import asyncio\n"
        "from agent_worker.toolbox import CallControl, tool\n\n\n"
        "@tool(timeout_seconds=60)\n"
        "async def look_up(control: CallControl) -> str:\n"
        '    """Look something up."""\n'
        f"    await asyncio.sleep({seconds})\n"
        '    return "done"\n'
    )
    number = rig.next_number()
    rig.providers.openai.rules = [Rule("any rooms", tool="look_up")]
    env = {"AGENT_WORKER_TOOLS_DIR": str(tools)}
    agent = rig.agent(numbers=[number], tools=["look_up"])
    async with rig.worker(agent, folder=tmp_path, env=env) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await say(call, CALLER_LINES[0])
        await asyncio.sleep(5.0)
        started = time.monotonic()
        await call.hang_up()
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)
        took = time.monotonic() - started

    assert took < 10
    assert reason(row) == "user_hangup"
    assert event_types(row).count("tool.started") == 1
    find(call, "One moment, please.")
