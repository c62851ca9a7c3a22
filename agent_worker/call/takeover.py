"""Somebody in a browser takes over: while their microphone is open they speak with the caller and the agent is silent.

The caller's phone mixes all voices of the room, so nothing is relayed here. What the two say is recognised beside the
session, so that the agent knows it when it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

from livekit.agents import SpeechCreatedEvent
from livekit.agents.llm import ChatRole

from agent_worker.call.line import Audible
from agent_worker.call.live_call import LiveCall
from agent_worker.call.operators import Change, Operator
from agent_worker.call.transfer.listener import Listener, stop
from agent_worker.domain.fact import TranscriptSource

TAKEN_OVER = "operator"

BACK_SECONDS = 1.5
"""How long a microphone is closed before the agent speaks again: an operator who coughs is not talked over."""

UNFINISHED_SECONDS = 4.0
"""How much longer the agent waits for a caller who is in the middle of a sentence."""

LAST_WORDS_SECONDS = 0.5
"""How long words of the caller's from just before may take to be recognised."""

LOOK_SECONDS = 0.1

PERSON_SPEAKS = "From here on a person spoke with the caller in your place. What they said stands under your name."
PERSON_GONE = "That person has left the conversation. You speak with the caller again, and nobody else does."
GO_ON = (
    "Go on with the conversation in one short sentence. Answer what the caller asked last, if that is still open; "
    "otherwise say that you are back and ask what else you can do. Do not repeat what was said."
)
NOT_HEARD = "Nobody wrote down what was said meanwhile. Say that you are back, and ask how you can go on."


class Takeover:
    """Follows the operators of one call."""

    def __init__(self, call: LiveCall) -> None:
        self._call = call
        self._operators = call.line.operators
        self._changed = asyncio.Event()
        self._said: list[tuple[ChatRole, str]] = []
        self._listeners: dict[str, tuple[Listener, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Follow them until cancelled, which ends what is going on."""
        self._call.session.on("speech_created", self._hold_back)
        self._operators.watch(self._note)
        try:
            while True:
                await self._until(self._wanted)
                self._silence_agent()
                await self._over()
                await self._go_on()
        finally:
            self._call.session.off("speech_created", self._hold_back)
            await self._stop_listening()

    def _wanted(self) -> bool:
        return self._operators.speaking and not self._call.ending and not self._transferring

    @property
    def _transferring(self) -> bool:
        return self._call.transfers is not None and self._call.transfers.on_its_way

    def _note(self, operator: Operator, change: Change) -> None:
        call = self._call
        call.record_event(f"operator.{change}", identity=operator.identity)
        if change == "joined" and call.recording is not None:
            operator.tap_voice(partial(call.recording.hear_beside, operator.identity))
        if change == "muted" and operator.identity in self._listeners:
            self._listeners[operator.identity][0].flush()
        self._changed.set()

    def _silence_agent(self) -> None:
        """Stop the agent at once; what the caller was saying is still taken as theirs."""
        call = self._call
        call.taken_over = True
        call.idle.busy(TAKEN_OVER, True)
        call.watchdog.pause()
        call.session.input.set_audio_enabled(False)
        with contextlib.suppress(RuntimeError):  # the session closes under us
            call.session.interrupt(force=True)
            call.session.commit_user_turn(transcript_timeout=LAST_WORDS_SECONDS, skip_reply=True)
        call.record_event("agent.silenced")

    def _hold_back(self, event: SpeechCreatedEvent) -> None:
        """Drop whatever the session would say now, whoever asked for it."""
        if self._call.held_back:
            event.speech_handle.interrupt(force=True)

    async def _over(self) -> None:
        """Wait until no microphone has been open for a moment, or the caller is put through."""
        call, loop = self._call, asyncio.get_running_loop()
        self._listen("", call.line, "user", {"speaker": "caller"})
        closed_at: float | None = None
        while not (self._transferring or call.ending):
            for operator in self._operators.here:
                if operator.speaking:
                    about = {"speaker": "operator", "identity": operator.identity}
                    self._listen(operator.identity, operator, "agent", about)
            if self._operators.speaking:
                closed_at = None
            else:
                closed_at = closed_at or loop.time()
                more = UNFINISHED_SECONDS if self._listeners[""][0].mid_sentence else 0.0
                if loop.time() - closed_at >= BACK_SECONDS + more:
                    return
            await asyncio.sleep(LOOK_SECONDS)

    async def _go_on(self) -> None:
        """Have the agent speak with the caller again, knowing what was said; unless somebody else has the caller."""
        call = self._call
        to_agent = not (self._transferring or call.ending)
        if to_agent:
            # before the last words are known: what is said from here on is said to the agent
            with contextlib.suppress(RuntimeError):  # the session closes under us
                call.session.clear_user_turn()
                call.session.input.set_audio_enabled(True)
        await self._stop_listening()
        call.taken_over = False
        call.watchdog.resume()
        call.idle.busy(TAKEN_OVER, False)
        with contextlib.suppress(RuntimeError):  # the session closes under us
            instructions = GO_ON if self._said else NOT_HEARD
            await self._tell_agent()
            if not to_agent or call.ending or self._transferring:
                return
            call.record_event("agent.resumed")
            call.watchdog.reply_due()
            call.session.generate_reply(instructions=instructions, tool_choice="none")

    async def _tell_agent(self) -> None:
        """Put what was said into what the agent knows, and into what a person it asks is told."""
        call = self._call
        agent = call.phone_agent
        assert agent is not None
        known = agent.chat_ctx.copy()
        known.add_message(role="system", content=PERSON_SPEAKS)
        for role, text in self._said:
            known.add_message(role=role, content=text)
            call.session.history.add_message(role=role, content=text)
        known.add_message(role="system", content=PERSON_GONE)
        self._said.clear()
        await agent.update_chat_ctx(known)

    def _listen(self, name: str, voice: Audible, source: TranscriptSource, about: dict[str, Any]) -> None:
        """Have somebody's words written down, unless they are already."""
        if name in self._listeners:
            return
        role: ChatRole = "user" if source == "user" else "assistant"
        call = self._call
        listener = Listener(
            voice, call.stack.stt, call.transcript, source, about, lambda text: self._said.append((role, text))
        )
        self._listeners[name] = listener, asyncio.create_task(listener.run(), name="listener")

    async def _stop_listening(self) -> None:
        """Listen no more, once the last words are known."""
        if not self._listeners:
            return
        for listener, _ in self._listeners.values():
            listener.finish()
        tasks = [task for _, task in self._listeners.values()]
        self._listeners.clear()
        await asyncio.wait(tasks, timeout=LAST_WORDS_SECONDS)
        await stop(tasks)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            # the end of a transfer is told by nobody
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if self._operators.speaking else None):
                    await self._changed.wait()
