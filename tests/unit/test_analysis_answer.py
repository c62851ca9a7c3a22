"""What a model answered about a call: types enforced, facts not overruled, our instructions not repeated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.control.analysis_answer import SUMMARY_CHARS, Analysis, read_analysis
from agent_worker.control.analysis_question import Asked, CallToAnalyse, analysis_question
from agent_worker.control.extraction import extraction_fields
from agent_worker.control.outcome import Outcome
from agent_worker.providers.structured import NoAnswer
from tests.unit.test_analysis_question import TEMPLATE, call

FORM: dict[str, Any] = {
    "summary": "Maya asked for a call back.",
    "outcome": "completed",
    "customer_name": "Maya",
    "customer_request": "A call back.",
    "general_success": True,
    "final_score": 8,
    "score_reason": "It went well.",
    "details": [{"name": "Order number", "value": "77"}],
    "callback": {"requested": False, "when_said": None, "local_time": None, "reason": None},
}
FIELDS = extraction_fields(
    [
        {"name": "topic", "type": "string", "description": "What about?"},
        {"name": "amount", "type": "number", "description": "How much?"},
        {"name": "urgent", "type": "boolean", "description": "Is it urgent?"},
        {"name": "size", "type": "enum", "description": "How big?", "options": ["Big", "Small"]},
    ]
)
CALL = call(("user", "Hello."), fields=FIELDS)


def read(form: Any, of: CallToAnalyse = CALL, asked: Asked | None = None) -> Analysis:
    text = form if isinstance(form, str) else json.dumps(form)
    return read_analysis(text, asked or analysis_question(of, TEMPLATE), of)


def refusal(form: Any, asked: Asked | None = None) -> str:
    with pytest.raises(NoAnswer) as error:
        read(form, asked=asked)
    return str(error.value)


def test_a_good_form_is_kept() -> None:
    """Every key arrives; a detail's name becomes a key."""
    found = read(FORM)
    assert (found.summary, found.outcome, found.final_score) == (FORM["summary"], Outcome.COMPLETED, 8)
    assert (found.customer_name, found.general_success) == ("Maya", True)
    assert found.details == {"order_number": "77"}
    assert found.callback is None


def test_a_form_in_a_fence_is_a_form() -> None:
    """Models that no server holds to a schema like to wrap it."""
    assert read(f"Here you are:\n```json\n{json.dumps(FORM)}\n```\n").customer_name == "Maya"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "answer_not_json"),
        ("I am sorry, I cannot do that.", "answer_not_json"),
        ('{"summary": ', "answer_not_json"),
        ("[1, 2]", "answer_not_json"),
        ('{"summary": NaN}', "answer_not_json"),
        ("{}", "answer_not_the_form"),
        (json.dumps(FORM | {"final_score": 11}), "answer_not_the_form"),
        (json.dumps(FORM | {"final_score": "8"}), "answer_not_the_form"),
        (json.dumps(FORM | {"summary": ["a"]}), "answer_not_the_form"),
        (json.dumps(FORM | {"general_success": "yes"}), "answer_not_the_form"),
        (json.dumps(FORM | {"summary": "  "}), "answer_without_summary"),
        ('{"a":' * 5_000 + "1" + "}" * 5_000, "answer_not_json"),
    ],
)
def test_what_is_no_form_is_no_answer(text: str, code: str) -> None:
    """The code says what is wrong and quotes nobody."""
    assert refusal(text) == code


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("topic", "repairs", "repairs"),
        ("topic", 7, None),
        ("topic", "", None),
        ("amount", 7, 7),
        ("amount", 7.5, 7.5),
        ("amount", "7", None),
        ("amount", True, None),
        ("urgent", False, False),
        ("urgent", "true", None),
        ("urgent", 1, None),
        ("size", "big", "Big"),
        ("size", "huge", None),
        ("size", {"a": 1}, None),
    ],
)
def test_extracted_values_have_their_type_or_are_null(name: str, value: Any, kept: Any) -> None:
    """A value of another type is as good as none; every field is there."""
    found = read(FORM | {"fields": {name: value, "unasked": "x"}}).custom_data
    assert found == dict.fromkeys(("topic", "amount", "urgent", "size")) | {name: kept}


@pytest.mark.parametrize("said", ["transferred", "voicemail", "no_answer", "gloriously", "", "COMPLETED; busy"])
def test_a_word_outside_the_offer_gives_way_to_the_facts(said: str) -> None:
    """Nobody was transferred because a transcript made a model say so."""
    assert read(FORM | {"outcome": said}).outcome is Outcome.COMPLETED


def test_a_fact_is_not_overruled() -> None:
    """A call that was transferred stays so, whatever the answer."""
    moved = call(("user", "Hello."), outcome=Outcome.TRANSFERRED)
    assert read(FORM | {"outcome": "abandoned"}, moved).outcome is Outcome.TRANSFERRED


def test_a_callback_needs_a_time_to_be_scheduled() -> None:
    """With one it is the outcome; without, it is asked for and not scheduled."""
    asked = {"requested": True, "when_said": "tomorrow at three", "local_time": None, "reason": "A repair."}
    found = read(FORM | {"outcome": "callback_scheduled", "callback": asked})
    assert found.outcome is Outcome.CALLBACK_SCHEDULED
    assert found.callback is not None
    assert str(found.callback.at) == "2026-03-03 15:00:00+01:00"
    vague = read(FORM | {"outcome": "callback_scheduled", "callback": asked | {"when_said": "some time"}})
    assert vague.outcome is Outcome.COMPLETED
    assert vague.callback is not None
    assert vague.callback.at is None


def test_the_canary_gives_a_leak_away() -> None:
    """An answer with the mark of the instructions in it is refused, wherever it stands."""
    asked = analysis_question(CALL, TEMPLATE)
    assert refusal(FORM | {"customer_name": f"mark {asked.canary.upper()}"}, asked) == "prompt_leaked"
    assert refusal(FORM | {"details": [{"name": asked.canary, "value": "x"}]}, asked) == "prompt_leaked"


@given(st.data())
def test_no_long_piece_of_the_instructions_gets_out(data: st.DataObject) -> None:
    """Any piece of the instructions twice as long as what we look for is found, however its lines are broken."""
    asked = analysis_question(CALL, TEMPLATE)
    words = asked.question.instructions.split()
    start = data.draw(st.integers(0, len(words) - 60))
    piece = data.draw(st.sampled_from(["\n", "  ", " "])).join(words[start : start + 60])
    assert refusal(FORM | {"summary": f"The rules are: {piece}"}, asked) == "prompt_leaked"


def test_long_texts_are_cut() -> None:
    """No answer makes a report of any size."""
    found = read(
        FORM | {"summary": "x" * 100_000, "customer_name": "y" * 100_000, "details": [FORM["details"][0]] * 500}
    )
    assert len(found.summary) == SUMMARY_CHARS
    assert len(found.customer_name or "") <= 1_000
    assert len(found.details) == 1


def test_half_a_surrogate_pair_can_be_stored() -> None:
    """What a model streams in pieces does not break the database."""
    text = json.dumps(FORM | {"summary": "Hello \ud83d!"})
    assert read(text).summary.encode().startswith(b"Hello ")
