"""`/v1/sessions`: calls under their other name, in camelCase: lists, one of them, and its transcript (contract 1.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, ConfigDict, Field

from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.call_query import CallQuery, ListRoute, Time
from agent_worker.api.call_shapes import RecordingStatus
from agent_worker.api.known_calls import CallId, Reader, the_call
from agent_worker.api.known_numbers import all_numbers
from agent_worker.api.report_shapes import CALL_ID
from agent_worker.api.shapes import CamelShape, Moment, errors
from agent_worker.control.cost import cost_of
from agent_worker.store.call_lists import Filters, by_id, page
from agent_worker.store.columns import wire_time
from agent_worker.store.queries import call_metadata, call_usage, transcript

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

Record = dict[str, Any]

ONLY_KIND = "cascade"
"""What `kind` every call here has."""

_SESSION: Record = {
    "id": CALL_ID,
    "organizationId": "org_local",
    "agentId": "front-desk",
    "status": "ended",
    "kind": ONLY_KIND,
    "roomName": f"call-{CALL_ID}",
    "language": "en",
    "direction": "inbound",
    "pipelineConfig": {"agentId": "front-desk", "kind": ONLY_KIND},
    "metadata": {"direction": "inbound", "from": "+12015550101", "to": "+12015550199"},
    "createdAt": "2026-03-02T09:30:00.000000Z",
    "updatedAt": "2026-03-02T09:31:05.000000Z",
    "answeredAt": "2026-03-02T09:30:02.000000Z",
    "endedAt": "2026-03-02T09:31:05.000000Z",
    "durationSeconds": 63,
    "recordingStatus": "ready",
    "failureCause": None,
}
_TURN: Record = {
    "id": f"{CALL_ID}:2",
    "index": 2,
    "source": "agent",
    "text": "Somebody will call you tomorrow at three.",
    "startedAt": "2026-03-02T09:30:16.000000Z",
    "endedAt": "2026-03-02T09:30:19.000000Z",
    "provider": "openai",
    "model": "gpt-4.1-mini",
    "eouMs": None,
    "llmTtftMs": 350.0,
    "ttsTtfbMs": 150.0,
    "latencyStatus": "complete",
    "conversationalLatencyMs": 1100.0,
    "toolCalls": [{"name": "schedule_callback", "args": '{"when": "tomorrow at three"}'}],
}
_LINE: Record = {
    "provider": "deepgram",
    "model": "nova-3",
    "metric": "stt_seconds",
    "quantity": 65.8,
    "cost": 0.004717,
    "keySource": "BYOK",
}


class SessionEntry(CamelShape):
    """A session in a list."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SESSION]})

    id: str
    organization_id: str
    agent_id: str | None
    status: Literal["dialing", "connecting", "active", "ended", "failed"]
    kind: str
    room_name: str | None
    language: str
    direction: Literal["inbound", "outbound"]
    pipeline_config: dict[str, Any]
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    answered_at: Moment | None
    ended_at: Moment | None
    duration_seconds: int | None
    recording_status: RecordingStatus | None
    failure_cause: str | None


class SessionPage(CamelShape):
    """A page of sessions, newest first."""

    entries: list[SessionEntry]
    next_cursor: Moment | None = Field(examples=["2026-03-02T09:30:00.000000Z"])


_PHONE_CALL: Record = {
    "callControlId": f"phone-{CALL_ID}",
    "phoneNumberId": "pn_1",
    "from": "+12015550101",
    "to": "+12015550199",
}
_DETAIL: Record = _SESSION | {"phoneCall": _PHONE_CALL, "usage": [_LINE]}


class PhoneCall(CamelShape):
    """The phone side of a session."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PHONE_CALL]})

    call_control_id: str | None = Field(description="Identity of the caller's participant, where it is known.")
    phone_number_id: str | None
    from_: str | None = Field(alias="from")
    to: str | None


class UsageOfSession(CamelShape):
    """How much of one metric was used, and what that cost in US dollars, null where there is no price for it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINE]})

    provider: str
    model: str | None
    metric: str
    quantity: float
    cost: float | None
    key_source: Literal["BYOK"]


class SessionDetail(SessionEntry):
    """A session with what it used."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DETAIL]})

    phone_call: PhoneCall
    usage: list[UsageOfSession]


class ToolCall(CamelShape):
    """A tool the agent used; `args` is a JSON string."""

    name: str
    args: str


class SessionTurn(CamelShape):
    """One turn."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TURN]})

    id: str
    index: int
    source: Literal["user", "agent", "system"]
    text: str
    started_at: Moment
    ended_at: Moment | None
    provider: str | None
    model: str | None
    eou_ms: float | None
    llm_ttft_ms: float | None
    tts_ttfb_ms: float | None
    latency_status: Literal["partial", "complete", "interrupted", "error"] | None
    conversational_latency_ms: float | None
    tool_calls: list[ToolCall]


class SessionTranscript(CamelShape):
    """Who said what, in order."""

    entries: list[SessionTurn]


def _agents(value: str) -> str:
    return value.replace("\x00", "")


