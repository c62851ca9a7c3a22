"""What a call is found by, and how a search is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.store.search_words import asked, position_of, words_of

WORDS = words_of("7B0C1f0e-5d0a", ("+12015550101", None), ("Zoë Müller", "asks about her *invoice*, again"))


def is_found(search: str, words: str = WORDS) -> bool:
    """Whether a call with these words is found, as the databases decide it."""
    return any(all(f" {beginning}" in words for beginning in some) for some in asked(search))


@pytest.mark.parametrize(
    "search",
    [
        "müller",
        "MULLER",
        "mül",
        "zoe invoice",
        "invoice, zoë",
        "+12015550101",
        "+1 201",
        "(201) 555-0101",
        "02015550101",
        "0101",
        "7b0c1f0e-5d0a",
        "7b0c1f",
    ],
)
def test_what_finds_a_call(search: str) -> None:
    """Beginnings of words, whatever their case and accents; a number by either end; an id by its beginning."""
    assert is_found(search)


@pytest.mark.parametrize("search", ["uller", "zoe maier", "5550", "555", "5d0a", "", "  ", "*", "'; --", '"', "%", "_"])
def test_what_does_not(search: str) -> None:
    """Neither the middle of a word or a number, nor one of two words alone, nor what is no word at all."""
    assert not is_found(search)


@given(st.text(max_size=300), st.text(max_size=300))
def test_every_search_is_letters_and_digits(search: str, text: str) -> None:
    """Whatever is typed or said, nothing reaches a database that means anything to its query language."""
    for beginning in [word for some in asked(search) for word in some] + words_of("id", (text,), (text,)).split():
        assert beginning.isalnum()
        assert beginning == beginning.casefold()
        assert len(beginning) <= 43


@given(st.text(min_size=1, max_size=80))
def test_a_text_is_found_by_itself(text: str) -> None:
    """What is in a summary finds its call, as far as there is anything in it to find."""
    words = words_of("call", (), (text,))
    assert is_found(text, words) == bool(asked(text))


def test_the_order_of_positions_is_that_of_calls() -> None:
    """A microsecond later is one place further."""
    at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert position_of(at + timedelta(microseconds=1)) == position_of(at) + 1
