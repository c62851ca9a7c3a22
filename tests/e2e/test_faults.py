"""Providers that refuse, fail or hang: the caller is never left in silence."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent_worker.testing.sip_phone import SipCall
from tests.e2e.rig import CALLER_LINES, REPLIES, Rig
from tests.e2e.talk import answered, ended_calls, event_types, find, greeted, longest_silence, reason, say

APOLOGY = "Sorry, I didn't catch that. Could you say it again?"
GOODBYE = "I'm sorry, we have a technical problem. Please call again later. Goodbye."
SILENCE_SECONDS = 4.0
SERVICES = {"deepgram": "stt_error", "openai": "llm_error", "cartesia": "tts_error"}


async def say_and_listen(call: SipCall, line: str) -> float:
    """Speak a line; returns the seconds until anything was heard in answer."""
    spoken = await say(call, line)
    assert spoken.ended_at is not None
    answered = await call.wait_speech(10, after=spoken.ended_at)
    await call.wait_silence(0.8)
    return answered - spoken.ended_at


@pytest.mark.parametrize("fault", ["refuse", "http500", "hang"])
@pytest.mark.parametrize("service", list(SERVICES))
async def test_three_failed_turns_are_apologised_for_and_end_the_call(
    rig: Rig, tmp_path: Path, service: str, fault: str
) -> None:
    """An apology from rendered audio within 4 s, twice; the third time a goodbye, and the provider's name on the call."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number], idleRePrompts={"enabled": False})
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await rig.providers.services[service].set_fault(fault, kill=True)
        delays = [await say_and_listen(call, CALLER_LINES[0]) for _ in range(2)]
        spoken = await say(call, CALLER_LINES[0])
        assert spoken.ended_at is not None
        delays.append(await call.wait_speech(10, after=spoken.ended_at) - spoken.ended_at)
        await call.wait_ended(20)
        ended = time.monotonic()
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, worker)

    assert max(delays) < SILENCE_SECONDS, delays
    assert longest_silence(call, spoken.ended_at, ended) < SILENCE_SECONDS
    find(call, APOLOGY)
    goodbye = find(call, GOODBYE)
    assert goodbye.missing_head == 0
    assert goodbye.missing_tail == 0
    assert reason(row) == SERVICES[service]
    assert event_types(row).count("agent.turn_failed") == 2
    assert event_types(row).count("agent.gave_up") == 1
    assert row["status"] == "ended"


@pytest.mark.parametrize("service", list(SERVICES))
async def test_a_provider_that_recovers_costs_one_apology(rig: Rig, tmp_path: Path, service: str) -> None:
    """After one failed turn the next is answered as if nothing had been."""
    number = rig.next_number()
    agent = rig.agent(numbers=[number], idleRePrompts={"enabled": False})
    async with rig.worker(agent, folder=tmp_path) as worker, rig.phone() as phone:
        call = await phone.dial(number)
        await greeted(call)
        await rig.providers.services[service].set_fault("http500", kill=True)
        await say_and_listen(call, CALLER_LINES[0])
        await rig.providers.heal()
        await say_and_listen(call, CALLER_LINES[1])
        await call.hang_up()
        [row] = await ended_calls(rig, worker)

    assert answered(call, REPLIES[1].reply)
    assert event_types(row).count("agent.turn_failed") == 1
    assert reason(row) == "user_hangup"
