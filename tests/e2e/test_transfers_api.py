"""Transfers of a live call over the API, as the official clients ask for them: the rows, the phones, the call."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from spekoai import AsyncSpeko, Speko, SpekoApiError

from agent_worker.testing.sip_phone import SipCall, SipPhone
from agent_worker.testing.sip_policies import Answer, ReferPolicy
from tests.e2e.putting_through import BRIEFED, CALLER_HZ, NUMBERS, PERSON_HZ, heard_tone, hold_up, rows
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig, describe
from tests.e2e.talk import answered, ask, ended_calls, greeted, reason, say, words
from tests.e2e.test_live import Desk, desk

MESSAGE = "Nobody can take your call right now."
PREMIUM = "+19005550123"


class Client:
    """The official client, one of the two."""

    def __init__(self, it: Desk, kind: str) -> None:
        self._it = it
        self._kind = kind

    async def __call__(self, use: Callable[[Any], Any]) -> Any:
        """Let it do something with a client's `calls`."""
        if self._kind == "async":
            async with AsyncSpeko(api_key=self._it.key, base_url=self._it.serve.url) as speko:
                result = use(speko.calls)
                return await result if inspect.isawaitable(result) else result

        def run() -> Any:
            with Speko(api_key=self._it.key, base_url=self._it.serve.url) as speko:
                return use(speko.calls)

        return await asyncio.to_thread(run)

    async def refused(self, use: Callable[[Any], Any]) -> tuple[int, str | None]:
        """Return status and code of what is refused."""
        with pytest.raises(SpekoApiError) as error:
            await self(use)
        return error.value.status, error.value.code


@asynccontextmanager
async def call_and_person(
    rig: Rig, folder: Path, env: dict[str, str] | None = None, **agent: Any
) -> AsyncIterator[tuple[Desk, SipCall, SipPhone, str]]:
    """A greeted caller, and a phone behind a trunk whose id is the last of these."""
    rig.providers.openai.rules = [BRIEFED, *rig.providers.openai.rules]
    async with desk(rig, folder, env, **agent) as it, rig.phone() as person:
        person.answer_with(Answer())
        trunk = await rig.stack.outbound_trunk(f"127.0.0.1:{person.port}")
        call = await it.phone.dial(it.number)
        await greeted(call)
        yield it, call, person, trunk


async def briefed(person: SipPhone) -> SipCall:
    leg = await person.incoming(20)
    await leg.wait_answered()
    await leg.wait_speech(15)
    await leg.wait_silence(1.2)
    return leg


