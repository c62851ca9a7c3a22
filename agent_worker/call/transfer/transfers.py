"""A call's transfers: one at a time, each a list of attempts, and always an end that leaves nobody stranded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent_worker.call.line import LineClosed
from agent_worker.call.live_call import Ending, LiveCall, TransferRefused
from agent_worker.call.transfer.attempt import Attempt, Cancelled
from agent_worker.call.transfer.blind import hand_over
from agent_worker.call.transfer.hold import back_to_agent
from agent_worker.call.transfer.hold_audio import HoldAudio
from agent_worker.call.transfer.hourly_cap import HourlyCap
from agent_worker.call.transfer.leg import MakeLeg, PersonLeg
from agent_worker.call.transfer.screening import Briefing
from agent_worker.call.transfer.warm import put_through
from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.dialling import DialPolicy, NotDialled
from agent_worker.domain.transfer import (
    MOST_ATTEMPTS,
    TransferCause,
    TransferDestination,
    TransferFallback,
    TransferKind,
    TransferPlan,
    TransferStatus,
)
from agent_worker.providers.stack import Stack
from agent_worker.settings import Settings
from agent_worker.telephony.rooms import consultation_room
from agent_worker.toolbox.binding import BoundTool

logger = logging.getLogger("agent_worker.call")

ANNOUNCEMENT_SECONDS = 10.0
"""How long the sentence before a transfer may take to be heard."""

REFER_SECONDS = 4.0
"""How long the end of the caller's leg waits for the word on a REFER that is on its way."""

HOUR_FULL = "Nobody can be called for now: this line has reached its limit of transfers in an hour."

CALLER_LEFT = frozenset({DisconnectionReason.USER_HANGUP, DisconnectionReason.MEDIA_TIMEOUT})

BRIDGED = Ending(DisconnectionReason.CALL_TRANSFER, None, 200, "OK")


@dataclass(frozen=True)
class TransferServices:
    """What transfers of a call need beside the call.

    Attributes:
        settings: how LiveKit is reached.
        policy: whom may be dialled.
        cap: how many people all calls of this host may call in an hour.
        make_leg: makes the leg to a person.
        make_stack: makes the providers of a screening conversation.
        briefing: what a person is told of the call.
        hold_audio: gets what callers hear on hold.
        message_tool: notes a message, for an agent that has no such tool itself.
    """

    settings: Settings
    policy: DialPolicy
    cap: HourlyCap
    make_leg: MakeLeg
    make_stack: Callable[[], Stack]
    briefing: Callable[[Attempt], Briefing]
    hold_audio: HoldAudio
    message_tool: BoundTool | None = None


