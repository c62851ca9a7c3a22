"""The heuristic report: plain sentences and the contract's shape, from facts alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent_worker.control.cost import Cost
from agent_worker.control.heuristic_report import CallRecord, heuristic_report, spoken_duration, with_analysis
from agent_worker.control.latency import latency_summary, percentile
from tests.call_facts import START


def _row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "call-1",
        "organization_id": "org_local",
        "direction": "inbound",
        "status": "ended",
        "disconnection_reason": "user_hangup",
        "failure_cause": None,
        "sip_status_code": 200,
        "answered_at": START,
        "ended_at": START + timedelta(seconds=65),
        "updated_at": START + timedelta(seconds=65),
        "duration_seconds": 65,
        "structured_data": {},
        "metadata": {"customerId": "c1"},
        "pipeline_config": {},
        **changes,
    }


ENTRIES = [
    {"index": 0, "source": "agent", "text": "Good morning."},
    {"index": 1, "source": "user", "text": "Hello.", "eou_ms": 300.0},
    {"index": 2, "source": "agent", "text": "How can I help?", "conversational_latency_ms": 1200.0},
]


def test_the_summary_says_how_long_who_spoke_and_who_ended_it() -> None:
    """A person who reads nothing else knows what happened."""
    report = heuristic_report(CallRecord(_row(), ENTRIES))
    assert report["summary"] == (
        "Inbound call of 1 minute 5 seconds: the caller spoke once, the agent twice. The caller hung up."
    )
    assert (report["outcome"], report["analysis_status"]) == ("completed", "heuristic")


def test_the_summary_says_what_was_collected() -> None:
    """What tools collected is in the summary and in `structured_data`."""
    data = {"message": {"name": "Maya", "text": "x" * 200}, "tags": ["a", "b"], "empty": None}
    report = heuristic_report(CallRecord(_row(structured_data=data), ENTRIES))
    assert "A message was taken. Collected: message name: Maya, message text: xxx" in report["summary"]
    assert "tags: 2 items" in report["summary"]
    assert "empty" not in report["summary"]
    assert len(report["summary"]) < 400
    assert (report["outcome"], report["structured_data"]) == ("message_taken", data)


def test_an_outbound_call_speaks_of_the_callee() -> None:
    """The person at the other end of an outbound call did not call."""
    row = _row(direction="outbound", answered_at=None, duration_seconds=0, disconnection_reason="dial_busy")
    report = heuristic_report(CallRecord(row))
    assert report["summary"] == "Outbound call that was not answered. The line was busy."
    assert report["outcome"] == "busy"


def test_latency_cost_and_missing_prices_are_in_the_report() -> None:
    """Percentiles per leg, the bill, and what has no price."""
    missing = [{"provider": "p", "model": None, "metric": "stt_seconds"}]
    report = heuristic_report(CallRecord(_row(), ENTRIES, cost=Cost("12", [{"costMicroUsd": "12"}], missing)))
    assert report["cost_micro_usd"] == "12"
    assert report["metadata"]["unpriced"] == missing
    assert report["metadata"]["latency"]["eou_ms"] == {"average": 300.0, "p50": 300.0, "p95": 300.0, "turns": 1}
    assert "llm_ttft_ms" not in report["metadata"]["latency"]
    assert report["metadata"]["customerId"] == "c1"


def test_a_voicemail_and_the_detectors_verdict_are_reported() -> None:
    """The verdict of the answering machine detection reaches the report, also where a human was heard."""
    verdict = {"event_type": "amd.result", "payload": {"result": "human"}}
    human = heuristic_report(CallRecord(_row(), ENTRIES, [verdict]))["voicemail"]
    assert human == {"detected": False, "amd_verdict": "human", "delivery": None}
    left = {"event_type": "voicemail.message_left", "payload": {}}
    machine = heuristic_report(CallRecord(_row(disconnection_reason="voicemail"), (), [left]))["voicemail"]
    assert machine == {"detected": True, "amd_verdict": None, "delivery": "delivered"}
    assert heuristic_report(CallRecord(_row(), ENTRIES))["voicemail"] is None


def test_a_transfer_is_told_with_its_cause() -> None:
    """A transfer that failed is in the summary with the reason."""
    transfer = {
        "kind": "warm",
        "status": "failed",
        "transfer_to": "+12015550123",
        "failure_cause": "no_answer",
        "metadata": {"label": "Sales"},
    }
    summary = heuristic_report(CallRecord(_row(), ENTRIES, transfers=[transfer]))["summary"]
    assert "A warm transfer to Sales is failed (no_answer)." in summary


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (60, "1 minute"),
        (61, "1 minute 1 second"),
        (3725, "62 minutes 5 seconds"),
    ],
)
def test_a_duration_reads_like_speech(seconds: int, words: str) -> None:
    """Minutes and seconds, singular where there is one."""
    assert spoken_duration(seconds) == words


def test_percentiles_are_values_that_occurred() -> None:
    """Nearest rank: p95 of twenty values is the nineteenth, and there is none of nothing."""
    values = [float(value) for value in range(1, 21)]
    assert (percentile(values, 50), percentile(values, 95)) == (10.0, 19.0)
    assert latency_summary([{"eou_ms": None}]) == {}
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


ANALYSED = {"summary": "Read.", "outcome": "abandoned", "customer_name": "Maya", "custom_data": {"urgent": True}}


@pytest.mark.parametrize(("status", "summary"), [("completed", "Read."), ("failed", "Inbound call of")])
def test_late_facts_leave_an_analysis_alone(status: str, summary: str) -> None:
    """Cost and artifacts follow the facts, the reading stays; where there is none the text follows the facts too."""
    known = {**_known(), **ANALYSED, "analysis_status": status, "analysis_error": "timeout"}
    fresh = heuristic_report(CallRecord(_row(), ENTRIES, cost=Cost("12")))
    report = with_analysis(fresh, known)
    assert (report["analysis_status"], report["analysis_error"], report["cost_micro_usd"]) == (status, "timeout", "12")
    assert report["summary"].startswith(summary)


def test_every_extraction_field_is_there_before_anybody_looked_for_it() -> None:
    """A client that reads a key finds it, null, from the first report on."""
    field = {"name": "urgent", "type": "boolean", "description": "Is it urgent?"}
    row = _row(pipeline_config={"extractionFields": [field, {"junk": 1}]})
    assert heuristic_report(CallRecord(row, ENTRIES))["custom_data"] == {"urgent": None}


def _known() -> dict[str, Any]:
    analysed = dict.fromkeys(("customer_name", "customer_request", "general_success", "final_score", "score_reason"))
    return {**heuristic_report(CallRecord(_row(), ENTRIES)), **analysed}