async def test_a_blind_transfer(rig: Rig, tmp_path: Path) -> None:
    """The answer is the row as it begins; what the carrier makes of it is in the call's detail."""
    async with desk(rig, tmp_path) as it:
        speko = Client(it, "sync")
        call = await it.phone.dial(it.number)
        await greeted(call)
        call.refer_policy = ReferPolicy()
        call_id = await it.call_id()
        not_allowed = await speko.refused(lambda calls: calls.blind_transfer(call_id, {"to": PREMIUM}))
        asked = {"to": NUMBERS[0], "playDialtone": False, "ringingTimeout": 20}
        begun = await speko(lambda calls: calls.blind_transfer(call_id, asked))
        await call.wait_ended(15)
        await ended_calls(rig, it.worker)
        [transfer] = (await speko(lambda calls: calls.get(call_id))).transfers
        over = await speko.refused(lambda calls: calls.blind_transfer(call_id, {"to": NUMBERS[0]}))
    assert not_allowed == (400, "DESTINATION_NOT_ALLOWED")
    assert (begun.kind, begun.status, begun.transfer_to, begun.session_id) == (
        "blind",
        "requested",
        NUMBERS[0],
        call_id,
    )
    assert call.refer_to.strip("<>") == f"tel:{NUMBERS[0]}"
    assert (transfer.id, transfer.status, transfer.failure_cause) == (begun.id, "completed", None)
    assert transfer.completed_at
    assert over == (409, "CALL_NOT_LIVE")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_operator_says_that_the_person_takes_the_caller(rig: Rig, tmp_path: Path, kind: str) -> None:
    """The answer waits until somebody has picked up; `complete` joins the two without a word of the person's."""
    async with call_and_person(rig, tmp_path) as (it, call, person, trunk):
        speko = Client(it, kind)
        call_id = await it.call_id()
        person.answer_with(Answer(ring_seconds=2))
        asked = {"to": NUMBERS[0], "outboundTrunkId": trunk, "waitUntilAnswered": True, "summary": "Rooms for two."}
        waiting = asyncio.create_task(speko(lambda calls: calls.warm_transfer(call_id, asked)))
        leg = await person.incoming(20)
        begun = (await speko(lambda calls: calls.get(call_id))).transfers[-1]
        early = await speko.refused(lambda calls: calls.complete_warm_transfer(call_id, begun.id))
        second = await speko.refused(lambda calls: calls.warm_transfer(call_id, asked))
        found = await waiting
        unknown = await speko.refused(lambda calls: calls.complete_warm_transfer(call_id, "tr_0"))
        other = await speko.refused(
            lambda calls: calls.complete_warm_transfer(call_id, found.id, {"recipientParticipantIdentity": "x"})
        )
        joined = await speko(lambda calls: calls.complete_warm_transfer(call_id, found.id))
        again = await speko.refused(lambda calls: calls.complete_warm_transfer(call_id, found.id))
        await asyncio.sleep(1)
        await asyncio.gather(hold_up(call, CALLER_HZ), hold_up(leg, PERSON_HZ))
        await asyncio.sleep(0.5)
        hears = heard_tone(leg, CALLER_HZ), heard_tone(call, PERSON_HZ)
        await leg.hang_up()
        await call.wait_ended(5)
        [row] = await ended_calls(rig, it.worker)
    assert (begun.id, begun.status) == (found.id, "requested")
    assert early == (409, "TRANSFER_NOT_ACTIVE")
    assert second == (409, "TRANSFER_ACTIVE")
    assert (found.kind, found.status, found.summary) == ("warm", "screening", "Rooms for two.")
    assert found.outbound_trunk_id == trunk
    assert found.consultation_room_name
    assert found.recipient_participant_identity
    assert [attempt.id for attempt in found.routing_attempts] == [found.id]
    assert unknown == (404, "NOT_FOUND")
    assert other == (409, "RECIPIENT_MISMATCH")
    assert (joined.id, joined.status) == (found.id, "completed")
    assert again == (409, "TRANSFER_NOT_ACTIVE")
    assert min(hears) > 1.7, hears
    assert rows(row) == [("", "completed", None)], describe([row])
    assert reason(row) == "call_transfer"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_operator_says_no_for_the_person(rig: Rig, tmp_path: Path, kind: str) -> None:
    """With a reason and `tryNext` the next phone rings; a voicemail at the last one gives the caller back."""
    async with call_and_person(rig, tmp_path) as (it, call, person, trunk):
        speko = Client(it, kind)
        call_id = await it.call_id()
        destinations = [
            {"to": number, "label": label, "outboundTrunkId": trunk}
            for number, label in zip(NUMBERS, ("Sales", "Overflow"), strict=False)
        ]
        asked = {"destinations": destinations, "fallback": {"strategy": "return_to_assistant", "message": MESSAGE}}
        begun = await speko(lambda calls: calls.warm_transfer(call_id, asked))
        first = await briefed(person)
        no = {"reason": "in_a_meeting", "tryNext": True}
        cancelled = await speko(lambda calls: calls.cancel_warm_transfer(call_id, begun.id, no))
        await first.wait_ended(5)
        second = await briefed(person)
        machine = {"voicemailDetected": True}
        last = await speko(lambda calls: calls.cancel_warm_transfer(call_id, cancelled.next_transfer.id, machine))
        await second.wait_ended(5)
        await call.wait_speech(10)
        await call.wait_silence(1.5)
        await ask(call, CALLER_LINES[1])
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert begun.status == "requested"
    assert (cancelled.status, cancelled.failure_cause) == ("cancelled", "in_a_meeting")
    assert (cancelled.next_transfer.status, cancelled.next_transfer.transfer_to) == ("requested", NUMBERS[1])
    assert cancelled.fallback is None
    assert (last.status, last.failure_cause, last.next_transfer) == ("cancelled", "voicemail", None)
    assert [attempt.status for attempt in last.routing_attempts] == ["cancelled", "cancelled"]
    assert (last.fallback.action, last.fallback.message, last.fallback.voicemail_detected) == (
        "return_to_assistant",
        MESSAGE,
        True,
    )
    assert rows(row) == [("Sales", "cancelled", "in_a_meeting"), ("Overflow", "cancelled", "voicemail")]
    assert answered(call, MESSAGE)
    assert answered(call, REPLIES[1].reply)


@pytest.mark.parametrize("try_next", [False, True], ids=["give_back", "next"])
async def test_who_is_still_ringing_is_cancelled(rig: Rig, tmp_path: Path, try_next: bool) -> None:
    """The phone stops within a second; then the next one rings, or the caller is given back to the agent."""
    async with call_and_person(rig, tmp_path) as (it, call, person, trunk):
        speko = Client(it, "sync")
        call_id = await it.call_id()
        person.answer_with(Answer(ring_seconds=30))
        destinations = [{"to": number, "outboundTrunkId": trunk} for number in NUMBERS[:2]]
        asked = {"destinations": destinations, "fallback": {"strategy": "return_to_assistant", "message": MESSAGE}}
        begun = await speko(lambda calls: calls.warm_transfer(call_id, asked))
        first = await person.incoming(20)
        await asyncio.sleep(1)
        person.answer_with(Answer())
        said_no = time.monotonic()
        no = {"tryNext": try_next}
        cancelled = await speko(lambda calls: calls.cancel_warm_transfer(call_id, begun.id, no))
        await first.wait_ended(5)
        if try_next:
            second = await briefed(person)
            second.send_digits("1")
            await asyncio.sleep(1)
            await asyncio.gather(hold_up(call, CALLER_HZ), hold_up(second, PERSON_HZ))
            await asyncio.sleep(0.5)
            hears = heard_tone(second, CALLER_HZ), heard_tone(call, PERSON_HZ)
            await second.hang_up()
            await call.wait_ended(5)
        else:
            await call.wait_speech(10)
            await call.wait_silence(1.5)
            await ask(call, CALLER_LINES[1])
            await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
        await rig.stack.wait_no_rooms(3)
    assert first.moments.ended_at is not None
    assert first.moments.answered_at is None
    assert first.moments.ended_at - said_no < 1.0
    assert (cancelled.status, cancelled.failure_cause) == ("cancelled", "cancelled")
    if try_next:
        assert cancelled.next_transfer.transfer_to == NUMBERS[1]
        assert rows(row) == [("", "cancelled", "cancelled"), ("", "completed", None)]
        assert min(hears) > 1.7, hears
    else:
        assert cancelled.next_transfer is None
        assert rows(row) == [("", "cancelled", "cancelled")]
        assert answered(call, MESSAGE)
        assert answered(call, REPLIES[1].reply)


