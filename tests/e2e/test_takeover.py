"""Somebody in a browser takes a call over from the agent, and gives it back: who hears whom, and what is written."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from spekoai import AsyncSpeko

from agent_worker.testing.audio import dbfs, locate, tone, tone_seconds
from agent_worker.testing.sip_phone import SipCall
from agent_worker.testing.sip_policies import Answer
from agent_worker.testing.stand_ins import Rule
from agent_worker.testing.voice import CALLER_VOICE, render
from tests.e2e.browsers import OPERATOR_HZ, RATE, Browser, browser, token_for
from tests.e2e.putting_through import CALLER_HZ, NUMBERS, PERSON_HZ, heard_tone, hold_up, rows
from tests.e2e.rig import CALLER_LINES, GREETING, PHONE_RATE, REPLIES, Rig, describe
from tests.e2e.talk import answered, ask, channels, ended_calls, event_types, eventually, greeted, reason, say, words
from tests.e2e.test_live import Desk, desk
from tests.e2e.test_transfers_api import call_and_person

LONG = (
    "We have single rooms, double rooms and family rooms, and every one of them has a view of the garden. "
    "Breakfast is served from seven until ten, and the kitchen is open until late in the evening."
)
HELLO = "Hello, this is Maya from the hotel."
BACK = "I see. What else can I do for you?"
"""What the model's stand-in says where it knows of nothing to answer."""

TONE = 4.5
"""Seconds of a tone; the recogniser's stand-in takes it for no line it knows."""


@asynccontextmanager
async def joined(it: Desk, call_id: str) -> AsyncIterator[Browser]:
    async with AsyncSpeko(api_key=it.key, base_url=it.serve.url) as speko:
        token = await speko.calls.web_join(call_id, {"display_name": "Maya"})
    async with browser(token.url, token.token) as somebody:
        yield somebody


def teach(rig: Rig, *rules: Rule) -> None:
    rig.providers.deepgram.register_clip(HELLO, render(HELLO, PHONE_RATE, voice=CALLER_VOICE), PHONE_RATE)
    rig.providers.openai.rules = [*rules, *rig.providers.openai.rules]


async def agent_is_quiet(call: SipCall, seconds: float) -> bool:
    """Whether the phone hears nothing for so long from now on."""
    since = time.monotonic()
    await asyncio.sleep(seconds)
    return dbfs(call.heard.since(since)) < -50.0


def spoken(row: Any) -> list[tuple[str, str]]:
    return [
        (entry["metadata"].get("speaker", entry["source"]), entry["text"]) for entry in row["transcript"]["entries"]
    ]


async def test_an_operator_takes_over_in_the_middle_of_a_sentence_and_gives_back(rig: Rig, tmp_path: Path) -> None:
    """Both hear each other, the agent is silent, knows afterwards what was said, and says so in one sentence."""
    teach(rig, Rule("any rooms", reply=LONG))
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        call_id = await it.call_id()
        async with joined(it, call_id) as maya:
            # who only listens disturbs nothing
            asked = await say(call, CALLER_LINES[0])
            assert asked.ended_at is not None
            await call.wait_speech(10, after=asked.ended_at)
            await asyncio.sleep(1.5)
            opened = time.monotonic()
            await maya.open_microphone()
            quiet_at = await call.wait_silence(1.0)
            took_over_in = quiet_at - opened
            await maya.say(render(HELLO, RATE, voice=CALLER_VOICE))
            await asyncio.sleep(1)
            await say(call, CALLER_LINES[1])
            unanswered = await agent_is_quiet(call, 5)
            since = len(maya.heard("agent-"))
            await asyncio.gather(hold_up(call, CALLER_HZ, TONE), maya.say(tone(OPERATOR_HZ, TONE, RATE)))
            await asyncio.sleep(0.7)
            agents_part = maya.heard("agent-")[since:]
            hears = (heard_tone(call, OPERATOR_HZ), tone_seconds(maya.heard("sip_"), RATE, CALLER_HZ))
            before = len(rig.providers.openai.requests)
            closed = time.monotonic()
            maya.mute()
            back_in = await call.wait_speech(10, after=closed) - closed
            await call.wait_silence(1.0)
            told = rig.providers.openai.requests[before]["messages"]
        await ask(call, CALLER_LINES[1])
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
        recorded = channels(it.worker.data_dir / "recordings" / f"{call_id}.ogg")
    assert took_over_in < 1.0
    assert unanswered
    assert dbfs(agents_part) < -60
    assert min(hears) > 4.0, hears
    match = locate(call.heard.pcm, render(HELLO, PHONE_RATE, voice=CALLER_VOICE), PHONE_RATE)
    assert match is not None and match.correlation > 0.5, match
    assert 1.0 < back_in < 6.0
    check_told(row, told)
    caller, ours = recorded
    assert tone_seconds(ours, 16_000, OPERATOR_HZ) > 4.0
    assert tone_seconds(caller, 16_000, CALLER_HZ) > 4.0
    assert tone_seconds(caller, 16_000, OPERATOR_HZ) == 0.0
    assert tone_seconds(ours, 16_000, CALLER_HZ) == 0.0


