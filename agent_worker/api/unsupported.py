"""What clients of the contract may ask for and this deployment does not do: a clear 501 instead of a puzzling 404.

`NOT_AVAILABLE` is said of calling out, which a phone agent of one's own does, only not yet;
`NOT_SUPPORTED` of what a hosted platform sells, always with what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Depends

from agent_worker.api.auth import Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.shapes import ErrorBody, errors

Code = Literal["NOT_AVAILABLE", "NOT_SUPPORTED"]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

NUMBERS = "Numbers are not sold here: get one from a carrier and add it with POST /v1/phone-numbers/import."
BUSINESS = "There is no business verification here: your carrier verifies you, where its country demands it."
CREDITS = "There are no credits here: you pay your providers yourself. GET /v1/usage and each call's report have costs."
MESSAGES = "Text messages are not sent or taken here: use your carrier's own interface for them."
KNOWLEDGE = "There are no knowledge bases here: give the agent a tool of kind `webhook` that searches your documents."
SPEECH = "Providers are not resold here: ask your speech or language provider directly, with your own key."
BROWSER = "Browser sessions are not available in this version: POST /v1/calls/{id}/web-join joins a call that is live."
VERSIONS = (
    "Agents have no versions here: a change is in force from the next call on. Keep agents as files in a repository."
)
REHEARSAL = "There are no test calls between agents here: `python -m agent_worker console` talks to an agent."
OPERATORS = "People's phones in a browser are not controlled here: transfer the call to a person's number instead."
TURNS = "Transcripts are not written from outside: the worker that has the call writes its lines as they are spoken."
PROVIDERS = "`python -m agent_worker check` lists the providers that are configured, and GET /v1/voices their voices."
DIAL = "Calling out is not available in this version: callers can ring the agent, it cannot ring them."


@dataclass(frozen=True)
class Absent:
    """One address that is answered with 501.

    Attributes:
        name: what it would do, for the list of routes.
        sentence: why it does not, and what does.
    """

    methods: tuple[Method, ...]
    path: str
    name: str
    sentence: str
    tag: str = "not supported"
    code: Code = "NOT_SUPPORTED"
    scope: Scope = Scope.READ
    example: dict[str, Any] | None = None


_DIAL_BODY = {"to": "+12015551234", "agentId": "front-desk"}


def _later(path: str, name: str, sentence: str, tag: str, example: dict[str, Any]) -> Absent:
    return Absent(("POST",), path, name, sentence, tag, "NOT_AVAILABLE", Scope.OPERATE, example)


ABSENT = (
    _later("/sessions/phone", "dial", DIAL, "sessions", _DIAL_BODY),
    _later("/sessions", "create_session", BROWSER, "sessions", {"agentId": "front-desk"}),
    Absent(("POST",), "/sessions/{session_id}/turns", "write_turns", TURNS, example={"turns": []}),
    Absent(("GET",), "/sessions/{session_id}/sidebands/{provider}", "open_sideband", SPEECH),
    Absent(("POST",), "/phone-numbers", "buy_phone_number", NUMBERS, example={"e164": "+12015550199"}),
    Absent(("GET",), "/phone-numbers/available", "search_available_numbers", NUMBERS),
    Absent(("GET",), "/phone-numbers/kyb", "get_verification", BUSINESS),
    Absent(("PUT",), "/phone-numbers/kyb/draft", "draft_verification", BUSINESS, example={"legalName": "Example Ltd"}),
    Absent(("POST",), "/phone-numbers/kyb/submit", "submit_verification", BUSINESS, example={}),
    Absent(("GET",), "/credits/balance", "get_credit_balance", CREDITS),
    Absent(("GET",), "/credits/ledger", "list_credit_entries", CREDITS),
    Absent(("GET", "POST", "PUT", "PATCH", "DELETE"), "/sms/{rest:path}", "sms", MESSAGES, example={}),
    Absent(("GET", "POST"), "/knowledge-bases", "knowledge_bases", KNOWLEDGE, example={"name": "Prices"}),
    Absent(("GET", "POST", "PATCH", "DELETE"), "/knowledge-bases/{rest:path}", "knowledge_base", KNOWLEDGE, example={}),
    Absent(("POST",), "/transcribe", "transcribe", SPEECH),
    Absent(("POST",), "/synthesize", "synthesize", SPEECH, example={"text": "Good morning."}),
    Absent(("POST",), "/complete", "complete", SPEECH, example={"messages": []}),
    Absent(("GET", "POST"), "/realtime", "realtime", SPEECH, example={}),
    Absent(("GET", "POST"), "/realtime/{rest:path}", "realtime_call", SPEECH, example={}),
    Absent(("GET",), "/providers/known", "list_known_providers", PROVIDERS),
    Absent(("POST",), "/agents/{agent_id}/deploy", "deploy_agent", VERSIONS, example={}),
    Absent(("POST",), "/agents/{agent_id}/rollback", "roll_back_agent", VERSIONS, example={}),
    Absent(("GET",), "/agents/{agent_id}/versions", "list_agent_versions", VERSIONS),
    Absent(("POST",), "/agents/{agent_id}/test-call", "test_call", REHEARSAL, example={"objective": "Book a table."}),
    Absent(("GET", "POST", "PUT", "PATCH", "DELETE"), "/voice/{rest:path}", "voice", OPERATORS, example={}),
)


def unsupported_routes(_backend: Backend) -> APIRouter:
    """Return the routes; they stand before those of the same beginning, such as `/phone-numbers/{id}`."""
    router = APIRouter()
    for absent in ABSENT:
        for method in absent.methods:
            router.add_api_route(
                absent.path,
                _answer(absent),
                dependencies=[Depends(requires(absent.scope))],
                methods=[method],
                name=absent.name if len(absent.methods) == 1 else f"{method.lower()}_{absent.name}",
                description=f"Answers 501 `{absent.code}`. {absent.sentence}",
                tags=[absent.tag],
                status_code=501,
                response_model=ErrorBody,
                responses=errors(*((404,) if "{" in absent.path else ())) | {501: _said(absent)},
                openapi_extra=_parameters(absent) | _body(absent, method),
            )
    return router


def _answer(absent: Absent) -> Callable[[], Awaitable[ErrorBody]]:
    async def refuse() -> ErrorBody:
        raise ApiError(501, absent.code, absent.sentence, retryable=False)

    return refuse


def _said(absent: Absent) -> dict[str, Any]:
    example = {"error": absent.sentence, "code": absent.code, "retryable": False}
    return {
        "model": ErrorBody,
        "description": absent.code.replace("_", " ").capitalize(),
        "content": {"application/json": {"example": example}},
    }


def _parameters(absent: Absent) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)", absent.path)
    text = {"type": "string", "minLength": 1}
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": text} for name in names]}


def _body(absent: Absent, method: Method) -> dict[str, Any]:
    if absent.example is None or method in ("GET", "DELETE"):
        return {}
    content = {"application/json": {"schema": {"type": "object"}, "example": absent.example}}
    return {"requestBody": {"required": False, "content": content}}
