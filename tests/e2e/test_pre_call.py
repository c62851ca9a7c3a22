"""The pre-call webhook: asked while the phone rings, and the call goes on whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent_worker.domain.agent import AgentConfig
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.sip_phone import SipCall, SipPhone
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig, describe
from tests.e2e.talk import answered, ask, ended_calls, event_types, find, greeted, heard, reason, words

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
ALLOW = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1", "AGENT_WORKER_WEBHOOK_SECRET": SECRET}
BUDGET_SECONDS = 4.0


@dataclass
class Scene:
    """A worker whose agent asks a receiver before each call."""

    rig: Rig
    worker: WorkerProcess
    hook: HookReceiver
    phone: SipPhone
    number: str

    async def rows(self) -> list[dict[str, Any]]:
        return await ended_calls(self.rig, self.worker)


@asynccontextmanager
async def scene(rig: Rig, folder: Path, **hook: Any) -> AsyncIterator[Scene]:
    number = rig.next_number()
    async with HookReceiver(secret=SECRET) as receiver:
        agent = rig.agent(numbers=[number], metadata={"team": "front"})
        agent["webhooks"] = {"preCall": {"url": receiver.url, **hook}}
        async with rig.worker(agent, folder=folder, env=ALLOW) as worker, rig.phone() as phone:
            yield Scene(rig, worker, receiver, phone, number)


def pre_call_event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one event that tells what came of asking."""
    [event] = [event for event in row["events"] if event["event_type"] == "call.pre_call"]
    return dict(event)


def asks(process: psutil.Process, port: int) -> bool:
    """Whether a process has a connection to this port of this machine."""
    return any(c.raddr and c.raddr.port == port for c in process.net_connections())


async def rung(call: SipCall) -> float:
    """Wait until it is answered; returns how long it rang, s."""
    started = time.monotonic()
    await call.wait_answered(15)
    return time.monotonic() - started


async def test_a_reply_changes_greeting_prompt_voice_tools_and_metadata(rig: Rig, tmp_path: Path) -> None:
    """What the webhook says is what the caller hears, what the model is told, and what is on record."""
    greeting = "Hello Maya, welcome back to the hotel."
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with(
            {
                "firstMessage": greeting,
                "systemPrompt": "The caller is Maya, a regular guest.",
                "pipelineConfig": {"voice": "a-voice-for-maya", "tools": ["end_call", "take_message"]},
                "metadata": {"customerId": "cus_1"},
                "colour": "blue",
            }
        )
        rig.providers.openai.requests.clear()
        call = await it.phone.dial(it.number)
        await greeted(call)
        await ask(call, CALLER_LINES[0])
        await call.hang_up()
        [row] = await it.rows()
        [request] = it.hook.requests
        asked = rig.providers.openai.requests[-1]
        voices = list(rig.providers.cartesia.voices)

    assert request.verified
    assert request.json["call_id"] == row["id"]
    assert (request.json["type"], request.json["direction"]) == ("call.pre_call", "inbound")
    assert (request.json["to"], request.json["from"]) == (it.number, "+15559999")
    assert request.json["metadata"]["team"] == "front"
    assert request.json["pipeline_config"]["firstMessage"] == GREETING
    assert find(call, greeting).missing_head == 0
    assert answered(call, REPLIES[0].reply)
    assert asked["messages"][0]["content"].startswith("The caller is Maya")
    assert {tool["function"]["name"] for tool in asked["tools"]} == {"end_call", "take_message"}
    assert voices[-1] == "a-voice-for-maya"
    assert words(row, "agent")[0] == greeting
    assert row["metadata"]["customerId"] == "cus_1"
    assert row["provenance"]["firstMessage"] == "pre_call"
    assert row["provenance"]["metadata.team"] == "agent"
    event = pre_call_event(row)
    assert event["status"] == "succeeded", describe([event])
    assert event["payload"]["ignored"] == ["colour"]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({"fault": "hang"}, "timeout"),
        ({"status": 500, "body": {"firstMessage": "Never said."}}, "http_status"),
        ({"body": b"<html>"}, "not_json"),
        ({"body": {"firstMessage": "Never said.", "ttsOptions": {"speed": "fast"}}}, "wrong_type"),
    ],
    ids=["hangs", "answers 500", "no JSON", "wrong types"],
)
async def test_the_call_goes_on_when_the_webhook_does_not(
    rig: Rig, tmp_path: Path, answer: dict[str, Any], failure: str
) -> None:
    """It fails open within the answer budget: the agent's own greeting, and an event that says what went wrong."""
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with(**answer)
        call = await it.phone.dial(it.number)
        ringing = await rung(call)
        await call.wait_speech()
        await call.wait_silence(1.0)
        await call.hang_up()
        [row] = await it.rows()

    assert ringing < BUDGET_SECONDS + 0.5
    assert find(call, GREETING).missing_head == 0
    assert not heard(call, "Never said.")
    event = pre_call_event(row)
    assert (event["status"], event["failure_cause"]) == ("failed", failure)
    assert row["provenance"]["firstMessage"] == "agent"
    assert reason(row) == "user_hangup"


