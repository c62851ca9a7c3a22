"""The rig itself, proven on a plain LiveKit Agents worker."""

from __future__ import annotations

import sys
from pathlib import Path

from livekit import api

from agent_worker.testing.audio import locate
from agent_worker.testing.processes import ChildProcess
from agent_worker.testing.sip_phone import Answer, CallFailed
from agent_worker.testing.voice import CALLER_VOICE, render
from agent_worker.testing.worker_process import clean_environment
from tests.e2e.rig import CALLER_LINES, GREETING, PHONE_RATE, REPLIES, Rig

ROOT = Path(__file__).resolve().parents[2]


async def test_phone_hears_a_greeting_and_a_turn(rig: Rig, tmp_path: Path) -> None:
    """A call from the phone reaches a worker, whose words come back as the stand-ins were told to say them."""
    number = rig.next_number()
    await rig.providers.cartesia.warm(GREETING, REPLIES[0].reply)
    inbound = await rig.stack.route_number([number], "plain")
    env = rig.stack.env | rig.providers.env | {"BENCH_GREETING": GREETING, "BENCH_AGENT_NAME": "plain"}
    command = [sys.executable, "-m", "bench.plain_worker", "start"]
    worker = await ChildProcess.start("plain", command, log_dir=tmp_path, env=clean_environment(env), cwd=ROOT)
    try:
        async with rig.phone() as phone:
            # A call that comes before any worker is registered stays without one.
            await worker.wait_logged("registered worker", 40)
            call = await phone.dial(number)
            await call.wait_answered(20)
            assert call.moments.answered_at is not None
            await call.wait_speech(10, after=call.moments.answered_at)
            await call.wait_silence(1.0)
            spoken = await call.play(render(CALLER_LINES[0], PHONE_RATE, voice=CALLER_VOICE))
            assert spoken.started_at is not None and spoken.ended_at is not None
            await call.wait_speech(10, after=spoken.ended_at)
            await call.wait_silence(1.0)
            await call.hang_up()
            heard = call.heard
    finally:
        await worker.stop(term_seconds=20)
        await rig.stack.forget_number(inbound)

    finals = rig.providers.sightings.of("deepgram", "final", after=spoken.started_at)
    assert [final.text for final in finals] == [CALLER_LINES[0]]
    answer = locate(heard.pcm, render(REPLIES[0].reply, PHONE_RATE), PHONE_RATE)
    assert answer is not None and answer.correlation > 0.6
    greeting = locate(heard.pcm, render(GREETING, PHONE_RATE), PHONE_RATE)
    assert greeting is not None and greeting.correlation > 0.6


async def test_phone_answers_refuses_and_hears_keys(rig: Rig) -> None:
    """The phone takes an outbound call of the server, and its refusals and key presses arrive as SIP has them."""
    async with rig.phone() as phone:
        trunk = await rig.stack.outbound_trunk(phone.address)
        request = api.CreateSIPParticipantRequest(
            sip_trunk_id=trunk,
            sip_call_to="+15551111",
            room_name="outbound",
            participant_identity="callee",
            wait_until_answered=True,
            dtmf="12#",
        )
        await rig.stack.lk.sip.create_sip_participant(request)
        call = await phone.incoming()
        await call.wait_answered()
        await rig.stack.delete_room("outbound")
        await call.wait_ended()
        assert (call.digits, call.ended_by) == ("12#", "them")

        phone.answer_with(Answer(code=486))
        try:
            await rig.stack.lk.sip.create_sip_participant(request)
        except api.SipCallError as refused:
            assert refused.sip_status_code == 486
        else:
            raise AssertionError("a busy phone was reached")
        assert (await phone.incoming()).status == 486
        await rig.stack.lk.sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=trunk))


async def test_an_unanswered_call_rings_until_the_trunk_gives_up(rig: Rig) -> None:
    """Without a worker the caller hears ringing, and a refusal at the trunk's ringing timeout."""
    number = rig.next_number()
    inbound = await rig.stack.route_number([number], "nobody", ringing_seconds=2)
    async with rig.phone() as phone:
        call = await phone.dial(number)
        try:
            await call.wait_answered(10)
        except CallFailed as failed:
            assert failed.status == 486
        else:
            raise AssertionError("nobody answered, yet the call was picked up")
        assert call.ringing.is_set()
    await rig.stack.forget_number(inbound)
