"""A stand-in for OpenAI's chat completions: streamed tokens and tool calls, chosen by rules, and structured output."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from agent_worker.testing.stand_ins.server import StandIn
from agent_worker.testing.stand_ins.sightings import Sightings


@dataclass(frozen=True)
class Rule:
    """When the caller's last words match `says`, answer with `reply`, or call `tool`.

    With `after_tool` the rule holds only when the last message is a result of that tool ("*": of any), and
    `says` is matched against the result.
    """

    says: str
    reply: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    after_tool: str = ""


class OpenAIStandIn(StandIn):
    """`POST /v1/chat/completions` and `GET /v1/models`.

    First token `delay_ms` after the request, then one word every `token_ms`. The first rule that fits
    answers; without one, `default_reply`. A request for structured output is answered by `form`.

    Attributes:
        form: what is answered to a schema: an object, text as it is, or None to refuse; by default a form of the
            schema with the least in it.
        statuses: answered first, one to each request, before any answer that is one.
        knows_schemas: False for a server that answers 400 to `response_format`.
    """

    service = "openai"

    def __init__(
        self,
        sightings: Sightings | None = None,
        *,
        rules: Sequence[Rule] = (),
        delay_ms: float = 350,
        token_ms: float = 10,
        default_reply: str = "I see. What else can I do for you?",
    ) -> None:
        super().__init__(sightings, delay_ms=delay_ms)
        self.rules: list[Rule] = list(rules)
        self.token_ms = token_ms
        self.default_reply = default_reply
        self.requests: list[dict[str, Any]] = []
        """Bodies of the requests, in order."""
        self._number = 0
        self.form: Callable[[Mapping[str, Any]], Mapping[str, Any] | str | None] = least_form
        self.statuses: list[int] = []
        self.knows_schemas = True

    @property
    def base_url(self) -> str:
        """What a plugin is given as base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def routes(self) -> list[web.RouteDef]:
        """Return what it serves."""
        return [
            web.post("/v1/chat/completions", self._complete),
            web.get("/v1/models", self._models),
        ]

    def choose(self, messages: Sequence[Mapping[str, Any]]) -> Rule:
        """Return the rule that answers a conversation."""
        said = next((_text(m) for m in reversed(messages) if m.get("role") == "user"), "")
        last = messages[-1] if messages else {}
        tool = _tool_name(messages) if last.get("role") == "tool" else ""
        for rule in self.rules:
            if bool(rule.after_tool) != bool(tool):
                continue
            if tool and rule.after_tool not in ("*", tool):
                continue
            if re.search(rule.says, _text(last) if tool else said, re.IGNORECASE):
                return rule
        return Rule("", reply="Done." if tool else self.default_reply)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "stand-in", "object": "model"}]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        received = time.monotonic()
        body = await request.json()
        self._number += 1
        connection = f"request-{self._number}"
        self.requests.append(body)
        messages = body.get("messages", [])
        said = next((_text(m) for m in reversed(messages) if m.get("role") == "user"), "")
        self.sightings.note(self.service, "request", connection, said, at=received)
        if self.statuses:
            return web.json_response({"error": {"message": "as told", "type": "error"}}, status=self.statuses.pop(0))
        if "response_format" in body and not self.knows_schemas:
            return web.json_response({"error": {"message": "unknown key: response_format"}}, status=400)
        if "response_format" in body:
            await asyncio.sleep(self.delay_ms / 1000)
            return web.json_response(self._filled_in(connection, body))
        rule = self.choose(messages)
        tokens = re.findall(r"\s*\S+", rule.reply)
        usage = _usage(messages, tokens)
        if not body.get("stream"):
            await asyncio.sleep(self.delay_ms / 1000)
            return web.json_response(_whole(connection, body, rule, usage))
        try:
            return await self._stream(request, connection, body, rule, tokens, usage, received)
        except ConnectionResetError:
            self.sightings.note(self.service, "cancelled", connection, said)
            raise

    def _filled_in(self, connection: str, body: Mapping[str, Any]) -> dict[str, Any]:
        form = self.form(body["response_format"]["json_schema"]["schema"])
        text = form if isinstance(form, str) else json.dumps(form)
        said = _whole(connection, body, Rule("", reply=text), _usage(body["messages"], text.split()))
        if form is None:
            said["choices"][0]["message"] |= {"content": None, "refusal": "I cannot help with that."}
        return said

    async def _stream(
        self,
        request: web.Request,
        connection: str,
        body: Mapping[str, Any],
        rule: Rule,
        tokens: list[str],
        usage: dict[str, int],
        received: float,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        deltas: list[dict[str, Any]] = [{"content": token} for token in tokens]
        if rule.tool:
            deltas = [{"tool_calls": [_tool_call(connection, rule, index=0)]}]
        due = received + self.delay_ms / 1000
        for number, delta in enumerate(deltas):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += self.token_ms / 1000
            if number == 0:
                delta = {"role": "assistant", **delta}
            await _event(response, connection, body, [{"index": 0, "delta": delta, "finish_reason": None}])
            if number == 0:
                self.sightings.note(self.service, "first_token", connection, rule.reply or rule.tool)
            if number == 1 or len(deltas) == 1:
                await self._midstream(request)
        reason = "tool_calls" if rule.tool else "stop"
        await _event(response, connection, body, [{"index": 0, "delta": {}, "finish_reason": reason}])
        await _event(response, connection, body, [], usage=usage)
        await response.write(b"data: [DONE]\n\n")
        self.sightings.note(self.service, "done", connection, rule.reply or rule.tool)
        return response

    async def _midstream(self, request: web.Request) -> None:
        if self.fault == "hang_midstream":
            await self.until_healed()
        elif self.fault != "close_midstream":
            return
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("closed in the middle of an answer")


def least_form(schema: Mapping[str, Any]) -> Any:
    """Return a value of this JSON schema: null where it may be, the first choice, no items, a few words."""
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if "null" in kinds:
        return None
    if "enum" in schema:
        return schema["enum"][0]
    if kinds[0] == "object":
        return {key: least_form(inner) for key, inner in schema["properties"].items()}
    return {"array": [], "boolean": False, "integer": 1, "number": 1.5, "string": "As told."}[kinds[0]]


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _tool_name(messages: Sequence[Mapping[str, Any]]) -> str:
    wanted = messages[-1].get("tool_call_id")
    for message in reversed(messages):
        for call in message.get("tool_calls") or []:
            if call.get("id") == wanted:
                return str(call["function"]["name"])
    return "*"


def _tool_call(connection: str, rule: Rule, *, index: int) -> dict[str, Any]:
    function = {"name": rule.tool, "arguments": json.dumps(dict(rule.arguments))}
    return {"index": index, "id": f"call_{connection}", "type": "function", "function": function}


def _usage(messages: Sequence[Mapping[str, Any]], tokens: list[str]) -> dict[str, int]:
    prompt = sum(len(_text(message).split()) + 4 for message in messages)
    completion = max(1, len(tokens))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole(connection: str, body: Mapping[str, Any], rule: Rule, usage: dict[str, int]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": rule.reply or None}
    if rule.tool:
        message["tool_calls"] = [_tool_call(connection, rule, index=0)]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if rule.tool else "stop"}
    return {
        "id": connection,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "stand-in"),
        "choices": [choice],
        "usage": usage,
    }


async def _event(
    response: web.StreamResponse,
    connection: str,
    body: Mapping[str, Any],
    choices: list[dict[str, Any]],
    *,
    usage: dict[str, int] | None = None,
) -> None:
    chunk: dict[str, Any] = {
        "id": connection,
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body.get("model", "stand-in"),
        "choices": choices,
    }
    if usage is not None:
        chunk["usage"] = usage
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
