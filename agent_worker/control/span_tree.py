"""A call as a tree of spans, made of its own transcript and events: what took how long, in ms from its beginning.

```
call
├── greeting
└── turn …          from the person's first word to the agent's last
    ├── stt          they speak, and their turn is taken as complete
    ├── llm          the model is asked, up to its first token
    ├── tool …       a tool runs
    └── tts          up to the first audio, and as long as the agent speaks
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any

Entry = Mapping[str, Any]
Span = dict[str, Any]

_LEGS = ("eou_ms", "llm_ttft_ms", "tts_ttfb_ms", "conversational_latency_ms")


def span_tree(row: Mapping[str, Any], entries: Sequence[Entry], events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return `{trace_id, root}`, the contract's `span_tree` (7.5); `{}` for a call that nobody answered.

    Args:
        row: the call's row, by column.
        entries: its transcript in wire shape, by index.
        events: its events in wire shape, in order.
    """
    if row["answered_at"] is None:
        return {}
    clock = _Clock(row["created_at"])
    turns = _turns(entries)
    tools = _tools(events, clock)
    children = []
    for number, turn in enumerate(turns):
        since = clock.ms(turn[0]["started_at"])
        until = clock.ms(turns[number + 1][0]["started_at"]) if number + 1 < len(turns) else inf
        inside = [tool for tool in tools if since <= tool["start_ms"] < until]
        is_greeting = number == 0 and turn[0]["source"] != "user"
        children.append(_greeting(turn, inside, clock) if is_greeting else _turn(turn, inside, clock))
    last = max([span["end_ms"] for span in children], default=0)
    end = clock.ms(row["ended_at"]) if row["ended_at"] else max(last, clock.ms(row["answered_at"]))
    attributes = {
        "call_id": row["id"],
        "agent_id": row["agent_id"],
        "answered_ms": clock.ms(row["answered_at"]),
        "disconnection_reason": row["disconnection_reason"],
    }
    return {"trace_id": row["id"].replace("-", ""), "root": _span("call", 0, end, attributes, children)}


class _Clock:
    def __init__(self, start: datetime) -> None:
        self._start = start

    def ms(self, at: datetime | str) -> int:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
        return max(0, round((moment - self._start).total_seconds() * 1000))


def _span(name: str, start: int, end: int, attributes: Mapping[str, Any], children: Sequence[Span] = ()) -> Span:
    return {
        "name": name,
        "start_ms": start,
        "end_ms": max(start, end),
        "attributes": {key: value for key, value in attributes.items() if value is not None},
        "children": sorted(children, key=lambda span: span["start_ms"]),
    }


def _turns(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the entries in turns: each begins with what the person says, the first may be the agent's alone."""
    turns: list[list[Entry]] = []
    for entry in entries:
        begins = not turns or (entry["source"] == "user" and any(said["source"] != "user" for said in turns[-1]))
        if begins:
            turns.append([entry])
        else:
            turns[-1].append(entry)
    return turns


def _greeting(turn: Sequence[Entry], tools: Sequence[Span], clock: _Clock) -> Span:
    spoken = [_speech(entry, clock) for entry in turn]
    start, end = _around([*spoken, *tools])
    return _span("greeting", start, end, {"index": turn[0]["index"]}, [*spoken, *tools])


def _turn(turn: Sequence[Entry], tools: Sequence[Span], clock: _Clock) -> Span:
    heard = [entry for entry in turn if entry["source"] == "user"]
    said = [entry for entry in turn if entry["source"] != "user"]
    children = [*_legs(heard, said, clock), *tools, *(_speech(entry, clock) for entry in said)]
    start, end = _around(children)
    legs = {leg: next((entry[leg] for entry in [*said, *heard] if entry.get(leg) is not None), None) for leg in _LEGS}
    attributes = {"index": heard[0]["index"] if heard else turn[0]["index"], **legs}
    attributes["interrupted"] = any(entry["metadata"].get("interrupted") for entry in said) or None
    return _span("turn", start, end, attributes, children)


def _legs(heard: Sequence[Entry], said: Sequence[Entry], clock: _Clock) -> list[Span]:
    if not heard:
        return []
    first, last = heard[0], heard[-1]
    stopped = clock.ms(last["ended_at"] or last["started_at"])
    complete = stopped + round(last["eou_ms"] or 0)
    spans = [_span("stt", clock.ms(first["started_at"]), complete, _who(last))]
    asked = next((entry["llm_ttft_ms"] for entry in said if entry["llm_ttft_ms"] is not None), None)
    if asked is not None:
        spans.append(_span("llm", complete, complete + round(asked), {"ttft_ms": asked}))
    return spans


def _speech(entry: Entry, clock: _Clock) -> Span:
    heard = clock.ms(entry["started_at"])
    begun = max(0, heard - round(entry["tts_ttfb_ms"] or 0))
    attributes = {**_who(entry), "ttfb_ms": entry["tts_ttfb_ms"], "heard_ms": heard}
    return _span("tts", begun, clock.ms(entry["ended_at"] or entry["started_at"]), attributes)


def _who(entry: Entry) -> dict[str, Any]:
    return {"provider": entry["provider"], "model": entry["model"]}


def _tools(events: Sequence[Mapping[str, Any]], clock: _Clock) -> list[Span]:
    """Return a span for each run of a tool; one that never ended is as long as nothing."""
    spans: list[Span] = []
    open_: dict[str, list[Span]] = {}
    for event in events:
        name = str(event["payload"].get("name", ""))
        if event["event_type"] == "tool.started":
            at = clock.ms(event["occurred_at"])
            spans.append(_span("tool", at, at, {"name": name}))
            open_.setdefault(name, []).append(spans[-1])
        elif event["event_type"] == "tool.ended" and open_.get(name):
            span = open_[name].pop(0)
            span["end_ms"] = max(span["start_ms"], clock.ms(event["occurred_at"]))
            span["attributes"]["outcome"] = event["payload"].get("outcome")
    return spans


def _around(spans: Sequence[Span]) -> tuple[int, int]:
    return min(span["start_ms"] for span in spans), max(span["end_ms"] for span in spans)
