"""The tokenizer that hands a synthesiser the first clause of a reply early."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.providers.first_clause import FirstClauseTokenizer


def in_pieces(tokens: list[str]) -> list[list[str]]:
    """Return what becomes readable after each token, and last what the end of the input gives."""

    async def run() -> list[list[str]]:
        stream = FirstClauseTokenizer().stream()
        seen: list[list[str]] = []
        for token in tokens:
            stream.push_text(token)
            seen.append(drain(stream))
        stream.end_input()
        seen.append([event.token async for event in stream])
        return seen

    return asyncio.run(run())


def drain(stream: object) -> list[str]:
    """Return what is readable now without waiting."""
    channel = stream._event_ch  # type: ignore[attr-defined]
    found = []
    while channel.qsize():
        found.append(channel.recv_nowait().token)
    return found


def whole(tokens: list[str]) -> list[str]:
    return [piece for pieces in in_pieces(tokens) for piece in pieces]


def words(text: str) -> list[str]:
    """Return the text in tokens, as a model writes them: with the space in front."""
    head, *rest = text.split(" ")
    return [head, *(f" {word}" for word in rest)]


def test_the_first_clause_is_handed_over_before_the_sentence_is_complete() -> None:
    """A reply's first clause is readable as soon as the word after its comma begins."""
    seen = in_pieces(words("Yes of course, I can help you with that. What is your name?"))
    assert seen[3] == ["Yes of course,"]
    assert whole(words("Yes of course, I can help you with that. What is your name?")) == [
        "Yes of course,",
        "I can help you with that.",
        "What is your name?",
    ]


def test_a_clause_that_is_too_short_waits_for_the_next_boundary() -> None:
    """`Sure,` alone is no beginning: the voice would stop after one word."""
    assert whole(words("Sure, let me look that up. One moment.")) == [
        "Sure, let me look that up.",
        "One moment.",
    ]


def test_commas_end_only_the_first_piece() -> None:
    """Later pieces are whole sentences."""
    text = "Good morning to you, how are you? I am fine, thank you, and well."
    assert whole(words(text)) == ["Good morning to you,", "how are you?", "I am fine, thank you, and well."]


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [
        (
            ["That costs about 3", ",", "500", " dollars, roughly."],
            ["That costs about 3,500 dollars,", "roughly."],
        ),
        (["It weighs around 2", ".", "5", " kilos. Fine."], ["It weighs around 2.5 kilos.", "Fine."]),
        (["We open at 10", ":", "30", " today. Bye."], ["We open at 10:30 today.", "Bye."]),
        (words("Please ask for Dr. Smith at the desk."), ["Please ask for Dr. Smith at the desk."]),
        (words("Come in before 5 p.m. on Monday. Bye."), ["Come in before 5 p.m. on Monday.", "Bye."]),
        (words("Write to J. Miller about it. Bye."), ["Write to J. Miller about it.", "Bye."]),
        (words("Bring fruit, e.g. apples, with you."), ["Bring fruit,", "e.g. apples, with you."]),
    ],
)
def test_numbers_and_abbreviations_are_never_split(tokens: list[str], pieces: list[str]) -> None:
    """A mark inside a number or after an abbreviation is no boundary, wherever the tokens fall."""
    assert whole(tokens) == pieces


def test_quotes_and_ellipses_stay_with_their_sentence() -> None:
    """What closes a sentence belongs to it."""
    assert whole(words('She just said "hello there." Then she left... I think.')) == [
        'She just said "hello there."',
        "Then she left...",
        "I think.",
    ]


def test_scripts_without_spaces_are_cut_at_their_own_marks() -> None:
    """A full-width mark ends a piece at once."""
    text = "\u60a8\u597d\uff0c\u611f\u8c22\u81f4\u7535\u6211\u4eec\u8bca\u6240\u3002\u8bf7\u95ee\u6709\u4ec0\u4e48\u53ef\u4ee5\u5e2e\u60a8\uff1f"
    assert whole(list(text)) == [text[:12], text[12:]]


def test_a_flush_gives_what_is_left_and_starts_a_new_reply() -> None:
    """After a flush the first clause counts again."""

    async def run() -> list[tuple[str, str]]:
        stream = FirstClauseTokenizer().stream()
        stream.push_text("No end in sight")
        stream.flush()
        stream.push_text("And a new reply, which goes on")
        stream.end_input()
        return [(event.token, event.segment_id) async for event in stream]

    found = asyncio.run(run())
    assert [token for token, _ in found] == ["No end in sight", "And a new reply,", "which goes on"]
    assert found[0][1] != found[1][1] == found[2][1]


def test_a_closed_stream_takes_nothing_more() -> None:
    """Text after the end is a mistake that is told."""

    async def run() -> None:
        stream = FirstClauseTokenizer().stream()
        stream.end_input()
        with pytest.raises(RuntimeError):
            stream.push_text("late")

    asyncio.run(run())


@given(st.lists(st.text(alphabet="ab1 ,.?!:;\n\"'。,", max_size=12), max_size=12))
def test_no_character_is_lost_or_invented(tokens: list[str]) -> None:
    """Whatever the tokens, the pieces hold the text's characters in order, spaces aside."""
    text = "".join(tokens)
    assert "".join("".join(whole(tokens)).split()) == "".join(text.split())


@given(st.text(alphabet="ab1 ,.?!\n", max_size=60), st.integers(1, 7))
def test_where_tokens_fall_does_not_matter(text: str, size: int) -> None:
    """The same text gives the same pieces, however a model cuts it into tokens."""
    tokens = [text[start : start + size] for start in range(0, len(text), size)]
    assert whole(tokens) == FirstClauseTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        ("Breakfast is twelve dollars for each of our guests. More?", "Breakfast is twelve dollars"),
        ("We are at number ten in Harbour Street, right beside the station.", "We are at number ten"),
        ("Yes of course, we have a room for you.", "Yes of course,"),
        ("The forest walk takes one hour.", "The forest walk takes one hour."),
        ("It is open for all of you.", "It is open for all of you."),
    ],
)
async def test_a_first_phrase_ends_before_a_small_word(reply: str, first: str) -> None:
    """Where no mark ends the first clause early, four words are enough; a word's beginning is not taken for it."""
    stream = FirstClauseTokenizer("en").stream()
    for token in re.findall(r"\s*\S+", reply):
        stream.push_text(token)
    stream.end_input()
    pieces = [event.token async for event in stream]
    assert pieces[0] == first
    assert " ".join(pieces) == reply


async def test_phrases_are_known_in_their_own_language_only() -> None:
    """Another language's reply is cut at its marks alone."""
    stream = FirstClauseTokenizer("de").stream()
    stream.push_text("Wir haben heute Abend noch for alle in Haus ")
    stream.end_input()
    assert [event.token async for event in stream] == ["Wir haben heute Abend noch for alle in Haus"]
