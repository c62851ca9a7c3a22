"""What a model is asked about a call that is over: the instructions, the transcript as data, the form as a schema."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent_worker.control.extraction import field_schema
from agent_worker.control.outcome import HOW_IT_ENDED, Outcome
from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.lifecycle_hook import ExtractionField
from agent_worker.prompting.liquid import render
from agent_worker.providers.structured import Question

MOST_TRANSCRIPT_CHARS = 60_000
"""What is left of a longer transcript are its beginning and its end, about half each."""

MOST_ENTRY_CHARS = 4_000

OPEN_OUTCOMES = (
    Outcome.COMPLETED,
    Outcome.CALLBACK_SCHEDULED,
    Outcome.MESSAGE_TAKEN,
    Outcome.ABANDONED,
    Outcome.FAILED,
    Outcome.UNKNOWN,
)
"""What a model may choose from where the facts leave it open: nobody was transferred because a model says so."""

LEFT_OPEN = frozenset({Outcome.COMPLETED, Outcome.ABANDONED, Outcome.UNKNOWN})
"""Outcomes that follow from little more than who spoke; every other one is a fact and stands."""


@dataclass(frozen=True)
class CallToAnalyse:
    """What is known of a call when it is analysed.

    Attributes:
        direction: `inbound` or `outbound`.
        language: BCP 47 tag.
        timezone: the agent's, IANA name.
        at: when the call ended, aware; what "tomorrow" is counted from.
        outcome: what the facts say of it.
        entries: the transcript in wire shape, by index.
        fields: what to extract, by name.
    """

    direction: str
    language: str
    timezone: str
    at: datetime
    reason: DisconnectionReason | None
    outcome: Outcome
    entries: Sequence[Mapping[str, Any]]
    fields: Sequence[ExtractionField] = ()

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What may be answered."""
        return OPEN_OUTCOMES if self.outcome in LEFT_OPEN else (self.outcome,)

    @property
    def person(self) -> str:
        """Who the agent spoke with."""
        return "callee" if self.direction == "outbound" else "caller"

    @property
    def worth_asking(self) -> bool:
        """Whether the person said anything."""
        return any(entry["source"] == "user" and entry["text"].strip() for entry in self.entries)


@dataclass(frozen=True)
class Asked:
    """A question, and what its answer is checked against.

    Attributes:
        canary: in the instructions and nowhere else.
        left_out: how many entries in the middle of the transcript the model does not see.
    """

    question: Question
    canary: str
    left_out: int


def analysis_question(call: CallToAnalyse, template: str) -> Asked:
    """Return the question about this call.

    Args:
        template: the prompt `call-analysis`, in Liquid.

    Raises:
        ConfigError: the template cannot be filled in.
    """
    fence, canary = f"=== {secrets.token_hex(8)} ===", secrets.token_hex(12)
    values = {
        "direction": call.direction,
        "person": call.person,
        "ended": call.at.astimezone(ZoneInfo(call.timezone)).strftime("%A, %Y-%m-%d at %H:%M"),
        "timezone": call.timezone,
        "how_it_ended": HOW_IT_ENDED[call.reason].replace("caller", call.person) if call.reason else "It goes on.",
        "language": call.language,
        "fence": fence,
        "canary": canary,
        "has_fields": bool(call.fields),
    }
    lines, left_out = transcript_lines(call)
    material = "\n".join([fence, *lines, fence])
    instructions = render(template, values, {}).text
    return Asked(Question(instructions, material, answer_schema(call), "call_analysis"), canary, left_out)


def transcript_lines(call: CallToAnalyse) -> tuple[list[str], int]:
    """Return the transcript, a JSON object a line, and how many entries were left out of its middle."""
    lines = [
        json.dumps({"who": _who(call, entry), "said": _cut(entry["text"])}, ensure_ascii=False)
        for entry in call.entries
        if entry["text"].strip()
    ]
    if sum(map(len, lines)) <= MOST_TRANSCRIPT_CHARS:
        return lines, 0
    head, tail = _fitting(lines), _fitting(lines[::-1])
    left_out = len(lines) - head - tail
    note = json.dumps({"left_out": f"{left_out} entries in the middle of a long call"})
    return [*lines[:head], note, *lines[len(lines) - tail :]], left_out


def _fitting(lines: Sequence[str]) -> int:
    size = 0
    for count, line in enumerate(lines):
        size += len(line)
        if size > MOST_TRANSCRIPT_CHARS // 2:
            return count
    return len(lines)


def _who(call: CallToAnalyse, entry: Mapping[str, Any]) -> str:
    return call.person if entry["source"] == "user" else str(entry["source"])


def _cut(text: str) -> str:
    return text if len(text) <= MOST_ENTRY_CHARS else text[: MOST_ENTRY_CHARS - 1] + "…"


def answer_schema(call: CallToAnalyse) -> dict[str, Any]:
    """Return the schema of the answer: every key required, unknown ones refused, as strict servers want it."""
    keys: dict[str, Any] = {
        "summary": {"type": "string"},
        "outcome": {"type": "string", "enum": [outcome.value for outcome in call.outcomes]},
        "customer_name": _TEXT,
        "customer_request": _TEXT,
        "general_success": {"type": ["boolean", "null"]},
        "final_score": {"type": "integer", "enum": list(range(1, 11))},
        "score_reason": {"type": "string"},
        "details": {"type": "array", "items": _object({"name": {"type": "string"}, "value": {"type": "string"}})},
        "callback": _object(
            {"requested": {"type": "boolean"}, "when_said": _TEXT, "local_time": _TEXT, "reason": _TEXT}
        ),
    }
    if call.fields:
        keys["fields"] = _object({field.name: field_schema(field) for field in call.fields})
    return _object(keys)


_TEXT = {"type": ["string", "null"]}


def _object(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(keys), "required": list(keys), "additionalProperties": False}
