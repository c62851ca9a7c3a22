"""A language model that is none: replies and tool calls by rules, streamed the way a model streams them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, NotGivenOr, llm, utils

from agent_worker.providers.embedded.rules import Reply, RuleBook

PROVIDER = "scripted"
_TOKENS = re.compile(r"\S+\s*")


class ScriptedLLM(llm.LLM[Any]):
    """Answers by a rule book; the same words get the same answer."""

    def __init__(self, rules: RuleBook, *, model: str) -> None:
        super().__init__()
        self._rules = rules
        self._model = model

    @property
    def model(self) -> str:
        """Name of the rule book."""
        return self._model

    @property
    def provider(self) -> str:
        """Says what it is."""
        return PROVIDER

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        """Answer the last thing in the context; tools are used unless `tool_choice` is "none"."""
        offered = [] if tool_choice == "none" else list(tools or [])
        return _ScriptedStream(self, self._rules, chat_ctx=chat_ctx, tools=offered, conn_options=conn_options)


class _ScriptedStream(llm.LLMStream):
    def __init__(
        self,
        model: ScriptedLLM,
        rules: RuleBook,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(model, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)
        self._rules = rules

    async def _run(self) -> None:
        reply = decide(self._rules, self._chat_ctx, tool_names(self._tools))
        request_id = utils.shortuuid("scripted_")
        tokens = _TOKENS.findall(reply.text)
        for token in tokens:
            self._event_ch.send_nowait(
                llm.ChatChunk(id=request_id, delta=llm.ChoiceDelta(role="assistant", content=token))
            )
        if reply.tool is not None:
            call = llm.FunctionToolCall(
                name=reply.tool, arguments=json.dumps(dict(reply.arguments)), call_id=utils.shortuuid("call_")
            )
            self._event_ch.send_nowait(
                llm.ChatChunk(id=request_id, delta=llm.ChoiceDelta(role="assistant", tool_calls=[call]))
            )
        read = sum(len((item.text_content or "").split()) for item in self._chat_ctx.messages())
        usage = llm.CompletionUsage(completion_tokens=len(tokens), prompt_tokens=read, total_tokens=read + len(tokens))
        self._event_ch.send_nowait(llm.ChatChunk(id=request_id, usage=usage))


def decide(rules: RuleBook, chat_ctx: llm.ChatContext, tools: frozenset[str]) -> Reply:
    """Return the answer to the last item of the conversation: a tool's result, or the caller's words."""
    words: list[str] = []
    for item in reversed(chat_ctx.items):
        if item.type == "function_call_output" and not words:
            return rules.answer_result(item.name, item.output)
        if item.type == "message" and item.role == "user":
            words.insert(0, item.text_content or "")  # a turn in pieces is several messages
        elif item.type == "message" and item.role == "assistant":
            break
    return rules.answer_words(" ".join(words), tools)


def tool_names(tools: Iterable[llm.Tool]) -> frozenset[str]:
    """Return the names of the function tools among these."""
    names = set()
    for tool in tools:
        if isinstance(tool, (llm.FunctionTool, llm.RawFunctionTool)):
            names.add(tool.info.name)
    return frozenset(names)
