"""The words a call is found by, and how a search is read: pure, the same on every database.

A word is letters and digits only, folded: no case, no accents. What is searched for is a beginning of words; a
number is found by its beginning or by its end, a call id by its beginning.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

MOST_WORDS = 400
MOST_ASKED = 12
WORD_CHARS = 40
LEAST_DIGITS = 4
"""A number is found by this many of its digits or more."""

_ID, _NUMBER, _BACKWARDS = "id", "tel", "rev"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_WORD = re.compile(r"[\W_]+")
_DIALLED = re.compile(r"[\d\s()./+-]+")


Alternative = tuple[str, ...]
"""Beginnings of words, all of which must be there."""


def words_of(call_id: str, numbers: Iterable[str | None], texts: Iterable[str | None]) -> str:
    """Return what a call is found by: words, each with a space before and after it, each once."""
    found = [_ID + "".join(_split(call_id))[:WORD_CHARS]]
    for number in numbers:
        digits = _digits(number or "")[:WORD_CHARS]
        if digits:
            found += [_NUMBER + digits, _BACKWARDS + digits[::-1]]
    for text in texts:
        found += [word[:WORD_CHARS] for word in _split(text or "")]
    return f" {' '.join(list(dict.fromkeys(found))[:MOST_WORDS])} "


def asked(search: str) -> list[Alternative]:
    """Read what somebody typed: a call is found by any of these; none where there is neither letter nor digit in it."""
    words = tuple(dict.fromkeys(word[:WORD_CHARS] for word in _split(search)))[:MOST_ASKED]
    if not words:
        return []
    alternatives = [words]
    if not any(character.isspace() for character in search.strip()):
        alternatives.append((_ID + "".join(words)[:WORD_CHARS],))
    digits = _digits(search)[:WORD_CHARS]
    if len(digits) >= LEAST_DIGITS and _DIALLED.fullmatch(search):
        # people write a number with the zeros of their own country before it
        ends = digits.lstrip("0") or digits
        alternatives += [(_NUMBER + ends,), (_BACKWARDS + ends[::-1],)]
    return alternatives


def position_of(created_at: datetime) -> int:
    """Return a call's place in the order of calls."""
    return (created_at - _EPOCH) // timedelta(microseconds=1)


def _split(text: str) -> list[str]:
    letters = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [word for word in _NO_WORD.split(letters.casefold()) if word]


def _digits(text: str) -> str:
    # isdecimal() also takes the digits of other scripts, which int() turns into ours
    return "".join(str(int(character)) for character in text if character.isdecimal())
