"""Transfers on a real LiveKit server: what each phone hears, what the rows say, and that nothing is left."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from livekit import api

from agent_worker.call.transfer.transfers import TOLD_ALREADY
from agent_worker.domain.transfer import MOST_ATTEMPTS
from agent_worker.telephony.rooms import consultation_room, delete_consultations
from agent_worker.testing.sip_policies import Answer, ReferPolicy
from agent_worker.testing.stand_ins import Rule
from tests.e2e.putting_through import (
    ASK,
    CALLER_HZ,
    MACHINE,
    NO,
    NUMBERS,
    PERSON_HZ,
    SUMMARY,
    YES,
    heard_tone,
    hold_up,
    rows,
    scene,
)
from tests.e2e.rig import CALLER_LINES, REPLIES, Rig, describe
from tests.e2e.talk import answered, ended_calls, event_types, reason, say, words

OK = Answer()
NOBODY = {"message": "Nobody can take your call right now."}


DONE = ((0.2, "SIP/2.0 200 OK"),)


@pytest.mark.parametrize(
    "policy",
    [
        ReferPolicy(notifies=DONE),
        ReferPolicy(notifies=(), hang_up_after=0.1),
        ReferPolicy(notifies=DONE, hang_up_after=0.2),
    ],
    ids=["notify", "bye", "both at once"],
)
async def test_a_blind_transfer_is_done_when_the_carrier_says_so(rig: Rig, tmp_path: Path, policy: ReferPolicy) -> None:
    """NOTIFY 200, or 202 and BYE, or both: the row is completed, the reason is call_transfer, the room is gone."""
    async with scene(rig, tmp_path, mode="blind") as on:
        on.call.refer_policy = policy
        await on.ask()
        await on.call.wait_ended(15)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
    assert on.call.refer_to.strip("<>") == f"tel:{NUMBERS[0]}"
    assert rows(row) == [("Sales", "completed", None)]
    assert reason(row) == "call_transfer", describe([row])
    assert row["report"]["outcome"] == "transferred"
    assert {"call.transfer.initiated", "call.transfer.completed"} <= set(event_types(row))


@pytest.mark.parametrize(
    ("policy", "cause"),
    [
        (ReferPolicy(code=405, reason="Method Not Allowed"), "rejected_by_carrier"),
        (ReferPolicy(code=603, reason="Decline"), "declined"),
        (ReferPolicy(notifies=((0.1, "SIP/2.0 486 Busy Here"),)), "busy"),
        (ReferPolicy(notifies=()), "no_answer"),
    ],
)
async def test_a_refused_blind_transfer_gives_the_caller_back(
    rig: Rig, tmp_path: Path, policy: ReferPolicy, cause: str
) -> None:
    """The agent says so and the conversation goes on."""
    async with scene(rig, tmp_path, mode="blind", fallback=NOBODY, ringingTimeout=4) as on:
        on.call.refer_policy = policy
        await on.ask()
        await on.call.wait_speech(15)
        await asyncio.sleep(10 if cause == "no_answer" else 6)
        await say(on.call, CALLER_LINES[1])
        await on.call.wait_speech(10)
        await on.call.wait_silence(1.5)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", cause)], describe([row])
    assert answered(on.call, NOBODY["message"])
    assert answered(on.call, REPLIES[1].reply)
    assert reason(row) == "user_hangup"


@pytest.mark.parametrize("how", ["words", "key"])
async def test_a_warm_transfer_joins_the_two(rig: Rig, tmp_path: Path, how: str) -> None:
    """The person is briefed, says yes or presses 1, and only then hears the caller and is heard."""
    before = len(rig.providers.openai.requests)
    async with scene(rig, tmp_path, OK, mode="warm") as on:
        await on.ask()
        leg = await on.picked_up()
        # on hold neither hears the other, and nobody listens to the caller
        await asyncio.gather(hold_up(on.call, CALLER_HZ, 1.0), hold_up(leg, PERSON_HZ, 1.0))
        await say(on.call, CALLER_LINES[1])
        if how == "key":
            leg.send_digits("1")
        else:
            await say(leg, YES)
        await asyncio.sleep(4)
        await asyncio.gather(hold_up(on.call, CALLER_HZ), hold_up(leg, PERSON_HZ))
        on.call.send_digits("5")
        leg.send_digits("79")
        await asyncio.sleep(1)
        await leg.hang_up()
        await on.call.wait_ended(5)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
        asked = json.dumps(rig.providers.openai.requests[before:])
    assert (leg.digits, on.call.digits) == ("5", "79")
    # over the whole of what each phone heard: all of the second tone, nothing of the first
    for heard in (heard_tone(leg, CALLER_HZ), heard_tone(on.call, PERSON_HZ)):
        assert 1.7 < heard < 2.2
    assert words(row, "user") == [ASK]
    assert CALLER_LINES[1] not in asked
    assert SUMMARY in asked  # what the agent knew is what the person is told
    assert rows(row) == [("Sales", "completed", None)], describe([row])
    assert reason(row) == "call_transfer"
    assert row["report"]["outcome"] == "transferred"


@pytest.mark.parametrize(("said", "cause"), [(NO, "declined"), (MACHINE, "voicemail")])
async def test_a_no_or_a_machine_goes_to_the_next(rig: Rig, tmp_path: Path, said: str, cause: str) -> None:
    """The first does not take the caller, the second does."""
    async with scene(rig, tmp_path, OK, OK) as on:
        await on.ask()
        first = await on.picked_up(0)
        await say(first, said)
        await first.wait_ended(8)
        second = await on.picked_up(1)
        second.send_digits("1")
        await asyncio.sleep(2)
        await second.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", cause), ("Overflow", "completed", None)], describe([row])


async def test_a_model_does_not_accept_for_the_person(rig: Rig, tmp_path: Path) -> None:
    """One that takes silence for a yes is not believed: nobody is joined with somebody who has not said a word."""
    async with scene(rig, tmp_path, OK, mode="warm", fallback=NOBODY) as on:
        rig.providers.openai.rules.insert(0, Rule("Begin now", tool="accept_transfer"))
        await on.ask()
        leg = await on.picked_up(briefed=False)
        await asyncio.gather(hold_up(on.call, CALLER_HZ, 8.0), leg.wait_ended(45))
        await asyncio.sleep(5)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert heard_tone(leg, CALLER_HZ) == 0
    assert rows(row) == [("Sales", "failed", "declined")], describe([row])


async def test_a_person_who_only_listens_does_not_take_the_call(rig: Rig, tmp_path: Path) -> None:
    """Silence is a no; the caller is told in the meantime that somebody is still being asked, and then that nobody came."""
    async with scene(rig, tmp_path, OK, mode="warm", fallback=NOBODY) as on:
        await on.ask()
        leg = await on.picked_up()
        await leg.wait_ended(30)
        await asyncio.sleep(5)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", "declined")], describe([row])
    assert answered(on.call, NOBODY["message"])
    assert heard_tone(on.call, PERSON_HZ) == 0


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (Answer(code=486), "busy"),
        (Answer(code=603), "declined"),
        (Answer(code=0), "no_answer"),
        (Answer(code=404), "invalid_number"),
    ],
)
async def test_who_is_not_reached_is_followed_by_the_next(rig: Rig, tmp_path: Path, answer: Answer, cause: str) -> None:
    """Each with its own cause; the next one's phone rings by itself."""
    async with scene(rig, tmp_path, answer, OK, ringingTimeout=4) as on:
        await on.ask()
        leg = await on.picked_up(1)
        assert len(on.people[0].ringing) == 1  # one attempt is one INVITE
        leg.send_digits("1")
        await asyncio.sleep(1)
        await on.call.hang_up()
        await leg.wait_ended(3)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", cause), ("Overflow", "completed", None)], describe([row])


