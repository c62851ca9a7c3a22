"""What a model answered about a call, made safe: types enforced, facts not overruled, nothing of our own in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent_worker.control.analysis_question import Asked, CallToAnalyse
from agent_worker.control.extraction import typed
from agent_worker.control.outcome import Outcome
from agent_worker.control.spoken_time import callback_time
from agent_worker.domain.plain_json import read_json
from agent_worker.providers.structured import NoAnswer

SUMMARY_CHARS = 4_000
TEXT_CHARS = 1_000
MOST_DETAILS = 30

SPAN_CHARS = 60
"""So much of the instructions in one piece is no coincidence."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class _Detail(_Strict):
    name: str
    value: str


class _Callback(_Strict):
    requested: bool = False
    when_said: str | None = None
    local_time: str | None = None
    reason: str | None = None


class _Form(_Strict):
    summary: str
    outcome: str
    customer_name: str | None = None
    customer_request: str | None = None
    general_success: bool | None = None
    final_score: int = Field(ge=1, le=10)
    score_reason: str | None = None
    details: list[_Detail] = Field(default_factory=list)
    callback: _Callback | None = None
    fields: dict[str, Any] | None = None


@dataclass(frozen=True)
class Callback:
    """A callback the person asked for.

    Attributes:
        at: when, aware; None where they named no time, or none that can be kept.
        when_said: the time in their own words.
    """

    at: datetime | None
    when_said: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Analysis:
    """An answer that can be kept."""

    summary: str
    outcome: Outcome
    final_score: int
    score_reason: str | None = None
    customer_name: str | None = None
    customer_request: str | None = None
    general_success: bool | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    custom_data: Mapping[str, Any] = field(default_factory=dict)
    callback: Callback | None = None


def read_analysis(text: str, asked: Asked, call: CallToAnalyse) -> Analysis:
    """Return what the answer says.

    Raises:
        NoAnswer: it is no such form, or it says what our instructions say.
    """
    form = _form(text)
    if _leaks(form, asked):
        raise NoAnswer("prompt_leaked")
    callback = _callback(form.callback, call)
    return Analysis(
        summary=_short(form.summary, SUMMARY_CHARS) or "",
        outcome=_outcome(form.outcome, callback, call),
        final_score=form.final_score,
        score_reason=_short(form.score_reason),
        customer_name=_short(form.customer_name),
        customer_request=_short(form.customer_request),
        general_success=form.general_success,
        details=_details(form.details),
        custom_data={field.name: typed((form.fields or {}).get(field.name), field) for field in call.fields},
        callback=callback,
    )


def _form(text: str) -> _Form:
    start, end = text.find("{"), text.rfind("}")  # some models put a fence around it
    try:
        form = _Form.model_validate(read_json(text[start : end + 1]))
    except (ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise NoAnswer("answer_not_the_form" if isinstance(error, ValidationError) else "answer_not_json") from error
    if not form.summary.strip():
        raise NoAnswer("answer_without_summary")
    return form


def _leaks(form: _Form, asked: Asked) -> bool:
    instructions = _folded(asked.question.instructions)
    pieces = [instructions[at : at + SPAN_CHARS] for at in range(0, len(instructions) - SPAN_CHARS, SPAN_CHARS)]
    for said in map(_folded, _texts(form.model_dump())):
        if asked.canary in said or any(piece in said for piece in pieces):
            return True
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _outcome(said: str, callback: Callback | None, call: CallToAnalyse) -> Outcome:
    allowed = {outcome.value: outcome for outcome in call.outcomes}
    outcome = allowed.get(said.strip().lower(), call.outcome)
    if outcome is Outcome.CALLBACK_SCHEDULED and outcome is not call.outcome and (not callback or not callback.at):
        return call.outcome  # none was: there is no time to call at
    return outcome


def _callback(said: _Callback | None, call: CallToAnalyse) -> Callback | None:
    if said is None or not said.requested:
        return None
    at = callback_time(said.when_said, said.local_time, call.at, call.timezone)
    return Callback(at, _short(said.when_said, 200), _short(said.reason))


def _details(said: list[_Detail]) -> dict[str, str]:
    details: dict[str, str] = {}
    for detail in said:
        name = re.sub(r"\W+", "_", detail.name.strip().lower()).strip("_")[:64]
        value = _short(detail.value)
        if name and value and len(details) < MOST_DETAILS:
            details.setdefault(name, value)
    return details


def _short(text: str | None, limit: int = TEXT_CHARS) -> str | None:
    kept = (text or "").strip()
    return (kept if len(kept) <= limit else kept[: limit - 1] + "…") or None
