"""One phone number, written in several ways: which of them LiveKit reads as the same, and which people do."""

from __future__ import annotations

import re
from collections.abc import Iterable

MIN_SHARED_DIGITS = 7
"""Two numbers that end with so many equal digits are taken for the same one, written differently."""

_NUMBER = re.compile(r"^\+?[\d\- ()]+$", re.ASCII)


def normalized(number: str) -> str:
    """Return a number as the server compares it: no spaces, dashes or parentheses, and with a plus."""
    if not _NUMBER.match(number):
        return number
    bare = re.sub(r"[\- ()]", "", number)
    return bare if bare.startswith("+") else f"+{bare}"


class NumberForms:
    """A list of numbers, in which one can be found that is written differently."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._by_ending: dict[str, list[tuple[str, str, bool]]] = {}
        for own in listed:
            digits, whole = _digits(own)
            self._by_ending.setdefault(digits[-MIN_SHARED_DIGITS:], []).append((own, digits, whole))

    def find(self, number: str) -> str:
        """Return how the list has this number, "" where it has not; a national form stands for the whole number."""
        wanted, wanted_whole = _digits(number)
        if len(wanted) < MIN_SHARED_DIGITS:
            return ""
        for own, given, given_whole in self._by_ending.get(wanted[-MIN_SHARED_DIGITS:], ()):
            shared = min(len(wanted), len(given))
            same = wanted == given if wanted_whole and given_whole else wanted[-shared:] == given[-shared:]
            if same:
                return own
        return ""


def _digits(number: str) -> tuple[str, bool]:
    """Return a number's digits without leading zeros, and whether they begin with the country's code."""
    bare = re.sub(r"^(sips?|tel):", "", number.strip(), flags=re.IGNORECASE).split("@")[0].split(";")[0].strip()
    return re.sub(r"\D", "", bare).lstrip("0"), bare.startswith(("+", "00"))
