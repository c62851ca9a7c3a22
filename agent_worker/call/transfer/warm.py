"""A warm transfer: the caller waits with music while one person after another is asked, then the two are joined."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from agent_worker.call.line import Leg
from agent_worker.call.room_line import RoomLine
from agent_worker.call.transfer.attempt import Attempt
from agent_worker.call.transfer.hold import Hold, back_to_agent
from agent_worker.call.transfer.leg import PersonLeg
from agent_worker.call.transfer.listener import Listener, stop
from agent_worker.call.transfer.relay import Relay
from agent_worker.call.transfer.screening import Screening, Verdict
from agent_worker.domain.transfer import TransferCause, TransferPlan, TransferStatus

if TYPE_CHECKING:
    from agent_worker.call.transfer.transfers import Transfers

logger = logging.getLogger("agent_worker.call")

T = TypeVar("T")

_CAUSES = {
    Verdict.DECLINED: TransferCause.DECLINED,
    Verdict.VOICEMAIL: TransferCause.VOICEMAIL,
    Verdict.HUNG_UP: TransferCause.PERSON_HUNG_UP,
}


async def put_through(transfers: Transfers, first: Attempt) -> None:
    """Try the destinations in order; where nobody takes the caller, give them back to the agent."""
    plan = first.plan
    cause: str | None = None
    async with _hold(transfers, plan) as hold:
        for destination in plan.destinations:
            if destination is not first.destination and not transfers.may_call():
                break
            attempt = first if destination is first.destination else transfers.attempt(plan, destination)
            cause = await _try(transfers, attempt, hold, ask=True)
            if cause is None or (attempt.cancelled.done() and not attempt.cancelled.result().try_next):
                break
    await _afterwards(transfers, plan, cause)


async def put_through_unasked(transfers: Transfers, attempt: Attempt) -> None:
    """Dial the person of a blind transfer whose carrier takes no REFER, and join the two as soon as they answer."""
    async with _hold(transfers, attempt.plan) as hold:
        cause = await _try(transfers, attempt, hold, ask=False)
    await _afterwards(transfers, attempt.plan, cause)


def _hold(transfers: Transfers, plan: TransferPlan) -> Hold:
    url = plan.hold_audio_url or plan.fallback.hold_audio_url
    return Hold(transfers.call, partial(transfers.services.hold_audio.get, url) if url else None)


async def _afterwards(transfers: Transfers, plan: TransferPlan, cause: str | None) -> None:
    """Go on once nobody else is on the line.

    Args:
        cause: why nobody took the caller, None where somebody did.
    """
    call = transfers.call
    if cause is None and plan.after_bridge == "end_call":
        call.finish(transfers.bridged)
        return
    if cause is None:
        back_to_agent(call)
        call.record_event("transfer.person_left", **transfers.attempts[-1].named)
        if call.line.operators.speaking:
            await transfers.tell_agent(PERSON_LEFT)
            return
        call.watchdog.reply_due()
        call.session.generate_reply(instructions=f"{PERSON_LEFT} {WHAT_ELSE}", tool_choice="none")
        return
    await transfers.give_back(plan.fallback, cause, transfers.attempts[-1])


async def _try(transfers: Transfers, attempt: Attempt, hold: Hold, *, ask: bool) -> str | None:
    """Return None once caller and person have talked and the person has hung up, else why they never did."""
    assert attempt.consultation_room is not None
    assert attempt.recipient_identity is not None
    if attempt.cancelled.done():
        return _cancelled(attempt)
    leg = transfers.services.make_leg(attempt.consultation_room, attempt.recipient_identity)
    transfers.leg = leg
    transfers.call.line.prepare_relay()
    try:
        cause = await _reach(transfers, attempt, leg, ask=ask)
        return await _talk(transfers, attempt, leg, hold) if cause is None else cause
    finally:
        try:
            if leg.answered:
                transfers.call.record_event("call.leg.hangup", **attempt.named)
        finally:
            await leg.hang_up()
            await leg.aclose()


async def _reach(transfers: Transfers, attempt: Attempt, leg: PersonLeg, *, ask: bool) -> str | None:
    """Dial, and ask where that is wanted; returns None once the person takes the caller, else why not."""
    plan, call = attempt.plan, transfers.call
    dialling = leg.dial(
        transfers.services.policy.check(attempt.destination.to),
        trunk_id=attempt.trunk_id,
        shown_number=plan.from_ or call.offer.dialed_number,
        ringing_seconds=plan.ringing_timeout,
    )
    outcome = await _unless(dialling, attempt.cancelled)
    attempt.trunk_id = leg.trunk_id or attempt.trunk_id
    if outcome is not None and outcome.cause is not None:
        attempt.change(TransferStatus.FAILED, outcome.cause.value, sip=outcome)
        return outcome.cause.value
    if outcome is not None and not ask:
        return None
    if outcome is not None:
        attempt.change(TransferStatus.SCREENING, sip=outcome)
        verdict = await _ask(transfers, attempt, leg)
        if not attempt.cancelled.done():
            if attempt.accepted.done() or verdict is Verdict.ACCEPTED:
                return None
            if verdict is Verdict.VOICEMAIL:
                call.record_event("transfer.voicemail_detected", mode=plan.voicemail_detection.how, **attempt.named)
            cause = _CAUSES[verdict].value
            attempt.change(TransferStatus.FAILED, cause)
            return cause
    return _cancelled(attempt)


def _cancelled(attempt: Attempt) -> str:
    """Write down an operator's no, and return it."""
    cause = attempt.cancelled.result().cause
    attempt.change(TransferStatus.CANCELLED, cause)
    return cause


