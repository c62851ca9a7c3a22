"""Cuts a reply for the synthesiser as it is written: its first clause at once, then whole sentences.

What the caller waits for is the first sound; a clause of three words is enough to begin with, and so is a phrase
of four where the next begins with a small word ("Breakfast is twelve dollars | for each guest"). Later pieces are
whole sentences, because by then the voice is speaking and a sentence sounds better than a clause.
"""

from __future__ import annotations

import re

from livekit.agents import tokenize, utils
from livekit.agents.tokenize.tokenizer import TokenData

FIRST_CLAUSE_WORDS = 3
FIRST_CLAUSE_CHARACTERS = 12
"""A first piece has at least this many words, or this many characters."""

FIRST_PHRASE_WORDS = 4
"""A first piece that ends at no mark has at least this many words."""

PHRASE_STARTS: dict[str, frozenset[str]] = {
    "en": frozenset(
        word
        for line in (
            "about after and at because before but by for from if in into on or right so that until when which",
            "while with without",
        )
        for word in line.split()
    )
}
"""By language, words before which a speaker may take a breath."""

SENTENCE_ENDS = ".?!…"
CLAUSE_ENDS = SENTENCE_ENDS + ",;:"
WIDE_SENTENCE_ENDS = "。！？।؟"
WIDE_CLAUSE_ENDS = WIDE_SENTENCE_ENDS + "，、；：،"
"""Marks of scripts that put no space after them."""

_WORD = re.compile(r"\S+")

CLOSERS = "\"')]}”’»"
ABBREVIATIONS = frozenset(
    word
    for line in (
        "dr mr mrs ms prof st mt ft sr jr rev hon gen sgt capt lt col nos vs etc approx appt dept est ext",
        "tel fig inc ltd co corp bros ave blvd rd hwy jan feb mar apr jun jul aug sep sept oct nov dec mon",
        "tue tues wed thu thur fri sat sun e.g i.e a.m p.m u.s u.k u.s.a d.c ph.d b.a m.a",
        "bzw ca z.b d.h usw nr str hr fr sra srta",
    )
    for word in line.split()
)


def find_cut(text: str, *, first: bool, complete: bool = False) -> int | None:
    """Return how many characters of `text` the next piece has, or None where it cannot be told yet.

    Args:
        first: whether this is the first piece of a reply, which may end at a clause.
        complete: whether `text` is all there is, so that its end is as good as a space.
    """
    ends, wide = (CLAUSE_ENDS, WIDE_CLAUSE_ENDS) if first else (SENTENCE_ENDS, WIDE_SENTENCE_ENDS)
    for index, mark in enumerate(text):
        if mark == "\n":
            cut = index
        elif mark in wide:
            cut = index + 1
        elif mark in ends:
            cut = _after_closers(text, index + 1)
            if cut == len(text) and not complete:
                return None  # "3," may go on as "3,500": what follows decides
            if cut < len(text) and not text[cut].isspace():
                continue
            if mark == "." and _is_abbreviation(text, index):
                continue
        else:
            continue
        if text[:cut].strip() and (not first or _long_enough(text[:cut])):
            return cut
    return None


def find_phrase(text: str, starts: frozenset[str]) -> int | None:
    """Return how many characters the first phrase of a reply has, or None where no phrase ends yet.

    Args:
        starts: words that begin a new phrase; one counts once the word after it has begun.
    """
    for index, word in enumerate(_WORD.finditer(text)):
        if index >= FIRST_PHRASE_WORDS and word.group() in starts and text[word.end() :].strip():
            return word.start()
    return None


def _after_closers(text: str, index: int) -> int:
    while index < len(text) and text[index] in CLOSERS + SENTENCE_ENDS:
        index += 1
    return index


def _is_abbreviation(text: str, dot: int) -> bool:
    word = text[:dot].rsplit(maxsplit=1)[-1] if text[:dot].strip() else ""
    word = word.lstrip("([\"'“‘").lower()
    if word in ABBREVIATIONS:
        return True
    if len(word) == 1 and word.isalpha() and word != "i":
        return True  # an initial, as in "J. Smith"
    return word.isdigit() and text[:dot].strip().lower() == word  # the number of a list's item


def _long_enough(piece: str) -> bool:
    stripped = piece.strip()
    return len(stripped.split()) >= FIRST_CLAUSE_WORDS or len(stripped) >= FIRST_CLAUSE_CHARACTERS


class FirstClauseTokenizer(tokenize.SentenceTokenizer):
    """A sentence tokenizer whose first piece is a clause.

    Args:
        language: two letters; where its phrases are known, the first piece may be one. "" = marks alone.
    """

    def __init__(self, language: str = "") -> None:
        self._starts = PHRASE_STARTS.get(language, frozenset())

    def tokenize(self, text: str, *, language: str | None = None) -> list[str]:
        """Return the pieces of a complete text, as a stream gives them when it comes word by word."""
        cuts = [find_cut(text, first=True, complete=True), find_phrase(text, self._starts)]
        cut = min((cut for cut in cuts if cut is not None), default=len(text))
        pieces = [text[:cut], *_pieces(text[cut:].lstrip(), first=False)]
        return [piece.strip() for piece in pieces if piece.strip()]

    def stream(self, *, language: str | None = None) -> FirstClauseStream:
        """Return a stream for one reply."""
        return FirstClauseStream(self._starts)


class FirstClauseStream(tokenize.SentenceStream):
    """Takes tokens, gives pieces; after a flush the next text counts as a new reply."""

    def __init__(self, starts: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._starts = starts
        self._text = ""
        self._first = True
        self._segment_id = utils.shortuuid()

    def push_text(self, text: str) -> None:
        """Take more text; whatever is ready becomes readable at once."""
        self._check_not_closed()
        self._text += text
        while (cut := self._next_cut()) is not None:
            self._emit(self._text[:cut])
            self._text = self._text[cut:].lstrip()

    def _next_cut(self) -> int | None:
        cut = find_cut(self._text, first=self._first)
        return find_phrase(self._text, self._starts) if cut is None and self._first else cut

    def flush(self) -> None:
        """Give what is left, complete or not."""
        self._check_not_closed()
        for piece in _pieces(self._text, first=self._first):
            self._emit(piece)
        self._text = ""
        self._first = True
        self._segment_id = utils.shortuuid()

    def end_input(self) -> None:
        """Flush and end the stream."""
        self.flush()
        self._do_close()

    async def aclose(self) -> None:
        """End the stream; what was not flushed is dropped."""
        self._do_close()

    def _emit(self, piece: str) -> None:
        self._event_ch.send_nowait(TokenData(segment_id=self._segment_id, token=piece.strip()))
        self._first = False


def _pieces(text: str, *, first: bool) -> list[str]:
    pieces: list[str] = []
    while text.strip():
        cut = find_cut(text, first=first and not pieces, complete=True) or len(text)
        pieces.append(text[:cut])
        text = text[cut:].lstrip()
    return pieces