class Transfers:
    """What one call does about transfers.

    Attributes:
        attempts: all of the call, in order.
        talking: whether the caller talks with a person right now.
        leg: the leg to the person who is dialled, asked or joined, or was last.
    """

    def __init__(self, call: LiveCall, services: TransferServices) -> None:
        self.attempts: list[Attempt] = []
        self.talking = False
        self.leg: PersonLeg | None = None
        self.call = call
        self.services = services
        self._running: asyncio.Task[None] | None = None
        self._key_refused = False

    @property
    def bridged(self) -> Ending:
        """How a call ends whose caller was put through."""
        return BRIDGED

    @property
    def on_its_way(self) -> bool:
        """Whether the caller is being put through, or talks with a person."""
        return self._running is not None and not self._running.done()

    @property
    def active(self) -> Attempt | None:
        """The attempt that is on its way, where there is one."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].is_open else None

    def begin(self, plan: TransferPlan) -> Attempt:
        """Begin a transfer and return its first row; it goes on by itself.

        Raises:
            TransferRefused: the call is over, another transfer is active, a destination may not be dialled, or this
                call, or all calls of this host, have made too many attempts.
        """
        if self.call.ending:
            raise TransferRefused("CALL_NOT_LIVE", "The call is over.")
        if self.on_its_way:
            raise TransferRefused("TRANSFER_ACTIVE", "Another transfer of this call is active.")
        if len(self.attempts) + len(plan.destinations) > MOST_ATTEMPTS:
            raise TransferRefused("TOO_MANY_ATTEMPTS", f"A call has at most {MOST_ATTEMPTS} attempts at a transfer.")
        try:
            for destination in plan.destinations:
                self.services.policy.check(destination.to)
        except NotDialled as error:
            self.call.record_event("transfer.refused", reason=str(error))
            raise TransferRefused("DESTINATION_NOT_ALLOWED", str(error)) from error
        if not self.may_call():
            raise TransferRefused("TOO_MANY_TRANSFERS", HOUR_FULL)
        first = self.attempt(plan, plan.destinations[0])
        self._running = asyncio.create_task(self._run(first), name="transfer")
        return first

    def may_call(self) -> bool:
        """Count one attempt more in this hour; returns whether it may be made."""
        may = self.services.cap.take()
        if not may:
            self.call.record_event("transfer.refused", reason=HOUR_FULL)
        return may

    def listen_for_key(self, key: str, plan: TransferPlan) -> None:
        """Put the caller through when they press this key."""

        def pressed(digit: str) -> None:
            if digit != key or self.on_its_way or self._key_refused or self.call.held_back or self.call.ending:
                return
            try:
                self.begin(plan)
            except TransferRefused:
                self._key_refused = True
                self.call.own(self._refuse_key(plan.fallback))

        self.call.line.tap_digits(pressed)

    async def _refuse_key(self, fallback: TransferFallback) -> None:
        try:
            await self.give_back(fallback, None)
        finally:
            self._key_refused = False

    def attempt(self, plan: TransferPlan, destination: TransferDestination) -> Attempt:
        """Write the row of an attempt at this destination."""
        warm = plan.kind is TransferKind.WARM
        attempt = Attempt(
            self.call.journal,
            (self.call.call_id, self.call.plan.organization_id),
            plan,
            destination,
            room_name=self.call.line.room_name,
            caller_identity=self.call.offer.caller_identity,
            consultation_room=consultation_room(self.call.line.room_name, len(self.attempts) + 1) if warm else None,
            trunk_id=(destination.outbound_trunk_id or plan.outbound_trunk_id) if warm else None,
        )
        self.attempts.append(attempt)
        attempt.announce()
        return attempt

    def find(self, transfer_id: str) -> Attempt:
        """Return an attempt that is on its way.

        Raises:
            TransferRefused: there is none of this id, or it is over.
        """
        found = next((attempt for attempt in self.attempts if attempt.id == transfer_id), None)
        if found is None:
            raise TransferRefused("NOT_FOUND", "There is no such transfer.")
        if not found.is_open:
            raise TransferRefused("TRANSFER_NOT_ACTIVE", f"The transfer is {found.status.value} already.")
        return found

    def complete(self, transfer_id: str, recipient_identity: str | None, summary: str | None) -> Attempt:
        """Take the person's yes from an operator.

        Args:
            summary: kept with the row.

        Raises:
            TransferRefused: nobody has picked up yet, or it is another person than the one named.
        """
        attempt = self.find(transfer_id)
        if attempt.status is TransferStatus.BRIDGING:
            raise TransferRefused("TRANSFER_NOT_ACTIVE", "The two are being joined already.")
        if attempt.status is not TransferStatus.SCREENING:
            raise TransferRefused("TRANSFER_NOT_ACTIVE", "Nobody has picked up yet.")
        if recipient_identity is not None and recipient_identity != attempt.recipient_identity:
            raise TransferRefused("RECIPIENT_MISMATCH", "The transfer has reached another person.")
        attempt.summary = summary or attempt.summary
        if not attempt.accepted.done():
            attempt.accepted.set_result(None)
        return attempt

    def cancel(self, transfer_id: str, cancelled: Cancelled, summary: str | None) -> Attempt:
        """Take a no from an operator.

        Args:
            summary: kept with the row.

        Raises:
            TransferRefused: there is no such transfer, or it is over or joined already.
        """
        attempt = self.find(transfer_id)
        if attempt.plan.kind is TransferKind.BLIND or attempt.status is TransferStatus.BRIDGING:
            raise TransferRefused("TRANSFER_NOT_ACTIVE", "The transfer can no longer be cancelled.")
        attempt.summary = summary or attempt.summary
        if not attempt.cancelled.done():
            attempt.cancelled.set_result(cancelled)
        return attempt

    async def ending_of(self, closed: LineClosed) -> Ending:
        """Return why the call is over, now that the caller's leg is down."""
        if self._running is not None and not self._running.done() and not self.talking:
            active = self.active
            if active is not None and active.referring:
                # the leg goes down a moment before the word comes why
                await asyncio.wait({self._running}, timeout=REFER_SECONDS)
                if active.status is TransferStatus.COMPLETED:
                    return BRIDGED
        if self.talking or (self.on_its_way and self.attempts[-1].status is TransferStatus.COMPLETED):
            return BRIDGED  # also a caller who hangs up in the moment after the person has
        return Ending(closed.reason, closed.failure_cause, closed.sip_status_code, closed.sip_status)

    async def aclose(self) -> None:
        """The call is over: whoever is dialled stops ringing, whoever is on a leg is hung up."""
        if self._running is not None:
            self._running.cancel()
            # at once: the conversation with the person takes a while to close, and their phone is not to ring on
            hanging_up = [self.leg.hang_up()] if self.leg is not None else []
            await asyncio.gather(self._running, *hanging_up, return_exceptions=True)

    async def _run(self, first: Attempt) -> None:
        try:
            if first.plan.announcement:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ANNOUNCEMENT_SECONDS):
                        await self.call.say(first.plan.announcement)
            if first.plan.kind is TransferKind.BLIND:
                await hand_over(self, first)
            else:
                await put_through(self, first)
        except asyncio.CancelledError:
            if self.active is not None:
                over = self.call.over
                left = not over.done() or over.result().reason in CALLER_LEFT
                cause = TransferCause.CALLER_HUNG_UP if left else TransferCause.CALL_ENDED
                self.active.change(TransferStatus.CANCELLED, cause.value)
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, the caller is given back
            logger.error("transfer broke", extra={"call_id": self.call.call_id, "error": type(error).__name__})
            back_to_agent(self.call)  # first: what broke may break again
            with contextlib.suppress(OSError):
                if self.active is not None:
                    self.active.change(TransferStatus.FAILED, TransferCause.DIAL_FAILED.value)
            await self.give_back(first.plan.fallback, TransferCause.DIAL_FAILED.value, self.attempts[-1])

    async def give_back(self, fallback: TransferFallback, cause: str | None, attempt: Attempt | None = None) -> None:
        """Nobody took the caller: say so, and go on as configured (contract 6); whatever breaks, the agent listens.

        Args:
            attempt: the last that was made.
        """
        try:
            await self._give_back(fallback, cause, attempt.named if attempt else {})
        except Exception as error:  # noqa: BLE001 - the agent listens, and the caller is asked to say it again
            logger.error("fallback broke", extra={"call_id": self.call.call_id, "error": type(error).__name__})
            await self.call.announce(self.call.agent.fallbacks.apology, "apology")

    async def _give_back(self, fallback: TransferFallback, cause: str | None, about: dict[str, Any]) -> None:
        call = self.call
        back_to_agent(call)
        told = f"Nobody took the call: {(cause or 'nobody was reached').replace('_', ' ')}."
        if call.line.operators.speaking:
            # the caller has somebody; the agent knows of it when they are back with it
            call.record_event("transfer.fallback", action="operator", cause=cause, **about)
            await self.tell_agent(told)
            return
        call.record_event("transfer.fallback", action=fallback.strategy, cause=cause, **about)
        if fallback.strategy == "end_call":
            await call.end(DisconnectionReason.AGENT_HANGUP, farewell=fallback.message or NOBODY_HERE)
            return
        asked: list[str] = []
        if fallback.strategy == "take_message":
            asked.append(fallback.take_message_prompt or TAKE_MESSAGE)
            await self._instruct("\n".join([told, *asked]))
        if fallback.message:
            await call.say(fallback.message)
            if not asked:
                return
        next_words = TOLD_ALREADY if fallback.message else "Tell the caller so in one sentence."
        call.watchdog.reply_due()
        call.session.generate_reply(instructions=" ".join([told, next_words, *asked]), tool_choice="none")

    async def tell_agent(self, what: str) -> None:
        """Let the agent know something for when it speaks again."""
        agent = self.call.phone_agent
        assert agent is not None
        known = agent.chat_ctx.copy()
        known.add_message(role="system", content=what)
        await agent.update_chat_ctx(known)

    async def _instruct(self, more: str) -> None:
        agent, tool = self.call.phone_agent, self.services.message_tool
        if agent is None:
            return
        if more not in str(agent.instructions):
            await agent.update_instructions(f"{agent.instructions}\n\n{more}")
        if tool is not None and tool.info.name not in {getattr(known, "info", tool.info).name for known in agent.tools}:
            await agent.update_tools([*agent.tools, tool])


NOBODY_HERE = "I'm sorry, nobody can take your call right now. Please call again later. Goodbye."
"""The farewell of a caller nobody took, where the fallback names none."""

TOLD_ALREADY = "The caller has been told so; do not say it again."

TAKE_MESSAGE = (
    "Take a message: ask for the caller's name, number and message, read them back, "
    "and use take_message if you have it."
)
