"""The bodies of webhooks, in the contract's shape (5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, get_args

from agent_worker.store.columns import wire_time

STATUS_EVENTS = frozenset(
    {
        "call.initiated",
        "call.ringing",
        "call.answered",
        "call.bridged",
        "call.hangup",
        "call.transfer.initiated",
        "call.transfer.completed",
        "call.transfer.failed",
        "sip.dial_started",
        "sip.dial_failed",
        "agent.dispatch_failed",
        "amd.result",
    }
)
"""Events that say how far a call has got: each is told as `call.status`."""

ControlEvent = Literal[
    "call.initiated",
    "call.ringing",
    "call.answered",
    "call.bridged",
    "call.hold",
    "call.unhold",
    "call.mute",
    "call.unmute",
    "call.dtmf.sent",
    "call.transfer.initiated",
    "call.transfer.completed",
    "call.transfer.failed",
    "call.leg.hangup",
    "call.hangup",
]
"""Events an endpoint can subscribe to by their own name."""

CONTROL_EVENTS: frozenset[str] = frozenset(get_args(ControlEvent))

DURABLE_EVENTS = frozenset({"call.report", "call.analysis", "call.recording"})
"""Webhooks that are retried until they are delivered or expire; all others get one attempt."""

CONTENT = frozenset(
    {
        "summary",
        "transcript",
        "structured_data",
        "custom_data",
        "artifacts",
        "scheduled_callback",
        "customer_name",
        "customer_request",
        "score_reason",
        "recording_url",
        "payload",
    }
)
"""What an endpoint with `contentMode: metadata_only` is not told."""

_ANALYSED = (
    "summary",
    "outcome",
    "structured_data",
    "custom_data",
    "customer_name",
    "customer_request",
    "general_success",
    "final_score",
    "score_reason",
    "scheduled_callback",
    "analysis_status",
    "analysis_provider",
    "analysis_model",
    "analysis_completed_at",
)

Payload = dict[str, Any]


def call_report_payload(
    report: Mapping[str, Any], call: Mapping[str, Any], *, event_id: str, occurred_at: str | None
) -> Payload:
    """Return the body of `call.report`: the report, and which call it is of.

    Args:
        report: the contract's CallReport.
        call: the call's `id`, `agent_id`, `status`, `direction`, `duration_seconds`.
        occurred_at: when the call ended, in wire form.
    """
    told = {name: value for name, value in report.items() if not name.startswith(("webhook_", "post_call_webhook"))}
    return {
        "type": "call.report",
        "event_id": event_id,
        "call_id": call["id"],
        "agent_id": call["agent_id"],
        "status": call["status"],
        "direction": call["direction"],
        "duration_seconds": call["duration_seconds"],
        "occurred_at": occurred_at,
        **told,
    }


def call_analysis_payload(report: Mapping[str, Any], call: Mapping[str, Any], *, event_id: str) -> Payload:
    """Return the body of `call.analysis`: what the analysis found, without transcript, cost or recording.

    Args:
        report: the contract's CallReport, analysed.
        call: as for `call_report_payload`, and `organization_id`, `metadata`.
    """
    return {
        "type": "call.analysis",
        **_of_call(call, event_id, report["analysis_completed_at"]),
        **{name: report[name] for name in _ANALYSED if name in report},
    }


def call_recording_payload(
    recording: Mapping[str, Any],
    call: Mapping[str, Any],
    *,
    event_id: str,
    recording_url: str | None,
    at: datetime,
) -> Payload:
    """Return the body of `call.recording`: where the recording is, or that there is none.

    Args:
        recording: its `status`, `ready` or `failed`, and `duration_ms`.
        at: when that came to be known.
    """
    return {
        "type": "call.recording",
        **_of_call(call, event_id, wire_time(at)),
        "recording_status": recording["status"],
        "recording_url": recording_url,
        "recording_duration_ms": recording["duration_ms"],
    }


def call_status_payload(event: Mapping[str, Any], call: Mapping[str, Any]) -> Payload:
    """Return the body of `call.status`: one event of the call, flat.

    Args:
        event: the contract's CallEvent.
        call: the call's `id`, `organization_id`, `agent_id`, `direction`, `metadata`.
    """
    return {"type": "call.status", **_event_of_call(event, call)}


def control_event_payload(event: Mapping[str, Any], call: Mapping[str, Any]) -> Payload:
    """Return the body of an event told under its own name."""
    return {
        "type": event["event_type"],
        "control_id": None,
        "payload": event["payload"],
        **_event_of_call(event, call),
    }


def metadata_only(payload: Mapping[str, Any]) -> Payload:
    """Return the payload without what was said, collected or recorded (an endpoint's `contentMode`)."""
    return {name: value for name, value in payload.items() if name not in CONTENT}


def _of_call(call: Mapping[str, Any], event_id: str, occurred_at: str | None) -> Payload:
    return {
        "event_id": event_id,
        "call_id": call["id"],
        "session_id": call["id"],
        "organization_id": call["organization_id"],
        "agent_id": call["agent_id"],
        "status": call["status"],
        "direction": call["direction"],
        "duration_seconds": call["duration_seconds"],
        "occurred_at": occurred_at,
        "metadata": call["metadata"],
    }


def _event_of_call(event: Mapping[str, Any], call: Mapping[str, Any]) -> Payload:
    return {
        "event_id": event["id"],
        "call_id": call["id"],
        "session_id": call["id"],
        "organization_id": call["organization_id"],
        "agent_id": call["agent_id"],
        "direction": call["direction"],
        "event_type": event["event_type"],
        "provider": event["provider"],
        "status": event["status"],
        "failure_cause": event["failure_cause"],
        "sip_status_code": event["sip_status_code"],
        "sip_status": event["sip_status"],
        "occurred_at": event["occurred_at"],
        "metadata": call["metadata"],
    }