async def _ask(transfers: Transfers, attempt: Attempt, leg: PersonLeg) -> Verdict:
    """Return what the person decides, or an operator for them."""
    services, call = transfers.services, transfers.call
    detection = attempt.plan.voicemail_detection
    screening = Screening(leg, call.agent, services.make_stack(), services.briefing(attempt), detection)
    # it has one way to end, whoever decides: one that is cut off in the middle of closing goes on talking
    attempt.accepted.add_done_callback(lambda _: screening.decide(Verdict.ACCEPTED))
    attempt.cancelled.add_done_callback(lambda _: screening.decide(Verdict.DECLINED))
    try:
        return await screening.run()
    finally:
        # also where the caller hangs up meanwhile
        attempt.consulted(screening.entries)
        call.other_usage += screening.usage()


async def _talk(transfers: Transfers, attempt: Attempt, leg: PersonLeg, hold: Hold) -> str | None:
    """Join the two; returns when the person has hung up: None, or why it never came to a talk.

    The end of the call cancels this.
    """
    call = transfers.call
    attempt.change(TransferStatus.BRIDGING)
    if transfers.services.settings.move_participant and await leg.move(call.line.room_name):
        await hold.stop_music()
        await _talk_without_us(transfers, attempt)
        return None
    await _unless(_relay_ready(call.line, leg), leg.closed)
    if leg.closed.done():
        # they have said yes, and were gone before they could be joined
        attempt.change(TransferStatus.FAILED, TransferCause.PERSON_HUNG_UP.value)
        return TransferCause.PERSON_HUNG_UP.value
    await hold.stop_music()
    if call.recording is not None:
        leg.tap_voice(call.recording.hear_agent)
    listening = _listen(transfers, attempt, leg) if attempt.plan.transcribe else []
    try:
        async with Relay(call.line, leg, lambda to: _key_passed(transfers, attempt, to is leg)) as relay:
            with _joined(transfers, attempt):
                await relay.until(leg.closed)
    finally:
        await stop(listening)
    return None


async def _relay_ready(*legs: Leg) -> None:
    await asyncio.gather(*(leg.relay_ready() for leg in legs))


async def _talk_without_us(transfers: Transfers, attempt: Attempt) -> None:
    """The person is in the caller's room: the server carries their voices, and nothing is heard of it here."""
    assert isinstance(transfers.call.line, RoomLine)
    with _joined(transfers, attempt):
        await transfers.call.line.until_gone(attempt.recipient_identity or "")


@contextlib.contextmanager
def _joined(transfers: Transfers, attempt: Attempt) -> Iterator[None]:
    """Note that caller and person talk with each other, and when they no longer do."""
    transfers.talking = True
    attempt.change(TransferStatus.COMPLETED)
    transfers.call.journal.event("call.bridged", status="active", payload=attempt.named)
    try:
        yield
    finally:
        # a caller who has hung up was talking to the end
        transfers.talking = transfers.call.line.closed.done()


def _key_passed(transfers: Transfers, attempt: Attempt, to_person: bool) -> None:
    # which key is their business: it may be a card's number
    transfers.call.record_event("call.dtmf.sent", to="person" if to_person else "caller", **attempt.named)


def _listen(transfers: Transfers, attempt: Attempt, leg: PersonLeg) -> list[asyncio.Task[None]]:
    call = transfers.call
    person = {"speaker": "person", "transfer_id": attempt.id, "label": attempt.destination.label}
    listeners = (
        Listener(call.line, call.stack.stt, call.transcript, "user", {"speaker": "caller"}),
        Listener(leg, call.stack.stt, call.transcript, "agent", person),
    )
    return [asyncio.create_task(listener.run(), name="listener") for listener in listeners]


async def _unless(work: Coroutine[Any, Any, T], *others: asyncio.Future[Any]) -> T | None:
    """Return what the work comes to; None, with the work cancelled, where one of the others is done first."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})  # awaited itself, a cancellation of ours would pass for its own
            if not task.cancelled() and (error := task.exception()):
                logger.warning("work given up has failed", extra={"error": type(error).__name__})


PERSON_LEFT = "The person the caller was talking with has hung up."
WHAT_ELSE = "Ask the caller briefly what else you can do."