@pytest.mark.parametrize("strategy", ["return_to_assistant", "take_message", "end_call"])
async def test_where_nobody_takes_the_caller_the_fallback_does(rig: Rig, tmp_path: Path, strategy: str) -> None:
    """All were asked. The caller is told; then the agent goes on, takes a message, or says goodbye."""
    nobody = Answer(code=486), Answer(code=603)
    before = len(rig.providers.openai.requests)
    async with scene(rig, tmp_path, *nobody, fallback=NOBODY | {"strategy": strategy}) as on:
        await on.ask()
        if strategy == "end_call":
            await on.call.wait_ended(15)
        else:
            await asyncio.sleep(9)
            await say(on.call, CALLER_LINES[1])
            await on.call.wait_speech(10)
            await on.call.wait_silence(1.5)
            await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
        requests = rig.providers.openai.requests[before:]
        tools = {tool["function"]["name"] for tool in requests[-1].get("tools", [])}
    assert rows(row) == [("Sales", "failed", "busy"), ("Overflow", "failed", "declined")], describe([row])
    assert answered(on.call, NOBODY["message"])
    assert reason(row) == ("agent_hangup" if strategy == "end_call" else "user_hangup")
    assert ("take_message" in tools) == (strategy == "take_message")
    # the model asks for the message by itself, and does not say again what was said
    assert (TOLD_ALREADY in json.dumps(requests)) == (strategy == "take_message")


