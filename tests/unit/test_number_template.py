"""A number's template with the numbers of one call filled in."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.number_template import MAX_DEPTH, MAX_TOKEN_CHARS, fill_tokens

TOKENS = {"callerNumber": "+12015550101", "dialedNumber": "+12015550199", "forwardedFromNumber": None}


def test_tokens_are_filled_in_wherever_text_is() -> None:
    """In nested objects and lists, with and without blanks inside the braces, alone and in a sentence."""
    template = {
        "tenant": "acme",
        "caller": "{{callerNumber}}",
        "lines": [{"to": "{{ dialedNumber }}"}, "from {{callerNumber}} to {{dialedNumber}}"],
        "count": 3,
        "active": True,
        "nothing": None,
    }
    assert fill_tokens(template, TOKENS) == {
        "tenant": "acme",
        "caller": "+12015550101",
        "lines": [{"to": "+12015550199"}, "from +12015550101 to +12015550199"],
        "count": 3,
        "active": True,
        "nothing": None,
    }


def test_a_token_without_a_value_is_null_alone_and_empty_in_a_text() -> None:
    """A call that was not forwarded has null in its metadata, not the word None."""
    filled = fill_tokens({"from": "{{forwardedFromNumber}}", "note": "via {{forwardedFromNumber}}."}, TOKENS)
    assert filled == {"from": None, "note": "via ."}


def test_other_braces_stay() -> None:
    """A variable of a Liquid text, an unknown token and a key are nobody's business here."""
    template = {
        "{{callerNumber}}": "{{name}} {{ name | default: 'x' }} {{callernumber}} {callerNumber}",
        "alone": "{{unknown}}",
    }
    assert fill_tokens(template, TOKENS) == template


def test_texts_that_are_filled_in_later_are_left_alone() -> None:
    """Top-level keys named verbatim stay; the same names further down do not."""
    template = {"firstMessage": "{{callerNumber}}", "metadata": {"firstMessage": "{{callerNumber}}"}}
    assert fill_tokens(template, TOKENS, verbatim=("firstMessage",)) == {
        "firstMessage": "{{callerNumber}}",
        "metadata": {"firstMessage": "+12015550101"},
    }


def test_a_value_is_not_filled_in_again() -> None:
    """What a caller sends as a number is text, whatever braces it has."""
    tokens = {"callerNumber": "{{dialedNumber}}", "dialedNumber": "{{callerNumber}}"}
    assert fill_tokens({"a": "{{callerNumber}}", "b": "<{{dialedNumber}}{{callerNumber}}>"}, tokens) == {
        "a": "{{dialedNumber}}",
        "b": "<{{callerNumber}}{{dialedNumber}}>",
    }


def test_depth_and_size_are_bounded() -> None:
    """What is nested beyond any sense is kept as it stands, and a long value is cut."""
    deep: Any = "{{callerNumber}}"
    for _ in range(2 * MAX_DEPTH):
        deep = [deep]
    filled = fill_tokens({"deep": deep, "long": "{{callerNumber}}" * 3}, {"callerNumber": "9" * 10_000})
    assert filled["deep"] == deep
    assert len(filled["long"]) == 3 * MAX_TOKEN_CHARS


def test_many_values_take_no_time() -> None:
    """A template at the limit of its size, all of it open braces, is done at once."""
    started = time.process_time()
    fill_tokens({"a": "{{" * 30_000, "b": "{{ " + " " * 60_000, "c": ["{{callerNumber}}"] * 20_000}, TOKENS)
    assert time.process_time() - started < 1


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=8), max_size=4)
)
def test_without_tokens_nothing_changes(template: dict[str, Any]) -> None:
    """A template that names no token is what it was."""
    assert fill_tokens(template, {}) == template
