"""A live call: what its parts share, how it speaks, and the one way it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

from livekit import rtc
from livekit.agents import AgentSession

from agent_worker.call.idle import IdleLadder
from agent_worker.call.journal import Journal
from agent_worker.call.line import Line, LineClosed
from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.call.recording import Recording
from agent_worker.call.speech_cache import SpeechCache, bundled, chunks
from agent_worker.call.transcript import TranscriptWriter
from agent_worker.call.usage import added_up, usage
from agent_worker.call.watchdog import Provider, Watchdog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, DisconnectionReason
from agent_worker.domain.fact import DataCollected, UsageCounted, UsageLine
from agent_worker.domain.transfer import TransferPlan
from agent_worker.providers.registry import Stack

logger = logging.getLogger("agent_worker.call")

LINE_TAIL_SECONDS = 0.25
"""From the last frame sent to its being heard at the phone: Opus, the server, the bridge's mixer and jitter buffer."""

FAREWELL_SECONDS = 12.0
"""How long a goodbye may take before the line is cut all the same."""

MUTE_SECONDS = 2.0
"""How long a goodbye waits for a voice that does not come."""

_FAILURES: dict[Provider, DisconnectionReason] = {
    "stt": DisconnectionReason.STT_ERROR,
    "llm": DisconnectionReason.LLM_ERROR,
    "tts": DisconnectionReason.TTS_ERROR,
}


@dataclass(frozen=True)
class Ending:
    """Why a call is over.

    Attributes:
        ended_by: `operator` where neither the caller nor the agent ended it.
    """

    reason: DisconnectionReason
    failure_cause: str | None = None
    sip_status_code: int | None = None
    sip_status: str | None = None
    ended_by: str | None = None


class Transferring(Protocol):
    """What puts the caller through, as far as the call is concerned.

    Attributes:
        talking: whether the caller talks with a person right now.
    """

    talking: bool

    @property
    def on_its_way(self) -> bool:
        """Whether the caller is being put through, or talks with a person."""

    def begin(self, plan: TransferPlan) -> object:
        """Begin, and return.

        Raises:
            TransferRefused: it cannot begin.
        """

    async def ending_of(self, closed: LineClosed) -> Ending:
        """Return why the call is over, now that the caller's leg is down."""

    async def aclose(self) -> None:
        """Take down every leg but the caller's."""