@pytest.mark.parametrize("when", ["ringing", "screening"])
async def test_a_caller_who_hangs_up_leaves_nobody_on_the_phone(rig: Rig, tmp_path: Path, when: str) -> None:
    """The dialled phone is released within a second or so, and the row says whose doing it was."""
    async with scene(rig, tmp_path, Answer(ring_seconds=30) if when == "ringing" else OK, mode="warm") as on:
        await on.ask()
        leg = await on.people[0].incoming(20)
        if when == "screening":
            await leg.wait_speech(15)
        await asyncio.sleep(0.5)
        await on.call.hang_up()
        await leg.wait_ended(1.5)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "cancelled", "caller_hung_up")], describe([row])
    assert reason(row) == "user_hangup"


async def test_a_caller_who_hangs_up_as_the_two_are_joined_leaves_nobody(rig: Rig, tmp_path: Path) -> None:
    """In the very moment of the yes."""
    async with scene(rig, tmp_path, OK, mode="warm") as on:
        await on.ask()
        leg = await on.picked_up()
        leg.send_digits("1")
        await asyncio.sleep(0.25)
        await on.call.hang_up()
        await leg.wait_ended(1.5)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
    [(_, status, cause)] = rows(row)
    assert (status, cause) in {("completed", None), ("cancelled", "caller_hung_up")}, describe([row])
    assert reason(row) == ("call_transfer" if status == "completed" else "user_hangup")


async def test_a_person_who_hangs_up_while_asked_is_a_no(rig: Rig, tmp_path: Path) -> None:
    """The caller is given back, and told."""
    async with scene(rig, tmp_path, OK, mode="warm", fallback=NOBODY) as on:
        await on.ask()
        leg = await on.picked_up()
        await leg.hang_up()
        await on.call.wait_silence(4.0)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", "person_hung_up")], describe([row])
    assert answered(on.call, NOBODY["message"])


async def test_a_person_who_drops_after_their_yes_is_followed_by_the_next(rig: Rig, tmp_path: Path) -> None:
    """Gone before the two were joined: the caller is not hung up on, and the row does not say that they talked."""
    async with scene(rig, tmp_path, OK, OK, mode="warm", voicemailDetection={"mode": "disabled"}) as on:
        await on.ask()
        first = await on.picked_up()
        first.send_digits("1")
        await asyncio.sleep(0.25)
        await first.hang_up()
        second = await on.picked_up(1)
        second.send_digits("1")
        await asyncio.sleep(2)
        await hold_up(on.call, CALLER_HZ, 1.0)
        await asyncio.sleep(0.5)
        await second.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", "person_hung_up"), ("Overflow", "completed", None)], describe([row])
    assert heard_tone(second, CALLER_HZ) > 0.8
    assert heard_tone(first, CALLER_HZ) == 0


