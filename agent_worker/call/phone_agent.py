"""The agent as the session runs it: its instructions and tools, who serves it, how it words what it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import Agent, ModelSettings, llm, stt

from agent_worker.call.failover import (
    FIRST_SOUND_SECONDS,
    FIRST_TOKEN_SECONDS,
    ReplyText,
    in_time,
    unless_given_up,
)
from agent_worker.call.speech_normalization import changes_speech, spoken_pieces
from agent_worker.call.watchdog import Provider
from agent_worker.domain.speech import SpeechNormalization
from agent_worker.providers.stack import Stack

AS_WRITTEN = SpeechNormalization()


class PhoneAgent(Agent):
    """One agent on one call.

    Args:
        stack: who serves the call; without it nobody takes over from whom the session has.
        wording: what is said instead of what is written; the transcript keeps what is written.

    Attributes:
        reply_stage: the provider the reply in the making waits for: `llm` until its first token, then `tts`.
    """

    def __init__(
        self,
        *,
        instructions: str,
        tools: list[llm.Tool | llm.Toolset],
        stack: Stack | None = None,
        wording: SpeechNormalization = AS_WRITTEN,
    ) -> None:
        super().__init__(instructions=instructions, tools=tools)
        self.reply_stage: Provider = "llm"
        self._stack = stack
        self._wording = wording

    def stt_node(self, audio: AsyncIterable[rtc.AudioFrame], model_settings: ModelSettings) -> AsyncIterable[Any]:
        """Listen; to the next recogniser once this one is given up."""
        events: AsyncGenerator[stt.SpeechEvent, None] = Agent.default.stt_node(self, audio, model_settings)
        if self._stack is None or not self._stack.recognisers.fails_over:
            return events
        return unless_given_up(events, self._stack.recognisers)

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterator[Any]:
        """Ask the model; the first chunk that says or does something moves the stage on."""
        self.reply_stage = "llm"

        def ask() -> AsyncGenerator[Any, None]:
            return Agent.default.llm_node(self, chat_ctx, tools, model_settings)

        models = self._stack.models if self._stack is not None else None
        chunks = in_time(ask, models, FIRST_TOKEN_SECONDS) if models is not None and models.fails_over else ask()
        async for chunk in chunks:
            if self.reply_stage == "llm" and _says_something(chunk):
                self.reply_stage = "tts"
            yield chunk

    def tts_node(self, text: AsyncIterable[str], model_settings: ModelSettings) -> AsyncIterable[rtc.AudioFrame]:
        """Speak, in the agent's words; with the next voice where this one stays silent."""
        words = spoken_pieces(self._wording, text) if changes_speech(self._wording) else text
        if self._stack is None or not self._stack.voices.fails_over:
            return Agent.default.tts_node(self, words, model_settings)
        return self._speak(self._stack, words, model_settings)

    async def _speak(
        self, stack: Stack, words: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncIterator[rtc.AudioFrame]:
        reply = ReplyText(words)

        def speak() -> AsyncGenerator[rtc.AudioFrame, None]:
            return Agent.default.tts_node(self, reply.from_start(), model_settings)

        try:
            async for frame in in_time(speak, stack.voices, FIRST_SOUND_SECONDS, reply.speakable):
                yield frame
        finally:
            await reply.aclose()


def _says_something(chunk: object) -> bool:
    delta = getattr(chunk, "delta", None)
    return isinstance(chunk, str) or bool(delta and (delta.content or delta.tool_calls))
