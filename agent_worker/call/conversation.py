"""The conversation: connects what the session says to those who watch over it."""

from __future__ import annotations

import asyncio
import logging

from livekit.agents import (
    AgentSession,
    AgentStateChangedEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    FunctionToolsExecutedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.llm import ChatMessage
from livekit.agents.voice.events import ToolExecutionUpdatedEvent, UserTranscriptionTimeoutEvent

from agent_worker.call.limits import limit_duration
from agent_worker.call.live_call import Ending, LiveCall
from agent_worker.call.takeover import Takeover
from agent_worker.call.watchdog import Provider
from agent_worker.domain.call import DisconnectionReason
from agent_worker.providers.failover import Failover

logger = logging.getLogger("agent_worker.call")

NOISE_SECONDS = 0.5
"""Shorter sounds without words are noise, not a caller nobody understood."""

STALL_SECONDS = 2.0
"""How long a sentence may stand still before the rest of it is given up."""

_ERROR_KINDS: dict[str, Provider] = {"llm_error": "llm", "tts_error": "tts", "stt_error": "stt"}


async def converse(call: LiveCall) -> Ending:
    """Hold the conversation until somebody or something ends it; returns why."""
    call.own(call.idle.run())
    call.own(_limit(call))
    call.own(_follow_line(call))
    call.own(_watch_voice(call))
    call.own(Takeover(call).run())
    return await asyncio.shield(call.over)


def attach(call: LiveCall) -> None:
    """Connect the session's events; before it starts, so that none is missed."""
    session: AgentSession[None] = call.session
    call.idle.busy("greeting", True)
    call.transcript.attach(session)
    _Events(call).attach(session)


async def _limit(call: LiveCall) -> None:
    async def say_goodbye() -> None:
        await call.end(DisconnectionReason.MAX_DURATION, farewell=call.agent.fallbacks.max_duration)
        await call.ended.wait()

    await limit_duration(
        call.agent.max_duration_seconds,
        say_goodbye=say_goodbye,
        cut=lambda: call.finish(Ending(DisconnectionReason.MAX_DURATION, "max_duration", 200, "OK")),
    )


async def _follow_line(call: LiveCall) -> None:
    closed = await asyncio.shield(call.line.closed)
    if call.transfers is not None:
        call.finish(await call.transfers.ending_of(closed))
    call.finish(Ending(closed.reason, closed.failure_cause, closed.sip_status_code, closed.sip_status))


async def _watch_voice(call: LiveCall) -> None:
    """Fail the turn of a voice that begins a sentence and does not go on."""
    while True:
        await asyncio.sleep(STALL_SECONDS / 4)
        if call.line.playout.stalled_seconds > STALL_SECONDS:
            call.watchdog.failed("tts")


class _Events:
    """The session's events, each handed to who needs it."""

    def __init__(self, call: LiveCall) -> None:
        self._call = call
        self._first_audio = False
        self._failing: set[str] = set()
        self._unheard_seconds = 0.0

    def attach(self, session: AgentSession[None]) -> None:
        session.on("agent_state_changed", self._agent_state)
        session.on("user_state_changed", self._user_state)
        session.on("user_input_transcribed", self._transcribed)
        session.on("user_transcription_timeout", self._not_transcribed)
        session.on("conversation_item_added", self._item)
        session.on("tool_execution_updated", self._tool)
        session.on("function_tools_executed", self._tools_done)
        session.on("error", self._error)
        session.on("close", self._closed)
        self._call.line.playout.on("playback_started", self._playback)
        self._call.stack.watch(self._failover)

    def _playback(self, _event: object) -> None:
        if not self._first_audio:
            self._first_audio = True
            self._call.record_event("worker.first_agent_audio")
        if not self._call.announcing:
            self._call.watchdog.reply_heard()
            self._call.transcript.speaking()

    def _agent_state(self, event: AgentStateChangedEvent) -> None:
        idle = self._call.idle
        idle.busy("agent", event.new_state in ("speaking", "thinking"))
        if event.new_state == "speaking":
            idle.busy("greeting", False)

    def _user_state(self, event: UserStateChangedEvent) -> None:
        speaking = event.new_state == "speaking"
        self._call.idle.busy("caller", speaking)
        self._call.watchdog.caller_speaking(speaking)

    def _transcribed(self, event: UserInputTranscribedEvent) -> None:
        if event.transcript.strip():
            self._unheard_seconds = 0.0
            self._call.idle.words()
            self._call.watchdog.recognised()

    def _not_transcribed(self, event: UserTranscriptionTimeoutEvent) -> None:
        # the session adds up all speech of a turn that never came to words: what is new is the last stretch
        same_turn = event.speech_duration >= self._unheard_seconds
        stretch = event.speech_duration - (self._unheard_seconds if same_turn else 0.0)
        self._unheard_seconds = event.speech_duration
        call = self._call
        if stretch >= NOISE_SECONDS and not (call.watchdog.reply_owed or call.line.playout.speaking):
            call.watchdog.unheard()

    def _item(self, event: ConversationItemAddedEvent) -> None:
        if not isinstance(event.item, ChatMessage):
            return
        if event.item.role == "user":
            self._call.watchdog.reply_due()
        else:
            self._call.count_usage()

    def _tool(self, event: ToolExecutionUpdatedEvent) -> None:
        update = event.update
        if update.type == "tool_call_started":
            self._call.idle.busy(update.function_call.call_id, True)
            self._call.watchdog.tool_started()
        elif update.type == "tool_call_ended":
            self._call.idle.busy(update.call_id, False)
            self._call.keep_data()
            self._call.watchdog.tool_ended()

    def _tools_done(self, event: FunctionToolsExecutedEvent) -> None:
        if not any(output.reply_required for output in event.function_call_outputs):
            self._call.watchdog.reply_dropped()

    def _error(self, event: ErrorEvent) -> None:
        error = event.error
        provider = _ERROR_KINDS.get(getattr(error, "type", ""))
        if provider is None or getattr(error, "recoverable", True):
            return
        cause = type(getattr(error, "error", error)).__name__
        logger.warning("provider failed", extra={"provider": provider, "error": cause})
        if provider not in self._failing:
            self._failing.add(provider)
            self._call.record_event("provider.failed", provider=provider, error=cause)
        # a recogniser fails the turn only when the caller says something it misses, and a reply that was begun
        # before the turn was complete is begun again when it is
        if provider != "stt" and self._call.watchdog.reply_owed:
            self._call.watchdog.failed(provider)

    def _failover(self, change: Failover) -> None:
        self._call.record_event(
            "provider.recovered" if change.usable else "provider.failover",
            provider=change.layer,
            changed=str(change.changed),
            serving=str(change.serving),
        )

    def _closed(self, event: CloseEvent) -> None:
        if not self._call.over.done():
            logger.error("session closed by itself", extra={"reason": str(event.reason)})
            self._call.finish(Ending(DisconnectionReason.ERROR, "worker_error"))
