"""A caller and a person who have been joined: what is kept of their talk, and how it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from agent_worker.testing.audio import tone_seconds
from agent_worker.testing.sip_policies import Answer, ReferPolicy
from tests.e2e.putting_through import ASK, CALLER_HZ, NUMBERS, PERSON_HZ, YES, hold_up, rows, scene
from tests.e2e.rig import CALLER_LINES, REPLIES, Rig, describe
from tests.e2e.talk import answered, channels, ended_calls, event_types, reason, say, words
from tests.e2e.test_transfers_api import briefed, call_and_person

RATE = 16_000


async def test_what_is_said_is_recorded_and_where_configured_written_down(rig: Rig, tmp_path: Path) -> None:
    """Each on their own channel, the person's after they were joined only; entries say who spoke."""
    async with scene(rig, tmp_path, Answer(), mode="warm", transcribe=True) as on:
        await on.ask()
        leg = await on.picked_up()
        # this is said to us, not to the caller: it is in neither recording nor transcript
        await hold_up(leg, PERSON_HZ, 1.0)
        leg.send_digits("1")
        await asyncio.sleep(2)
        await say(on.call, CALLER_LINES[1])
        await asyncio.sleep(1.5)
        await say(leg, YES)
        await asyncio.sleep(1.5)
        await asyncio.gather(hold_up(on.call, CALLER_HZ), hold_up(leg, PERSON_HZ))
        await leg.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
        caller, ours = channels(on.worker.data_dir / "recordings" / f"{row['id']}.ogg")
    for channel, own, other in ((caller, CALLER_HZ, PERSON_HZ), (ours, PERSON_HZ, CALLER_HZ)):
        assert 1.7 < tone_seconds(channel, RATE, own) < 2.2
        assert tone_seconds(channel, RATE, other) < 0.1  # a vowel has a block of it
    assert words(row, "user")[:2] == [ASK, CALLER_LINES[1]]
    said = {entry["text"]: entry["metadata"] for entry in row["transcript"]["entries"]}
    [transfer] = row["transfers"]
    assert said[CALLER_LINES[1]]["speaker"] == "caller"
    assert said[YES]["speaker"] == "person"
    assert (said[YES]["label"], said[YES]["transfer_id"]) == ("Sales", transfer["id"])


async def test_a_caller_who_hangs_up_while_joined_ends_the_persons_leg(rig: Rig, tmp_path: Path) -> None:
    """Whoever hangs up, the other's phone is released, and the call was a transfer."""
    async with scene(rig, tmp_path, Answer(), mode="warm") as on:
        await on.ask()
        leg = await on.picked_up()
        leg.send_digits("1")
        await asyncio.sleep(2)
        await on.call.hang_up()
        await leg.wait_ended(3)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "completed", None)]
    assert reason(row) == "call_transfer"


async def test_a_caller_comes_back_to_the_agent_when_the_person_hangs_up(rig: Rig, tmp_path: Path) -> None:
    """Where it is so configured; and can be put through again."""
    async with scene(rig, tmp_path, Answer(), mode="warm", afterBridge="return_to_assistant") as on:
        for _ in range(2):
            await on.ask()
            leg = await on.picked_up()
            leg.send_digits("1")
            await asyncio.sleep(2)
            await leg.hang_up()
            await on.call.wait_speech(10)
            await on.call.wait_silence(1.5)
        await say(on.call, CALLER_LINES[1])
        await on.call.wait_speech(10)
        await on.call.wait_silence(1.5)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "completed", None)] * 2, describe([row])
    assert answered(on.call, REPLIES[1].reply)


@pytest.mark.parametrize("how", ["max_duration", "end"])
async def test_a_joined_call_still_ends(rig: Rig, tmp_path: Path, how: str) -> None:
    """At its longest, and at an operator's word: both phones are released, no room is left."""
    limit = {"maxDurationSeconds": 30} if how == "max_duration" else {}
    async with call_and_person(rig, tmp_path, **limit) as (it, call, person, trunk):
        call_id = await it.call_id()
        await it.post(call_id, "transfers/warm", {"to": NUMBERS[0], "outboundTrunkId": trunk})
        leg = await briefed(person)
        leg.send_digits("1")
        await asyncio.sleep(2)
        if how == "end":
            await it.post(call_id, "end")
        await call.wait_ended(45)
        over = time.monotonic()
        await leg.wait_ended(3)
        await rig.stack.wait_no_rooms(3)
        took = time.monotonic() - over
        [row] = await ended_calls(rig, it.worker)
    assert took < 3.0
    assert rows(row) == [("", "completed", None)], describe([row])
    assert reason(row) == ("max_duration" if how == "max_duration" else "agent_hangup"), describe([row])
    assert "call.leg.hangup" in event_types(row)


async def test_a_full_hour_is_said_to_whoever_asks(rig: Rig, tmp_path: Path) -> None:
    """429, to be tried again later; nobody is asked."""
    env = {"AGENT_WORKER_TRANSFERS_PER_HOUR": "1"}
    async with call_and_person(rig, tmp_path, env) as (it, call, _, _):
        call_id = await it.call_id()
        call.refer_policy = ReferPolicy(code=603, reason="Decline")
        first = await it.post(call_id, "transfers/blind", {"to": NUMBERS[0]})
        await call.wait_speech(10)
        await call.wait_silence(1.5)
        second = await it.post(call_id, "transfers/blind", {"to": NUMBERS[0]})
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (429, "TOO_MANY_TRANSFERS")
    assert rows(row) == [("", "failed", "declined")], describe([row])
    assert "transfer.refused" in event_types(row)