async def test_waiting_ends_with_whoever_picks_up(rig: Rig, tmp_path: Path) -> None:
    """The first is busy: the answer is the row of the second, with both attempts."""
    async with call_and_person(rig, tmp_path) as (it, call, person, trunk):
        speko = Client(it, "async")
        call_id = await it.call_id()
        person.answer_with(Answer(code=486))
        destinations = [{"to": number, "outboundTrunkId": trunk} for number in NUMBERS[:2]]
        asked = {"destinations": destinations, "waitUntilAnswered": True, "fallback": None, "metadata": None}
        waiting = asyncio.create_task(speko(lambda calls: calls.warm_transfer(call_id, asked)))
        await person.incoming(20)
        person.answer_with(Answer(ring_seconds=2))
        second = await person.incoming(20)
        found = await waiting
        await second.hang_up()
        await call.wait_silence(2.0)  # the music is over, and what the agent says of it
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert (found.status, found.transfer_to) == ("screening", NUMBERS[1])
    assert [(attempt.status, attempt.failure_cause) for attempt in found.routing_attempts] == [
        ("failed", "busy"),
        ("screening", None),
    ]
    assert rows(row) == [("", "failed", "busy"), ("", "failed", "person_hung_up")], describe([row])


async def test_a_person_at_a_sip_address_is_asked_too(rig: Rig, tmp_path: Path) -> None:
    """Dialled at its host, without a trunk, where the operator lists that host."""
    async with rig.phone() as person:
        person.answer_with(Answer())
        host = f"127.0.0.1:{person.port}"
        async with call_and_person(rig, tmp_path, {"AGENT_WORKER_DIAL_ALLOW": host}) as (it, call, _, _):
            call_id = await it.call_id()
            asked = {"destinations": [{"to": f"sip:workshop@{host}"}]}
            elsewhere = {"destinations": [{"to": "sip:workshop@pbx.example.com"}]}
            refused = await it.post(call_id, "transfers/warm", elsewhere)
            begun = await it.post(call_id, "transfers/warm", asked)
            leg = await briefed(person)
            leg.send_digits("1")
            await asyncio.sleep(1)
            await asyncio.gather(hold_up(call, CALLER_HZ), hold_up(leg, PERSON_HZ))
            await asyncio.sleep(0.5)
            await leg.hang_up()
            await call.wait_ended(5)
            [row] = await ended_calls(rig, it.worker)
    assert begun.status_code == 201
    assert (refused.status_code, refused.json()["code"]) == (400, "DESTINATION_NOT_ALLOWED")
    assert min(heard_tone(leg, CALLER_HZ), heard_tone(call, PERSON_HZ)) > 1.7
    assert rows(row) == [("", "completed", None)], describe([row])


async def test_a_caller_is_left_in_peace_while_their_carrier_rings(rig: Rig, tmp_path: Path) -> None:
    """Nobody asks whether they are still there, and nothing they say reaches the model: the phone is not ours then."""
    reprompts = {"delayMs": 2000, "maxPrompts": 1, "messages": ["Are you still there?"]}
    async with desk(rig, tmp_path, idleRePrompts=reprompts) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        call.refer_policy = ReferPolicy(notifies=((0.1, "SIP/2.0 180 Ringing"), (8.0, "SIP/2.0 200 OK")))
        await it.post(await it.call_id(), "transfers/blind", {"to": NUMBERS[0], "ringingTimeout": 20})
        before = len(rig.providers.openai.requests)
        await asyncio.sleep(1)
        await say(call, CALLER_LINES[1])
        await call.wait_ended(15)
        asked = len(rig.providers.openai.requests) - before
        [row] = await ended_calls(rig, it.worker)
    assert asked == 0
    assert words(row, "agent") == [GREETING]
    assert rows(row) == [("", "completed", None)], describe([row])
    assert reason(row) == "call_transfer"