async def test_a_reply_may_decline_the_call(rig: Rig, tmp_path: Path) -> None:
    """The caller hears the operator's sentence in the agent's voice, and the line closes."""
    sentence = "This number is for registered guests only. Goodbye."
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with({"reject": True, "rejectMessage": sentence})
        call = await it.phone.dial(it.number)
        await call.wait_answered(10)
        await call.wait_ended(15)
        [row] = await it.rows()

    assert heard(call, sentence)
    assert not heard(call, GREETING)
    assert (row["status"], reason(row)) == ("failed", "rejected")
    assert row["agent_id"] == "front-desk"
    assert pre_call_event(row)["status"] == "rejected"


async def test_a_call_declined_without_words_is_not_answered(rig: Rig, tmp_path: Path) -> None:
    """Without a message the line closes while it rings; nobody pays for it."""
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with({"reject": True})
        call = await it.phone.dial(it.number)
        await call.wait_ended(10)
        [row] = await it.rows()

    assert not call.answered.is_set()
    assert (row["status"], reason(row)) == ("failed", "rejected")


async def test_an_operator_may_want_failures_to_reject(rig: Rig, tmp_path: Path) -> None:
    """With `onFailure: reject` a webhook that fails costs the call, and says so."""
    async with scene(rig, tmp_path, onFailure="reject", timeoutMs=500) as it:
        it.hook.answer_with(fault="hang")
        call = await it.phone.dial(it.number)
        await call.wait_ended(15)
        [row] = await it.rows()

    assert heard(call, AgentConfig(name="x").fallbacks.goodbye)
    assert (row["status"], reason(row)) == ("failed", "rejected")
    assert pre_call_event(row)["failure_cause"] == "timeout"


async def test_a_caller_who_gives_up_is_not_waited_for(rig: Rig, tmp_path: Path) -> None:
    """CANCEL while the webhook is being asked: the row is there at once, and nothing rings on."""
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with(fault="hang")
        call = await it.phone.dial(it.number)
        await it.hook.wait_for_requests(1)
        await call.hang_up()
        cancelled = time.monotonic()
        await rig.stack.wait_no_rooms(3)
        [row] = await it.rows()

    assert time.monotonic() - cancelled < 3
    assert (row["status"], reason(row)) == ("failed", "cancelled")


async def test_a_process_that_dies_while_it_asks_leaves_no_caller_ringing(rig: Rig, tmp_path: Path) -> None:
    """kill -9 in the middle of asking: the caller is told and let go, and the call is on record."""
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with(fault="hang")
        call = await it.phone.dial(it.number)
        await it.hook.wait_for_requests(1)
        asking = [process for process in it.worker.job_processes() if asks(process, it.hook.port)]
        assert len(asking) == 1
        asking[0].kill()
        await call.wait_ended(20)
        [row] = await it.rows()
        await rig.stack.wait_no_rooms(5)

    assert (row["status"], reason(row)) == ("failed", "worker_lost")


async def test_private_addresses_are_not_asked(rig: Rig, tmp_path: Path) -> None:
    """Without the operator's leave no request is sent to this machine; the call goes on, and the event says why."""
    number = rig.next_number()
    async with HookReceiver() as receiver:
        agent = rig.agent(numbers=[number], webhooks={"preCall": {"url": receiver.url}})
        async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
            [row] = await ended_calls(rig, worker)
        assert receiver.requests == []

    assert pre_call_event(row)["failure_cause"] == "address_refused"
    assert "call.answered" in event_types(row)


async def test_several_calls_are_asked_for_at_once(rig: Rig, tmp_path: Path) -> None:
    """A slow webhook delays each call by its own answer only."""
    async with scene(rig, tmp_path) as it:
        it.hook.answer_with({"metadata": {"n": 1}}, delay_ms=600)
        calls = [await it.phone.dial(it.number, from_=f"+1555800{n}") for n in range(2)]
        await asyncio.gather(*(greeted(call) for call in calls))
        await asyncio.gather(*(call.hang_up() for call in calls))
        rows = await ended_calls(rig, it.worker, 2)

    assert len({request.json["call_id"] for request in it.hook.requests}) == 2
    assert {pre_call_event(row)["status"] for row in rows} == {"succeeded"}
