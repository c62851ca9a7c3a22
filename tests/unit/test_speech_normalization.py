"""What is said instead of what is written, however the text is cut into pieces."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.call.speech_normalization import Wording, spoken_form, spoken_pieces
from agent_worker.domain.speech import SpeechNormalization

ALPHABET = st.text("aAbB ,.é'ß1", max_size=40)
TERMS = st.dictionaries(st.text("aAbB .'é1", min_size=1, max_size=4), st.text("aAxy ", max_size=4), max_size=4)
RULES = st.builds(
    lambda texts, words: SpeechNormalization(text_replacements=texts, pronunciation_dictionary=words), TERMS, TERMS
)


def rules(texts: dict[str, str] | None = None, words: dict[str, str] | None = None) -> SpeechNormalization:
    return SpeechNormalization(text_replacements=texts or {}, pronunciation_dictionary=words or {})


def in_pieces(form: SpeechNormalization, pieces: list[str]) -> str:
    wording = Wording(form)
    return "".join(map(wording.push, pieces)) + wording.flush()


@given(form=RULES, pieces=st.lists(ALPHABET, max_size=12))
def test_how_the_text_is_cut_never_changes_the_result(form: SpeechNormalization, pieces: list[str]) -> None:
    """A term split over any number of pieces is found all the same."""
    assert in_pieces(form, pieces) == spoken_form(form, "".join(pieces))


@given(texts=TERMS, text=ALPHABET)
def test_replacements_are_exact_and_the_longest_wins(texts: dict[str, str], text: str) -> None:
    """The result is that of one pass of a regular expression that tries long terms first."""
    expected = text
    if texts:
        either = "|".join(re.escape(term) for term in sorted(texts, key=len, reverse=True))
        expected = re.sub(either, lambda match: texts[match[0]], text)
    assert spoken_form(rules(texts), text) == expected


@given(text=ALPHABET, word=st.sampled_from(["ab", "a", "b1", "A b"]))
def test_the_dictionary_takes_whole_words_in_any_case(text: str, word: str) -> None:
    """The result is that of a regular expression with word boundaries that ignores case."""
    expected = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "«said»", text, flags=re.IGNORECASE)
    assert spoken_form(rules(words={word: "«said»"}), text) == expected


@given(pieces=st.lists(ALPHABET, max_size=8))
def test_without_rules_every_piece_passes_as_it_comes(pieces: list[str]) -> None:
    """Nothing is held back from a voice where there is nothing to look for."""
    wording = Wording(rules())
    assert [wording.push(piece) for piece in pieces] == pieces


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        (
            rules(words={"SQL": "sequel"}),
            "Our sql, MySQL and SQL's are fine.",
            "Our sequel, MySQL and sequel's are fine.",
        ),
        (rules(words={"C++": "see plus plus"}), "I write C++.", "I write see plus plus."),
        (rules(words={"Müller": "Mueller"}), "Herr MÜLLER, Müllers", "Herr Mueller, Müllers"),
        (rules(texts={"€": " euros"}), "12€.", "12 euros."),
        (rules(texts={"Mo-Fr": "Monday to Friday"}), "Mo-Fr, mo-fr", "Monday to Friday, mo-fr"),
        (rules(texts={"a": "b"}, words={"b": "c"}), "a b", "c c"),
        (rules(texts={"a": "aa"}), "aa", "aaaa"),
        (rules(words={"New York": "Nu Jork", "New": "Nu"}), "new york, new", "Nu Jork, Nu"),
        (rules(words={"कम": "X"}), "कम काम कमी", "X काम कमी"),
    ],
)
def test_examples(form: SpeechNormalization, text: str, said: str) -> None:
    """Words, marks, other scripts; replacements first, then the dictionary; a replacement is not replaced again."""
    assert spoken_form(form, text) == said


def test_only_what_may_become_a_term_is_held_back() -> None:
    """The beginning of a reply reaches the voice at once."""
    wording = Wording(rules(words={"Okafor": "oh-KAH-for"}))
    assert wording.push("Mister ") == "Mister "
    assert wording.push("Oka") == ""
    assert wording.push("pi is") == "Okapi is"
    assert wording.push(" Okafor") == " "
    assert wording.push("!") == "oh-KAH-for!"
    assert wording.flush() == ""


async def test_a_reply_of_pieces_ends_with_what_was_held_back() -> None:
    """The last word counts although nothing follows it."""

    async def pieces() -> object:
        for piece in ("Call S", "QL", " now", ", SQ", "L"):
            yield piece

    said = [piece async for piece in spoken_pieces(rules(words={"SQL": "sequel"}), pieces())]  # type: ignore[arg-type]
    assert "".join(said) == "Call sequel now, sequel"
    assert all(said)
