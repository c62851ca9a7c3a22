"""A call on the wire: as an entry of a list, and whole with everything that happened on it (contract 1.2, 1.3, 8)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from agent_worker.api.report_shapes import CALL_ID, ENTRY_EXAMPLE, REPORT_EXAMPLE, CallReport, Transcript
from agent_worker.api.shapes import Moment, SnakeShape
from agent_worker.store.columns import wire_time

Record = dict[str, Any]

_BEGAN = "2026-03-02T09:30:00.000000Z"
_ENDED = "2026-03-02T09:31:05.000000Z"

CALL_ENTRY_EXAMPLE: Record = {
    "id": CALL_ID,
    "call_id": CALL_ID,
    "resource_uri": f"/v1/calls/{CALL_ID}",
    "agent_id": "front-desk",
    "status": "ended",
    "kind": "cascade",
    "room_name": f"call-{CALL_ID}",
    "language": "en",
    "created_at": _BEGAN,
    "updated_at": _ENDED,
    "answered_at": "2026-03-02T09:30:02.000000Z",
    "ended_at": _ENDED,
    "duration_seconds": 63,
    "recording_status": "ready",
    "direction": "inbound",
    "call_type": "telephony_inbound",
    "from": "+12015550101",
    "to": "+12015550199",
    "campaign_id": None,
    "failure_cause": None,
    "disconnection_reason": "user_hangup",
    "outcome": "callback_scheduled",
    "call_summary": REPORT_EXAMPLE["summary"],
    "customer_name": "Maya",
    "customer_request": "A call back about a repair.",
    "general_success": True,
    "final_score": 8,
    "call_cost": 0.004717,
    "done": False,
    "note": None,
    "employee": None,
    "deleted_at": None,
    "is_purged": False,
}

TRANSFER_EXAMPLE: Record = {
    "id": "tr_1",
    "session_id": CALL_ID,
    "organization_id": "org_local",
    "kind": "warm",
    "status": "completed",
    "transfer_to": "+12015550142",
    "from_room_name": f"call-{CALL_ID}",
    "consultation_room_name": f"call-{CALL_ID}-consult-1",
    "caller_participant_identity": f"phone-{CALL_ID}",
    "recipient_participant_identity": "transfer-tr_1",
    "outbound_trunk_id": "ST_1",
    "screening_prompt": None,
    "summary": "Maya asks about a repair.",
    "failure_cause": None,
    "metadata": {"label": "Workshop"},
    "created_at": _BEGAN,
    "updated_at": _ENDED,
    "completed_at": _ENDED,
}

EVENT_EXAMPLE: Record = {
    "id": f"{CALL_ID}:4",
    "session_id": CALL_ID,
    "organization_id": "org_local",
    "provider": "speko",
    "event_type": "call.answered",
    "status": "active",
    "failure_cause": None,
    "sip_status_code": None,
    "sip_status": None,
    "occurred_at": "2026-03-02T09:30:02.000000Z",
    "payload": {"ringing_ms": 900},
    "created_at": "2026-03-02T09:30:02.120000Z",
}

RecordingStatus = Literal["pending", "uploading", "ready", "failed", "suppressed"]


class CallEntry(SnakeShape):
    """A call in a list. What is not in the contract's entry is what other platforms tell of a call."""

    model_config = ConfigDict(populate_by_name=True, json_schema_extra={"examples": [CALL_ENTRY_EXAMPLE]})

    id: str
    call_id: str
    resource_uri: str
    agent_id: str | None
    status: Literal["dialing", "connecting", "active", "ended", "failed"]
    kind: str
    room_name: str | None
    language: str
    created_at: Moment
    updated_at: Moment
    answered_at: Moment | None
    ended_at: Moment | None
    duration_seconds: int | None
    recording_status: RecordingStatus | None
    direction: Literal["inbound", "outbound"]
    call_type: Literal["telephony_inbound", "telephony_outbound"]
    from_: str | None = Field(alias="from")
    to: str | None
    campaign_id: str | None
    failure_cause: str | None
    disconnection_reason: str | None
    outcome: str | None
    call_summary: str | None
    customer_name: str | None
    customer_request: str | None
    general_success: bool | None
    final_score: int | None = Field(ge=1, le=10)
    call_cost: float | None = Field(
        description="US dollars; null before there is a report, or where a price is missing."
    )
    done: bool
    note: str | None
    employee: str | None
    deleted_at: Moment | None
    is_purged: bool


