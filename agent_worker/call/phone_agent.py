"""The agent as the session runs it: instructions and tools, and a note of how far the reply in the making has come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from livekit.agents import Agent, ModelSettings, llm

from agent_worker.call.watchdog import Provider


class PhoneAgent(Agent):
    """One agent on one call.

    Attributes:
        reply_stage: the provider the reply in the making waits for: `llm` until its first token, then `tts`.
    """

    def __init__(self, *, instructions: str, tools: list[llm.Tool | llm.Toolset]) -> None:
        super().__init__(instructions=instructions, tools=tools)
        self.reply_stage: Provider = "llm"

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterator[Any]:
        """Ask the model; the first chunk that says or does something moves the stage on."""
        self.reply_stage = "llm"
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            if self.reply_stage == "llm" and _says_something(chunk):
                self.reply_stage = "tts"
            yield chunk


def _says_something(chunk: object) -> bool:
    delta = getattr(chunk, "delta", None)
    return isinstance(chunk, str) or bool(delta and (delta.content or delta.tool_calls))
