"""The span tree: made of the transcript and the events, in ms from the call's beginning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from agent_worker.control.span_tree import span_tree
from agent_worker.store.columns import wire_time
from tests.call_facts import START


def _at(seconds: float) -> str:
    moment = wire_time(START + timedelta(seconds=seconds))
    assert moment is not None
    return moment


def _row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "7b0c1f0e-5d0a-4f43-9c39-6d5c2f0a8e11",
        "agent_id": "front-desk",
        "created_at": START,
        "answered_at": START + timedelta(seconds=1),
        "ended_at": START + timedelta(seconds=20),
        "disconnection_reason": "user_hangup",
        **changes,
    }


def _entry(index: int, source: str, start: float, end: float | None, **legs: Any) -> dict[str, Any]:
    timings = dict.fromkeys(("eou_ms", "llm_ttft_ms", "tts_ttfb_ms", "conversational_latency_ms"))
    return {
        "index": index,
        "source": source,
        "text": "words",
        "started_at": _at(start),
        "ended_at": None if end is None else _at(end),
        "provider": "p",
        "model": "m",
        "metadata": {},
        **timings,
        **legs,
    }


def _tool(kind: str, seconds: float, **payload: Any) -> dict[str, Any]:
    return {"event_type": f"tool.{kind}", "occurred_at": _at(seconds), "payload": {"name": "take_message", **payload}}


ENTRIES = [
    _entry(0, "agent", 1.2, 3.0, tts_ttfb_ms=150.0),
    _entry(1, "user", 4.0, 6.0, eou_ms=300.0),
    _entry(2, "agent", 7.0, 9.0, llm_ttft_ms=350.0, tts_ttfb_ms=150.0, conversational_latency_ms=1000.0),
    _entry(3, "user", 10.0, 11.0),
    _entry(4, "agent", 12.0, 13.0),
]


def _names(span: dict[str, Any]) -> list[str]:
    return [child["name"] for child in span["children"]]


def test_a_call_is_a_greeting_and_turns_with_their_legs() -> None:
    """Each leg begins and ends where it was measured."""
    tree = span_tree(_row(), ENTRIES, [_tool("started", 6.7), _tool("ended", 6.8, outcome="ok")])
    root = tree["root"]
    assert tree["trace_id"] == "7b0c1f0e5d0a4f439c396d5c2f0a8e11"
    assert (root["name"], root["start_ms"], root["end_ms"]) == ("call", 0, 20_000)
    assert _names(root) == ["greeting", "turn", "turn"]
    turn = root["children"][1]
    assert (turn["start_ms"], turn["end_ms"]) == (4_000, 9_000)
    assert turn["attributes"]["conversational_latency_ms"] == 1000.0
    spans = {child["name"]: (child["start_ms"], child["end_ms"]) for child in turn["children"]}
    assert spans == {"stt": (4_000, 6_300), "llm": (6_300, 6_650), "tool": (6_700, 6_800), "tts": (6_850, 9_000)}
    assert turn["children"][2]["attributes"] == {"name": "take_message", "outcome": "ok"}


def test_a_tool_belongs_to_the_turn_it_ran_in() -> None:
    """One that never ended is there all the same."""
    root = span_tree(_row(), ENTRIES, [_tool("started", 11.5)])["root"]
    assert _names(root["children"][1]) == ["stt", "llm", "tts"]
    assert _names(root["children"][2]) == ["stt", "tool", "tts"]


def test_a_call_nobody_answered_has_none() -> None:
    """There is nothing to time."""
    assert span_tree(_row(answered_at=None), [], []) == {}


def test_a_live_call_ends_where_it_is_known_to_be() -> None:
    """The root reaches to the last thing that was heard."""
    tree = span_tree(_row(ended_at=None), ENTRIES[:2], [])
    assert tree["root"]["end_ms"] == 6_300
    assert span_tree(_row(ended_at=None), [], [])["root"]["end_ms"] == 1_000


def test_an_interrupted_turn_says_so() -> None:
    """Half a sentence is marked."""
    cut = [ENTRIES[1], {**ENTRIES[2], "metadata": {"interrupted": True}}]
    assert span_tree(_row(), cut, [])["root"]["children"][0]["attributes"]["interrupted"] is True