class TransferRefused(Exception):
    """A transfer that cannot begin: `code` for machines, the text for people and for the model."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class LiveCall:
    """One call from the moment its agent is known; `toolbox.base.CallControl` is its face towards tools.

    Attributes:
        over: done with the reason as soon as the call is over, whoever ended it; the first reason stands.
        ended: set at the same moment, for those who only wait.
        other_usage: of conversations beside the caller's.
        taken_over: an operator speaks with the caller, and the agent says nothing.
    """

    offer: CallOffer
    plan: CallPlan
    line: Line
    journal: Journal
    stack: Stack
    speech: SpeechCache
    session: AgentSession[None]
    transcript: TranscriptWriter
    recording: Recording | None
    over: asyncio.Future[Ending]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    structured_data: dict[str, Any] = field(default_factory=dict)
    phone_agent: PhoneAgent | None = None
    transfers: Transferring | None = None
    other_usage: list[UsageLine] = field(default_factory=list)
    taken_over: bool = False
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _ending: bool = False
    _announcing: int = 0
    _kept_data: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(
            apologise=lambda provider: self.own(self._apologise(provider)),
            hold=lambda: self.own(self._hold()),
            give_up=lambda provider: self.own(self._give_up(provider)),
            waiting_for=lambda: self.phone_agent.reply_stage if self.phone_agent else "llm",
        )
        self.idle = IdleLadder(
            self.agent.idle_re_prompts,
            say=lambda text: self.announce(text, None),
            give_up=lambda text: self.end(DisconnectionReason.IDLE, farewell=text),
        )

    @property
    def call_id(self) -> str:
        """The call's id, a UUID."""
        return self.offer.call_id

    @property
    def agent(self) -> AgentConfig:
        """The agent's effective configuration."""
        return self.plan.agent

    @property
    def announcing(self) -> bool:
        """Whether what is being heard is a sentence of ours outside the conversation."""
        return self._announcing > 0

    @property
    def ending(self) -> bool:
        """Whether the end has begun: all that is still said is the goodbye."""
        return self._ending or self.over.done()

    @property
    def held_back(self) -> bool:
        """Whether the agent may not speak now."""
        return self.taken_over and not self.ending

    def own(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something beside the conversation; it is stopped with the call."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._disown)

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # its message may hold what was said
            logger.error("a part of the call failed", extra={"call_id": self.call_id, "error": type(error).__name__})

    async def stop_tasks(self) -> None:
        """Cancel what `own` started and wait for it."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    def record_event(self, event_type: str, **payload: Any) -> None:
        """Write a row into the call's event list."""
        self.journal.event(event_type, payload=payload)

    def transfer(self, plan: TransferPlan) -> str | None:
        """Begin to put the caller through; returns None, or why it cannot be done."""
        if self.transfers is None:
            self.record_event("transfer.unavailable", destination=plan.destinations[0].label, simulated=False)
            return "This line is not connected: nobody was called. Tell the caller so, and offer to take a message."
        try:
            self.transfers.begin(plan)
        except TransferRefused as refused:
            return f"{refused} Tell the caller."
        return None

    def count_usage(self) -> None:
        """Write down what the providers have done so far, so that a killed process costs no bill."""
        self.journal.write(UsageCounted, lines=added_up([*usage(self.session, self.stack), *self.other_usage]))

    def keep_data(self) -> None:
        """Write down what tools have collected, where that has changed."""
        if self.structured_data != self._kept_data:
            self._kept_data = deepcopy(self.structured_data)
            self.journal.write(DataCollected, structured_data=self._kept_data)

    def audio_of(self, text: str) -> rtc.AudioFrame | None:
        """Return the sentence from the cache, or None where it has to be synthesised."""
        return self.speech.find(self.agent, self.stack.own_voice_label, text)

    async def say(self, text: str) -> None:
        """Speak as part of the conversation and return when it was heard."""
        audio = self.audio_of(text)
        await self.session.say(text, audio=chunks(audio)) if audio else await self.session.say(text)

    async def announce(self, text: str, clip: str | None, *, interruptible: bool = True) -> None:
        """Speak outside the conversation: from rendered audio where there is any, else a clip that ships with us.

        Args:
            clip: name of the bundled clip to fall back to, or None to have it synthesised.
        """
        if self.ended.is_set() or self.held_back:
            return
        audio = self.audio_of(text) or (bundled(clip) if clip else None)
        self._announcing += 1
        try:
            handle = self.session.say(
                text,
                **({"audio": chunks(audio)} if audio else {}),
                allow_interruptions=interruptible,
                add_to_chat_ctx=False,
            )
            self.transcript.announcement(text)
            await handle
        except RuntimeError as error:
            # the session closes under us when the caller hangs up at this very moment
            logger.info("announcement dropped", extra={"error": str(error)})
        finally:
            self._announcing -= 1

    async def _silence_agent(self) -> None:
        """Stop whatever the agent says or is about to say."""
        with contextlib.suppress(RuntimeError):
            await self.session.interrupt(force=True)

    async def _apologise(self, provider: Provider) -> None:
        if self._ending:
            return
        self.record_event("agent.turn_failed", provider=provider)
        # one noise without words makes no recogniser deaf, two in a row do
        if provider != "stt" or self.watchdog.failed_turns > 1:
            self.stack.give_up(provider)
        await self._silence_agent()
        await self.announce(self.agent.fallbacks.apology, "apology")

    async def _hold(self) -> None:
        if not self._ending:
            await self.announce(self.agent.fallbacks.hold, "hold")

    async def _give_up(self, provider: Provider) -> None:
        if self._ending:
            return
        self.record_event("agent.gave_up", provider=provider)
        await self._silence_agent()
        await self.end(
            _FAILURES[provider],
            farewell=self.agent.fallbacks.goodbye,
            clip="goodbye",
            failure_cause=f"{provider}_failed",
        )

    async def end(
        self,
        reason: DisconnectionReason,
        *,
        farewell: str | None = None,
        clip: str | None = None,
        failure_cause: str | None = None,
    ) -> None:
        """Begin the end and return: what is being said is heard, then the farewell to its last syllable.

        It goes on beside its caller, because a tool that waited for it would be waited for.
        """
        if self._ending:
            return
        self._ending = True
        self.watchdog.stop()
        self.own(self._say_goodbye(Ending(reason, failure_cause, 200, "OK"), farewell, clip))

    async def _say_goodbye(self, ending: Ending, farewell: str | None, clip: str | None) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_SECONDS):
                    await self._heard_out()
                    if farewell:
                        await self._say_farewell(farewell, clip)
                    await self._heard_out()
                    await asyncio.sleep(LINE_TAIL_SECONDS)
        finally:
            self.finish(ending)

    async def _say_farewell(self, farewell: str, clip: str | None) -> None:
        """Say it, and where the voice does not come, say a goodbye that needs none."""
        saying = asyncio.create_task(self.announce(farewell, clip, interruptible=False))
        await asyncio.wait({saying}, timeout=MUTE_SECONDS)
        if not saying.done() and not self.line.playout.speaking:
            await self._silence_agent()
            await self.announce(self.agent.fallbacks.goodbye, "goodbye", interruptible=False)
        await saying

    async def _heard_out(self) -> None:
        """Wait until all that is to be said has been heard; what does not begin to be heard in time is dropped."""
        loop = asyncio.get_running_loop()
        last_sound = loop.time()
        while ((speech := self.session.current_speech) and not speech.done()) or self.line.playout.speaking:
            if self.line.playout.speaking:
                last_sound = loop.time()
            elif loop.time() - last_sound > MUTE_SECONDS:
                await self._silence_agent()
                return
            await asyncio.sleep(0.02)

    def finish(self, ending: Ending) -> None:
        """The call is over, for this reason unless there already is one."""
        if not self.over.done():
            self.over.set_result(ending)
        self.ended.set()