def check_told(row: Any, told: list[dict[str, Any]]) -> None:
    """Check what the call's transcript and events tell of the takeover, and what the model was told afterwards."""
    said = spoken(row)
    cut = said[2][1]
    assert "".join(LONG.split()).startswith("".join(cut.split()))
    assert len(cut) < len(LONG) / 2
    assert said == [
        ("agent", GREETING),
        ("user", CALLER_LINES[0]),
        ("agent", cut),
        ("operator", HELLO),
        ("caller", CALLER_LINES[1]),
        ("agent", REPLIES[1].reply),
        ("user", CALLER_LINES[1]),
        ("agent", REPLIES[1].reply),
    ], describe([row])
    contents = [(message["role"], message["content"]) for message in told]
    assert ("assistant", HELLO) in contents, json.dumps(told)
    assert ("user", CALLER_LINES[1]) in contents
    happened = [name for name in event_types(row) if name.startswith(("operator.", "agent."))]
    assert happened == [
        "operator.joined",
        "operator.speaking",
        "agent.silenced",
        "operator.muted",
        "agent.resumed",
        "operator.left",
    ]
    assert reason(row) == "user_hangup"


async def test_an_operator_who_vanishes_leaves_the_caller_to_the_agent(rig: Rig, tmp_path: Path) -> None:
    """kill -9 of the browser: the agent goes on as soon as LiveKit reports it gone, and is not asked for before."""
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        call_id = await it.call_id()
        async with AsyncSpeko(api_key=it.key, base_url=it.serve.url) as speko:
            token = await speko.calls.web_join(call_id)
        command = (sys.executable, "-m", "tests.e2e.browsers", token.url, token.token)
        tab = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert tab.stdout is not None
        async with asyncio.timeout(30):
            await tab.stdout.readline()
        await asyncio.sleep(2)
        tab.kill()
        await tab.wait()

        async def back() -> bool:
            return answered(call, BACK)

        assert await eventually(back, seconds=40)
        await call.wait_silence(1.0)
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert heard_tone(call, OPERATOR_HZ) > 1.5
    assert answered(call, REPLIES[0].reply), describe([row])
    happened = [name for name in event_types(row) if name.startswith(("operator.", "agent."))]
    assert happened[:3] == ["operator.joined", "operator.speaking", "agent.silenced"]
    assert set(happened[3:]) == {"operator.muted", "operator.left", "agent.resumed"}


async def test_only_somebody_with_a_token_of_web_join_silences_the_agent(rig: Rig, tmp_path: Path) -> None:
    """A participant of any other name may publish what it likes: the conversation goes on."""
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        [room] = await rig.stack.rooms()
        env = rig.stack.env
        token = token_for(env["LIVEKIT_API_KEY"], env["LIVEKIT_API_SECRET"], room, "guest-1")
        async with browser(rig.stack.url, token) as guest:
            await guest.open_microphone()
            await guest.say(tone(OPERATOR_HZ, 0.5, RATE))
            await call.wait_silence(1.0)
            await ask(call, CALLER_LINES[0])
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert words(row, "agent") == [GREETING, REPLIES[0].reply]
    assert not [name for name in event_types(row) if name.startswith(("operator.", "agent."))]


@pytest.mark.parametrize("how", ["max_duration", "end"])
async def test_a_call_that_was_taken_over_still_ends(rig: Rig, tmp_path: Path, how: str) -> None:
    """At its longest, with a goodbye; and at an operator's word. Reprompts wait meanwhile."""
    limit = {"maxDurationSeconds": 30} if how == "max_duration" else {}
    reprompts = {"delayMs": 2000, "maxPrompts": 1, "messages": ["Are you still there?"]}
    async with desk(rig, tmp_path, idleRePrompts=reprompts, **limit) as it:
        call = await it.phone.dial(it.number)
        await call.wait_answered()
        call_id = await it.call_id()
        async with joined(it, call_id) as maya:
            await maya.open_microphone()
            await call.wait_silence(1.0)
            silent = await agent_is_quiet(call, 6)
            if how == "end":
                await it.post(call_id, "end")
            await call.wait_ended(45)
        [row] = await ended_calls(rig, it.worker)
    assert silent
    assert reason(row) == ("max_duration" if how == "max_duration" else "agent_hangup"), describe([row])
    said = [entry["text"] for entry in row["transcript"]["entries"] if entry["metadata"].get("announcement")]
    assert len(said) == (1 if how == "max_duration" else 0), said


async def test_a_transfer_goes_on_while_an_operator_speaks(rig: Rig, tmp_path: Path) -> None:
    """Begun by an operator who speaks: the music makes way for them, and the person hears the caller only."""
    async with call_and_person(rig, tmp_path) as (it, call, person, trunk):
        call_id = await it.call_id()
        async with joined(it, call_id) as maya:
            await maya.open_microphone()
            await call.wait_silence(1.0)
            person.answer_with(Answer(ring_seconds=4))
            begun = await it.post(call_id, "transfers/warm", {"to": NUMBERS[0], "outboundTrunkId": trunk})
            leg = await person.incoming(20)
            await maya.say(tone(OPERATOR_HZ, 2.0, RATE))
            await asyncio.sleep(0.5)
            on_hold = heard_tone(call, OPERATOR_HZ)
            maya.mute()
            await call.wait_speech(5, after=time.monotonic())
            await leg.wait_answered()
            await leg.wait_speech(15)
            leg.send_digits("1")
            await asyncio.sleep(2)
            await maya.open_microphone()
            await asyncio.gather(maya.say(tone(OPERATOR_HZ, 2.0, RATE)), hold_up(leg, PERSON_HZ))
            await asyncio.sleep(0.5)
            joined_too = heard_tone(leg, OPERATOR_HZ)
            await leg.hang_up()
            await call.wait_ended(5)
        [row] = await ended_calls(rig, it.worker)
    assert begun.status_code == 201
    assert on_hold > 1.7
    assert joined_too == 0.0
    assert rows(row) == [("", "completed", None)], describe([row])
    assert reason(row) == "call_transfer"
    assert event_types(row).count("agent.silenced") == 1
    assert "agent.resumed" not in event_types(row)