class SessionQuery(CallQuery):
    """The filters of a list of sessions, all of which have to hold."""

    limit: int = Field(20, ge=1, le=100, description="Sessions on a page.")
    kind: str | None = Field(None, max_length=40, description=f"Every session here is `{ONLY_KIND}`.")
    agent: Annotated[str, AfterValidator(_agents)] | None = Field(None, max_length=200, description="Of this agent.")
    cursor: Time | None = Field(None, description="The `nextCursor` of the page before.")

    def session_filters(self, organization_id: str, principal: Principal) -> Filters | None:
        """Return what to list; None where there is nothing of it."""
        if self.kind not in (None, ONLY_KIND):
            return None
        return self.filters(organization_id, principal, self.agent)


def sessions_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["sessions"], route_class=ListRoute)

    @router.get("/sessions", responses=errors())
    async def list_sessions(principal: Reader, query: Annotated[SessionQuery, Query()]) -> SessionPage:
        """List sessions, newest first."""
        filters = query.session_filters(backend.organization_id, principal)
        if filters is None:
            return SessionPage(entries=[], next_cursor=None)
        offset = ((query.page or 1) - 1) * query.limit
        async with backend.control.reading() as connection:
            rows = await page(connection, filters, query.limit + 1, offset, whole=True)
        shown = [SessionEntry.model_validate(_entry(row)) for row in rows[: query.limit]]
        following = rows[query.limit - 1]["created_at"] if len(rows) > query.limit else None
        return SessionPage(entries=shown, next_cursor=wire_time(following))

    @router.get("/sessions/{session_id}", responses=errors(404))
    async def get_session(session_id: CallId, principal: Reader) -> SessionDetail:
        """Return a session with what it has used so far."""
        prices = await backend.control.prices()
        async with backend.control.reading() as connection:
            await the_call(connection, backend, principal, session_id)
            [row] = await by_id(connection, backend.organization_id, [session_id], whole=True)
            cost = cost_of(await call_usage(connection, session_id), prices)
            phone_call = await _phone_call(connection, backend, row)
        usage = [_line(line, cost.unpriced) for line in cost.breakdown]
        return SessionDetail.model_validate(_entry(row) | {"phoneCall": phone_call, "usage": usage})

    @router.get("/sessions/{session_id}/transcript", responses=errors(404))
    async def get_session_transcript(session_id: CallId, principal: Reader) -> SessionTranscript:
        """Return what has been said so far; latencies may still come to turns that are there."""
        async with backend.control.reading() as connection:
            await the_call(connection, backend, principal, session_id)
            turns = await transcript(connection, session_id)
        return SessionTranscript.model_validate({"entries": [session_turn(turn) for turn in turns]})

    return router


def _entry(row: Record) -> Record:
    return {
        "id": row["id"],
        "organizationId": row["organization_id"],
        "agentId": row["agent_id"],
        "status": row["status"],
        "kind": row["kind"],
        "roomName": row["room_name"],
        "language": row["language"],
        "direction": row["direction"],
        "pipelineConfig": row["pipeline_config"],
        "metadata": call_metadata(row),
        "createdAt": wire_time(row["created_at"]),
        "updatedAt": wire_time(row["updated_at"]),
        "answeredAt": wire_time(row["answered_at"]),
        "endedAt": wire_time(row["ended_at"]),
        "durationSeconds": row["duration_seconds"],
        "recordingStatus": row["recording_status"],
        "failureCause": row["failure_cause"],
    }


async def _phone_call(connection: AsyncConnection, backend: Backend, row: Record) -> Record:
    own = row["caller_number"] if row["direction"] == "outbound" else row["dialed_number"]
    numbers = await all_numbers(connection, backend) if own else []
    return {
        "callControlId": f"phone-{row['id']}" if row["direction"] == "outbound" else None,
        "phoneNumberId": next((known.id for known in numbers if known.number.e164 == own), None),
        "from": row["caller_number"],
        "to": row["dialed_number"],
    }


def _line(line: Record, unpriced: list[Record]) -> Record:
    is_unpriced = any(all(line[name] == value for name, value in missing.items()) for missing in unpriced)
    shown = {name: line[name] for name in ("provider", "model", "metric", "quantity", "keySource")}
    return shown | {"cost": None if is_unpriced else int(line["costMicroUsd"]) / 1_000_000}


def session_turn(turn: Record) -> Record:
    """Return a transcript entry in the casing of sessions."""
    return {
        "id": turn["id"],
        "index": turn["index"],
        "source": turn["source"],
        "text": turn["text"],
        "startedAt": turn["started_at"],
        "endedAt": turn["ended_at"],
        "provider": turn["provider"],
        "model": turn["model"],
        "eouMs": turn["eou_ms"],
        "llmTtftMs": turn["llm_ttft_ms"],
        "ttsTtfbMs": turn["tts_ttfb_ms"],
        "latencyStatus": turn["latency_status"],
        "conversationalLatencyMs": turn["conversational_latency_ms"],
        "toolCalls": turn["metadata"].get("toolCalls", []),
    }
