"""Asks a model that only a LiveKit plugin speaks to: the schema is in the instructions, and the answer is checked.

The plugin, and LiveKit with it, is loaded when the first question is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_worker.errors import ProviderError
from agent_worker.providers.chat_completions import MOST_ANSWER_BYTES, in_words
from agent_worker.providers.structured import Answer, NoAnswer, Question, bad_status
from agent_worker.providers.vendor import ProviderLabel

if TYPE_CHECKING:
    from livekit.agents import llm


@dataclass(frozen=True)
class PluginModel:
    """A model behind a plugin.

    Attributes:
        make: builds the plugin's client, as for a call.
    """

    label: ProviderLabel
    make: Callable[[], llm.LLM[Any]]

    async def ask(self, question: Question) -> Answer:
        """Ask once.

        Raises:
            NoAnswer: the plugin cannot be built, or its provider failed.
        """
        from livekit.agents import APIConnectOptions, APIError, llm
        from livekit.agents.utils import http_context

        context = llm.ChatContext.empty()
        context.add_message(role="system", content=in_words(question))
        context.add_message(role="user", content=question.material)
        once = APIConnectOptions(max_retry=0, timeout=3_600)  # who asks has the deadline
        text: list[str] = []
        size, usage = 0, None
        try:
            async with (
                http_context.open(),
                self.make() as model,
                model.chat(chat_ctx=context, conn_options=once) as stream,
            ):
                async for chunk in stream:
                    usage = chunk.usage or usage
                    if chunk.delta is not None and chunk.delta.content:
                        text.append(chunk.delta.content)
                        size += len(chunk.delta.content)
                        if size > MOST_ANSWER_BYTES:
                            raise NoAnswer("answer_too_large")
        except ProviderError as error:
            raise NoAnswer(error.code, passing=True) from error
        except APIError as error:
            status = getattr(error, "status_code", -1)
            raise (bad_status(status) if status > 0 else NoAnswer("unreachable", passing=True)) from error
        if usage is None:
            return Answer("".join(text))
        return Answer("".join(text), usage.prompt_tokens, usage.prompt_cached_tokens, usage.completion_tokens)
