"""Asks OpenAI, or a server that speaks its chat completions, over plain HTTP: it needs no call and no plugin.

The address is the operator's, from the environment; nothing an agent's configuration says leads here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from agent_worker.domain.plain_json import read_json
from agent_worker.providers.structured import Answer, NoAnswer, Question, bad_status
from agent_worker.providers.vendor import ProviderLabel

OPENAI_URL = "https://api.openai.com/v1"
MOST_ANSWER_BYTES = 1_000_000
NO_SUCH_FORMAT = (400, 404, 415, 422)
"""How servers that know no JSON schemas answer to one."""


@dataclass(frozen=True)
class ChatCompletions:
    """A model behind `POST <url>/chat/completions`.

    Attributes:
        url: of a server of the operator's own, None for OpenAI's.
    """

    label: ProviderLabel
    key: str
    url: str | None = None

    async def ask(self, question: Question) -> Answer:
        """Ask with the schema enforced by the server; where it knows no schemas, with the schema in words.

        Raises:
            NoAnswer: see its codes below.
        """
        async with httpx.AsyncClient(timeout=None, follow_redirects=False) as client:  # the caller has the deadline
            status, body = await self._post(client, question, enforced=True)
            if status in NO_SUCH_FORMAT:
                status, body = await self._post(client, question, enforced=False)
        if status != 200:
            raise bad_status(status)
        return _read(body)

    async def _post(self, client: httpx.AsyncClient, question: Question, *, enforced: bool) -> tuple[int, bytes]:
        request = client.build_request(
            "POST",
            f"{self.url or OPENAI_URL}/chat/completions",
            headers={"authorization": f"Bearer {self.key}"},
            json=self._body(question, enforced=enforced),
        )
        try:
            response = await client.send(request, stream=True)
            try:
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MOST_ANSWER_BYTES:
                        raise NoAnswer("answer_too_large")
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise NoAnswer("unreachable", passing=True) from error
        return response.status_code, bytes(body)

    def _body(self, question: Question, *, enforced: bool) -> dict[str, Any]:
        instructions = question.instructions if enforced else in_words(question)
        # the older name is the one every compatible server knows
        limit = "max_completion_tokens" if self.url is None else "max_tokens"
        body: dict[str, Any] = {
            "model": self.label.model,
            "messages": [
                {"role": "system", "content": instructions},
                {"role": "user", "content": question.material},
            ],
            limit: question.most_tokens,
        }
        if enforced:
            schema = {"name": question.name, "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def in_words(question: Question) -> str:
    """Return the instructions with the schema in them, for a model that nothing else holds to it."""
    schema = json.dumps(question.schema, ensure_ascii=False)
    return f"{question.instructions}\n\nAnswer with one JSON object of this JSON schema and nothing else:\n{schema}"


def _read(body: bytes) -> Answer:
    try:
        said = read_json(body)
        choice = said["choices"][0]
        message = choice["message"]
        refusal, text = message.get("refusal"), message.get("content")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise NoAnswer("answer_unreadable") from error
    if refusal or choice.get("finish_reason") == "content_filter":
        raise NoAnswer("refused")
    if choice.get("finish_reason") == "length":
        raise NoAnswer("answer_cut_off")
    if not isinstance(text, str) or not text.strip():
        raise NoAnswer("answer_empty")
    usage = said.get("usage")
    used: Mapping[str, Any] = usage if isinstance(usage, Mapping) else {}
    return Answer(
        text,
        input_tokens=_count(used, "prompt_tokens"),
        cached_tokens=_count(used.get("prompt_tokens_details"), "cached_tokens"),
        output_tokens=_count(used, "completion_tokens"),
    )


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
