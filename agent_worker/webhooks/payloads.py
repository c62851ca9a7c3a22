"""The bodies of webhooks, in the contract's shape (5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

CONTROL_EVENTS = frozenset(
    {
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
    }
)
"""Events an endpoint can subscribe to by their own name."""

DURABLE_EVENTS = frozenset({"call.report", "call.analysis", "call.recording"})
"""Webhooks that are retried until they are delivered or expire; all others get one attempt."""

_CONTENT = frozenset(
    {
        "summary",
        "transcript",
        "structured_data",
        "custom_data",
        "artifacts",
        "scheduled_callback",
        "recording_url",
        "payload",
    }
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
    told = {name: value for name, value in report.items() if name != "webhook_deliveries"}
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
    return {name: value for name, value in payload.items() if name not in _CONTENT}


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