class CallTransfer(SnakeShape):
    """One attempt to hand a caller over."""

    model_config = ConfigDict(json_schema_extra={"examples": [TRANSFER_EXAMPLE]})

    id: str
    session_id: str
    organization_id: str
    kind: Literal["blind", "warm"]
    status: Literal["requested", "screening", "bridging", "completed", "failed", "cancelled"]
    transfer_to: str
    from_room_name: str | None
    consultation_room_name: str | None
    caller_participant_identity: str | None
    recipient_participant_identity: str | None
    outbound_trunk_id: str | None
    screening_prompt: str | None
    summary: str | None
    failure_cause: str | None
    metadata: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    completed_at: Moment | None


class CallEvent(SnakeShape):
    """Something that happened on a call."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT_EXAMPLE]})

    id: str
    session_id: str | None
    organization_id: str
    provider: str
    event_type: str
    status: str | None
    failure_cause: str | None
    sip_status_code: int | None
    sip_status: str | None
    occurred_at: Moment
    payload: dict[str, Any]
    created_at: Moment


class CallEvents(SnakeShape):
    """All events of a call, in the order they happened."""

    events: list[CallEvent]


class CallDetail(CallEntry):
    """Everything known of a call."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                CALL_ENTRY_EXAMPLE
                | {
                    "pipeline_config": {"agentId": "front-desk", "kind": "cascade", "systemPrompt": "You help."},
                    "provenance": {"systemPrompt": "agent"},
                    "metadata": {"direction": "inbound", "from": "+12015550101", "to": "+12015550199"},
                    "sip_status_code": 200,
                    "sip_status": "OK",
                    "recording_duration_ms": 63_000,
                    "recording_resource_uri": f"/v1/calls/{CALL_ID}/recording",
                    "report": REPORT_EXAMPLE,
                    "transfers": [],
                    "transcript": {"entries": [ENTRY_EXAMPLE]},
                    "span_tree": {"trace_id": CALL_ID.replace("-", ""), "root": {"name": "call", "start_ms": 0}},
                    "average_transcriber_latency": 310.0,
                    "average_agent_latency": None,
                    "average_synthesizer_latency": None,
                    "purged_at": None,
                }
            ]
        },
    )

    pipeline_config: dict[str, Any]
    provenance: dict[str, Any] = Field(description="Which layer each key of `pipeline_config` came from.")
    metadata: dict[str, Any]
    sip_status_code: int | None
    sip_status: str | None
    recording_duration_ms: int | None
    recording_resource_uri: str
    report: CallReport | None
    transfers: list[CallTransfer]
    transcript: Transcript
    span_tree: dict[str, Any]
    average_transcriber_latency: float | None = Field(description="ms")
    average_agent_latency: float | None = Field(description="ms")
    average_synthesizer_latency: float | None = Field(description="ms")
    purged_at: Moment | None


def entry_fields(row: Record) -> Record:
    """Return the fields of a call's entry; `row` as `store.call_lists.entries` returns it."""
    times = ("created_at", "updated_at", "answered_at", "ended_at", "deleted_at")
    same = set(CallEntry.model_fields) & row.keys() - set(times)
    is_purged = row["purged_at"] is not None
    return {
        **{name: row[name] for name in same},
        **{name: wire_time(row[name]) for name in times},
        "call_id": row["id"],
        "resource_uri": f"/v1/calls/{row['id']}",
        "call_type": f"telephony_{row['direction']}",
        "from": row["caller_number"],
        "to": row["dialed_number"],
        "call_summary": row["summary"] or None,
        "call_cost": _dollars(row),
        "recording_status": "suppressed" if is_purged and row["recording_status"] else row["recording_status"],
        "is_purged": is_purged,
    }


def _dollars(row: Record) -> float | None:
    if row["cost_micro_usd"] is None or (row["report_metadata"] or {}).get("unpriced"):
        return None
    return int(row["cost_micro_usd"]) / 1_000_000
