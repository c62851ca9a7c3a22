"""An inbound call from its first ring to its report, as the person at the phone has it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import av
import numpy as np

from agent_worker.testing.audio import dbfs
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig, describe
from tests.e2e.talk import answered, ask, ended_calls, event_types, find, greeted, heard_clip, reason, say, words


async def test_a_call_is_answered_held_and_recorded(rig: Rig, tmp_path: Path) -> None:
    """Greeting, two turns, the caller hangs up: heard at the phone, and everything about it is in the store."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        for line in CALLER_LINES[:2]:
            await ask(call, line)
        await call.hang_up()
        hung_up = time.monotonic()
        await rig.stack.wait_no_rooms(3)
        assert time.monotonic() - hung_up < 3
        [row] = await ended_calls(rig, worker)

    assert call.ringing.is_set()
    greeting = find(call, GREETING)
    assert greeting.missing_head == 0
    assert greeting.missing_tail == 0
    for rule in REPLIES[:2]:
        assert answered(call, rule.reply)

    assert row["status"] == "ended", describe([row])
    assert reason(row) == "user_hangup"
    assert row["duration_seconds"] >= 5
    assert [name for name in event_types(row) if not name.startswith("tool.")] == [
        "call.initiated",
        "call.ringing",
        "worker.room_connected",
        "call.answered",
        "worker.first_agent_audio",
        "call.hangup",
    ]
    codes = {event["event_type"]: event["sip_status_code"] for event in row["events"]}
    assert (codes["call.ringing"], codes["call.answered"], codes["call.hangup"]) == (180, 200, 200)
    assert words(row, "user") == list(CALLER_LINES[:2])
    assert words(row, "agent") == [GREETING, *(rule.reply for rule in REPLIES[:2])]
    answers = [entry for entry in row["transcript"]["entries"] if entry["source"] == "agent"][1:]
    for entry in answers:
        for leg in ("eou_ms", "llm_ttft_ms", "tts_ttfb_ms", "conversational_latency_ms"):
            assert isinstance(entry[leg], int | float), describe([entry])
        assert entry["conversational_latency_ms"] > entry["eou_ms"]
        assert entry["latency_status"] == "complete"
    report = row["report"]
    assert report["outcome"] == "completed"
    assert report["analysis_status"] == "heuristic"
    metrics = {line["metric"] for line in report["cost_breakdown"]}
    assert {"stt_seconds", "llm_input_tokens", "llm_output_tokens", "tts_characters"} <= metrics
    assert isinstance(report["cost_micro_usd"], str)
    assert row["recording_status"] == "ready"
    check_channels(worker.data_dir / "recordings" / f"{row['id']}.ogg", row)


def check_channels(path: Path, row: dict) -> None:
    """The caller speaks on the left only, the agent on the right only."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "stereo", 16_000)
        frames = [out.to_ndarray().reshape(-1, 2) for f in container.decode(audio=0) for out in resampler.resample(f)]
    audio = np.concatenate(frames)
    left, right = dbfs(audio[:, 0]), dbfs(audio[:, 1])
    assert left > -45
    assert right > -45
    blocks = audio[: len(audio) // 1600 * 1600].reshape(-1, 1600, 2).astype(np.float64)
    level = np.sqrt((blocks**2).mean(axis=1))
    both = (level[:, 0] > 300) & (level[:, 1] > 300)
    one = (level[:, 0] > 300) | (level[:, 1] > 300)
    assert one.sum() > 30
    assert both.sum() <= 2


async def test_the_agent_says_goodbye_to_the_last_syllable_and_hangs_up(rig: Rig, tmp_path: Path) -> None:
    """end_call: the farewell is heard whole, then BYE."""
    number = rig.next_number()
    async with rig.worker(rig.agent(numbers=[number]), folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await say(call, CALLER_LINES[2])
        await call.wait_ended(20)
        [row] = await ended_calls(rig, worker)

    farewell = find(call, REPLIES[2].arguments["farewell"])
    assert farewell.missing_head == 0
    assert farewell.missing_tail == 0
    assert call.ended_by == "them"
    assert (row["status"], reason(row)) == ("ended", "agent_hangup")
    assert "call.end_tool.completed" in event_types(row)


async def test_five_calls_at_once_each_reach_their_own_agent(rig: Rig, tmp_path: Path) -> None:
    """The number dialled decides who answers; calls at once do not mix."""
    names = ["Ada", "Basil", "Clara", "Doris", "Edwin"]
    agents = [
        rig.agent(name=name, numbers=[rig.next_number()], firstMessage=f"Hello, this is {name} speaking.")
        for name in names
    ]
    async with (
        rig.worker(*agents, folder=tmp_path, env={"AGENT_WORKER_CALL_SLOTS": "5"}) as worker,
        rig.phone() as phone,
    ):
        calls = [await phone.dial(agent["numbers"][0], from_=f"+1555700{i}") for i, agent in enumerate(agents)]
        await asyncio.gather(*(greeted(call) for call in calls))
        await asyncio.gather(*(ask(call, CALLER_LINES[0]) for call in calls))
        await asyncio.gather(*(call.hang_up() for call in calls))
        await rig.stack.wait_no_rooms(3)
        rows = await ended_calls(rig, worker, 5)

    for call, agent in zip(calls, agents, strict=True):
        find(call, agent["firstMessage"])
        assert answered(call, REPLIES[0].reply)
    by_agent = {row["agent_id"]: row for row in rows}
    for agent in agents:
        assert words(by_agent[agent["name"]], "user") == [CALLER_LINES[0]]
        assert by_agent[agent["name"]]["metadata"]["to"] == agent["numbers"][0]


async def test_an_unknown_number_hears_a_sentence_and_is_let_go(rig: Rig, tmp_path: Path) -> None:
    """A number no agent answers: one spoken sentence, a clean end, and a call row that says why."""
    unknown = rig.next_number()
    known = rig.agent(numbers=[rig.next_number()])
    async with rig.worker(known, folder=tmp_path, numbers=[unknown]) as worker, rig.phone() as phone:
        call = await phone.dial(unknown)
        await call.wait_answered()
        await call.wait_ended(15)
        [row] = await ended_calls(rig, worker)

    assert heard_clip(call, "not_in_service")
    assert (row["status"], reason(row)) == ("failed", "unknown_number")
    assert row["agent_id"] is None
