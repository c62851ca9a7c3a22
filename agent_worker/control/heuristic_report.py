"""The first report of a call, made of facts alone the moment it ends, in the contract's shape (7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agent_worker.control.cost import Cost
from agent_worker.control.extraction import extraction_fields
from agent_worker.control.latency import latency_summary
from agent_worker.control.outcome import HOW_IT_ENDED, Outcome, outcome_of
from agent_worker.domain.call import DisconnectionReason

SHOWN_VALUE_LENGTH = 80


@dataclass(frozen=True)
class CallRecord:
    """Everything known of a call, as its rows say it.

    Attributes:
        row: the call's row, by column.
        entries: transcript entries in wire shape, by index.
        events: events in wire shape, in order.
        transfers: transfers in wire shape, in order.
        recording: `{status, path, duration_ms, detail}`, or None.
    """

    row: Mapping[str, Any]
    entries: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    transfers: Sequence[Mapping[str, Any]] = ()
    recording: Mapping[str, Any] | None = None
    cost: Cost = field(default_factory=lambda: Cost("0"))


def heuristic_report(call: CallRecord) -> dict[str, Any]:
    """Return the columns of the call's report; the same facts give the same report."""
    row = call.row
    outcome = facts_outcome(call)
    fields = extraction_fields(row["pipeline_config"].get("extractionFields"))
    made_at: datetime = row["ended_at"] or row["updated_at"]
    return {
        "call_id": row["id"],
        "organization_id": row["organization_id"],
        "summary": summary_of(call, outcome),
        "outcome": outcome.value,
        "structured_data": dict(row["structured_data"]),
        "custom_data": {field.name: None for field in fields},
        "cost_micro_usd": call.cost.micro_usd,
        "cost_breakdown": call.cost.breakdown,
        "artifacts": _artifacts(call),
        "metadata": _metadata(call),
        "scheduled_callback": None,
        "voicemail": _voicemail(call, outcome),
        "analysis_status": "heuristic",
        "analysis_provider": None,
        "analysis_model": None,
        "analysis_error": None,
        "analysis_completed_at": None,
        "created_at": made_at,
        "updated_at": max(made_at, row["updated_at"]),
    }


def facts_outcome(call: CallRecord) -> Outcome:
    """Return what the facts alone say of how the call went."""
    row = call.row
    reason = row["disconnection_reason"] and DisconnectionReason(row["disconnection_reason"])
    return outcome_of(
        reason or None,
        answered=row["answered_at"] is not None,
        user_spoke=any(entry["source"] == "user" for entry in call.entries),
        sip_status_code=row["sip_status_code"],
        structured_data=row["structured_data"],
        transfer_statuses=[transfer["status"] for transfer in call.transfers],
    )


ANALYSED = (
    "summary",
    "outcome",
    "structured_data",
    "custom_data",
    "scheduled_callback",
    "customer_name",
    "customer_request",
    "general_success",
    "final_score",
    "score_reason",
)
"""Columns an analysis writes; all others follow from facts."""

_STATUS = ("analysis_status", "analysis_provider", "analysis_model", "analysis_error", "analysis_completed_at")


def with_analysis(fresh: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report made of facts again, with the analysis that was written into the one before."""
    kept = _STATUS if known["analysis_status"] != "completed" else (*_STATUS, *ANALYSED)
    times = {"created_at": known["created_at"], "updated_at": max(fresh["updated_at"], known["updated_at"])}
    return {**fresh, **{name: known[name] for name in kept}, **times}


def summary_of(call: CallRecord, outcome: Outcome) -> str:
    """Return a few plain sentences: what kind of call, how long, how it ended, what was collected."""
    row = call.row
    kind = "Outbound" if row["direction"] == "outbound" else "Inbound"
    if row["answered_at"] is None:
        sentences = [f"{kind} call that was not answered."]
    else:
        said = sum(entry["source"] == "user" for entry in call.entries)
        replied = sum(entry["source"] == "agent" for entry in call.entries)
        sentences = [
            f"{kind} call of {spoken_duration(row['duration_seconds'] or 0)}: "
            f"the {_person(row)} spoke {_times(said)}, the agent {_times(replied)}."
        ]
    reason = row["disconnection_reason"]
    if reason:
        ended = HOW_IT_ENDED[DisconnectionReason(reason)]
        sentences.append(ended.replace("caller", _person(row)))
    sentences += [_told_transfer(transfer) for transfer in call.transfers]
    if outcome is Outcome.MESSAGE_TAKEN:
        sentences.append("A message was taken.")
    if outcome is Outcome.CALLBACK_SCHEDULED:
        sentences.append("A callback was asked for.")
    if row["structured_data"]:
        sentences.append(f"Collected: {_collected(row['structured_data'])}.")
    return " ".join(sentences)


def spoken_duration(seconds: int) -> str:
    """Return a duration as a person says it, as in `1 minute 5 seconds`."""
    minutes, rest = divmod(max(0, seconds), 60)
    parts = [_counted(minutes, "minute")] if minutes else []
    if rest or not minutes:
        parts.append(_counted(rest, "second"))
    return " ".join(parts)


def _person(row: Mapping[str, Any]) -> str:
    return "callee" if row["direction"] == "outbound" else "caller"


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _told_transfer(transfer: Mapping[str, Any]) -> str:
    to = transfer["metadata"].get("label") or transfer["transfer_to"]
    cause = f" ({transfer['failure_cause']})" if transfer["failure_cause"] else ""
    return f"A {transfer['kind']} transfer to {to} is {transfer['status']}{cause}."


def _collected(data: Mapping[str, Any], prefix: str = "") -> str:
    parts = []
    for name, value in data.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            parts.append(_collected(value, f"{name} "))
        elif isinstance(value, (list, tuple)):
            parts.append(f"{label}: {_counted(len(value), 'item')}")
        elif value is not None and value != "":
            shown = str(value)
            short = shown if len(shown) <= SHOWN_VALUE_LENGTH else shown[: SHOWN_VALUE_LENGTH - 1] + "…"
            parts.append(f"{label}: {short}")
    return ", ".join(part for part in parts if part) or "nothing"


def _artifacts(call: CallRecord) -> dict[str, Any]:
    if call.recording is None:
        return {}
    return {
        "recording": {
            "status": call.recording["status"],
            "duration_ms": call.recording["duration_ms"],
            "resource_uri": f"/v1/calls/{call.row['id']}/recording",
        }
    }


def _metadata(call: CallRecord) -> dict[str, Any]:
    metadata = dict(call.row["metadata"])
    metadata["disconnection_reason"] = call.row["disconnection_reason"]
    metadata["latency"] = latency_summary(call.entries)
    if call.cost.unpriced:
        metadata["unpriced"] = call.cost.unpriced
    return metadata


def _voicemail(call: CallRecord, outcome: Outcome) -> dict[str, Any] | None:
    verdicts = [event["payload"].get("result") for event in call.events if event["event_type"] == "amd.result"]
    if not verdicts and outcome is not Outcome.VOICEMAIL:
        return None
    left = any(event["event_type"] == "voicemail.message_left" for event in call.events)
    return {
        "detected": outcome is Outcome.VOICEMAIL or verdicts[-1:] == ["machine-vm"],
        "amd_verdict": verdicts[-1] if verdicts else None,
        "delivery": "delivered" if left else "not_attempted" if outcome is Outcome.VOICEMAIL else None,
    }