async def test_with_the_model_dead_the_person_can_still_take_the_caller(rig: Rig, tmp_path: Path) -> None:
    """A fixed sentence briefs them, and a plain yes is understood without a model."""
    async with scene(rig, tmp_path, OK, mode="warm") as on:
        await on.ask()
        leg = await on.people[0].incoming(20)
        await rig.providers.openai.set_fault("hang")
        await leg.wait_answered()
        await leg.wait_speech(15)
        await leg.wait_silence(1.2)
        leg.send_digits("1")
        await asyncio.sleep(2)
        await hold_up(on.call, CALLER_HZ, 1.0)
        await asyncio.sleep(0.5)
        joined = heard_tone(leg, CALLER_HZ)
        await leg.hang_up()
        await on.call.wait_ended(5)
        await ended_calls(rig, on.worker)
    assert joined > 0.8


async def test_the_key_0_reaches_a_person(rig: Rig, tmp_path: Path) -> None:
    """Without a word to the agent; pressed again meanwhile, it begins nothing else."""
    async with scene(rig, tmp_path, OK, mode="warm") as on:
        on.call.send_digits("0")
        leg = await on.picked_up()
        on.call.send_digits("0")
        await asyncio.sleep(0.5)
        leg.send_digits("1")
        await asyncio.sleep(1)
        await leg.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "completed", None)]


@pytest.mark.parametrize(
    ("when", "status", "cause"), [("asked", "failed", "worker_lost"), ("joined", "completed", None)]
)
async def test_a_worker_that_is_killed_leaves_nobody(
    rig: Rig, tmp_path: Path, when: str, status: str, cause: str | None
) -> None:
    """kill -9 of the call's process: the person's leg is down at once, the caller is told, no room and no row is left."""
    async with scene(rig, tmp_path, OK, mode="warm") as on:
        await on.ask()
        leg = await on.picked_up()
        if when == "joined":
            leg.send_digits("1")
        await asyncio.sleep(2)
        busy = max(on.worker.job_processes(), key=lambda process: process.cpu_times().user)
        busy.kill()
        await leg.wait_ended(6)
        await on.call.wait_ended(12)
        await rig.stack.wait_no_rooms(5)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", status, cause)], describe([row])


async def test_a_full_hour_calls_nobody_more(rig: Rig, tmp_path: Path) -> None:
    """The next destination is left out, the fallback follows, and the model is told when it tries again."""
    env = {"AGENT_WORKER_TRANSFERS_PER_HOUR": "1"}
    async with scene(rig, tmp_path, Answer(code=486), OK, mode="warm", fallback=NOBODY, env=env) as on:
        await on.ask()
        await asyncio.sleep(9)
        await on.ask()
        await asyncio.sleep(4)
        told = str(rig.providers.openai.requests[-1]["messages"][-1])
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", "busy")], describe([row])
    assert answered(on.call, NOBODY["message"])
    assert "limit of transfers in an hour" in told
    assert event_types(row).count("transfer.refused") == 2


async def test_a_calls_consultation_rooms_go_and_no_others(rig: Rig) -> None:
    """The server is asked for the names they can have; those of another call, and the caller's own room, stay."""
    mine = [consultation_room("call-1", attempt) for attempt in (1, 7, MOST_ATTEMPTS)]
    others = ["call-1", consultation_room("call-12", 1), consultation_room("call", 1)]
    for name in (*mine, *others):
        await rig.stack.lk.room.create_room(api.CreateRoomRequest(name=name, empty_timeout=60))
    await delete_consultations(rig.stack.lk, "call-1")
    left = await rig.stack.rooms()
    for name in left:
        await rig.stack.delete_room(name)
    assert sorted(left) == sorted(others)
