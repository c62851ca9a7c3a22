"""What is said instead of what is written (contract 3.9): replacements in text that comes piece by piece.

However the text is cut into pieces, the result is that of the whole: a piece's end is held back only while it may be
the beginning of a term.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping

from agent_worker.domain.speech import SpeechNormalization


class Replacer:
    """Replaces terms in one stream of text, from left to right, the longest that fits; a replacement is not read again.

    Args:
        terms: what is written -> what is said.
        whole_words: whether a term counts only as words of their own, in any case.
    """

    def __init__(self, terms: Mapping[str, str], *, whole_words: bool) -> None:
        self._whole_words = whole_words
        self._said = {self._fold(term): said for term, said in terms.items()}
        self._by_first: dict[str, list[str]] = {}
        for term in sorted(self._said, key=len, reverse=True):
            self._by_first.setdefault(term[0], []).append(term)
        self._held = ""
        self._before = ""

    def push(self, piece: str) -> str:
        """Take more text; return what can be said of it by now."""
        self._held += piece
        return self._take(complete=False)

    def flush(self) -> str:
        """Return what was held back: the text is complete."""
        said = self._take(complete=True)
        self._before = ""
        return said

    def _take(self, *, complete: bool) -> str:
        text, folded = self._held, self._fold(self._held)
        parts: list[str] = []
        at = 0
        while at < len(text):
            candidates = self._by_first.get(folded[at], ())
            if candidates and not (self._whole_words and _in_word(self._before)):
                if not complete and self._undecided(folded, at, candidates):
                    break
                term = next((term for term in candidates if self._fits(folded, at, term)), None)
                if term is not None:
                    parts.append(self._said[term])
                    at += len(term)
                    self._before = text[at - 1]
                    continue
            parts.append(text[at])
            self._before = text[at]
            at += 1
        self._held = text[at:]
        return "".join(parts)

    def _undecided(self, folded: str, at: int, candidates: Iterable[str]) -> bool:
        """Return whether what comes next may make a term, or a longer one, or no whole word after all."""
        left = len(folded) - at
        needed = left + (0 if self._whole_words else 1)
        return any(len(term) >= needed and term.startswith(folded[at:]) for term in candidates)

    def _fits(self, folded: str, at: int, term: str) -> bool:
        end = at + len(term)
        if not folded.startswith(term, at):
            return False
        return not self._whole_words or not _in_word(folded[end : end + 1])

    def _fold(self, text: str) -> str:
        """Return the text in one case, each character still one character."""
        return "".join(map(_lower, text)) if self._whole_words else text


class Wording:
    """The spoken form of one reply, piece by piece."""

    def __init__(self, rules: SpeechNormalization) -> None:
        self._texts = Replacer(rules.text_replacements, whole_words=False)
        self._words = Replacer(rules.pronunciation_dictionary, whole_words=True)

    def push(self, piece: str) -> str:
        """Take more text; return what can be said of it by now."""
        return self._words.push(self._texts.push(piece))

    def flush(self) -> str:
        """Return what was held back: the text is complete."""
        return self._words.push(self._texts.flush()) + self._words.flush()


def changes_speech(rules: SpeechNormalization) -> bool:
    """Return whether there are any rules."""
    return bool(rules.text_replacements or rules.pronunciation_dictionary)


def spoken_form(rules: SpeechNormalization, text: str) -> str:
    """Return what is said for a complete text."""
    wording = Wording(rules)
    return wording.push(text) + wording.flush()


async def spoken_pieces(rules: SpeechNormalization, pieces: AsyncIterable[str]) -> AsyncIterator[str]:
    """Yield what is said for text that comes piece by piece."""
    wording = Wording(rules)
    async for piece in pieces:
        if said := wording.push(piece):
            yield said
    if said := wording.flush():
        yield said


def _lower(character: str) -> str:
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _in_word(character: str) -> bool:
    # letters, digits, the marks many scripts put on letters, and the underscore
    return bool(character) and (character == "_" or unicodedata.category(character)[0] in "LNM")
