"""Phone numbers as trunks and people write them, brought to E.164."""

from __future__ import annotations

import re

import phonenumbers

E164 = re.compile(r"^\+[1-9][0-9]{6,14}\Z")
"""What the wire contract calls a number."""

_SEPARATORS = re.compile(r"[\s().\-/\u00a0]+")
_URI = re.compile(r"^(?:sips?|tel):", re.IGNORECASE)

# ANONYMOUS, RESTRICTED, UNKNOWN, UNAVAILABLE, BLOCKED on a keypad: carriers send these for a withheld number.
_WITHHELD = frozenset({"+266696687", "+7378742833", "+8656696", "+86282452253", "+2562533"})


def to_e164(text: object) -> str | None:
    """Return the number in E.164, or None where this is none: withheld, malformed, a SIP name.

    Reads `+1 (201) 555-0123`, `0012015550123`, `tel:` and `sip:` URIs. Digits without `+` are taken as
    international only where they then are a number in use; a national form cannot be placed.
    """
    if not isinstance(text, str) or len(text) > 200:
        return None
    bare = _URI.sub("", text.strip().strip("<>")).split("@")[0].split(";")[0]
    bare = _SEPARATORS.sub("", bare)
    if bare.startswith("00"):
        bare = "+" + bare[2:]
    if bare.startswith("+"):
        return bare if E164.match(bare) and bare not in _WITHHELD else None
    if not bare.isascii() or not bare.isdigit() or bare.startswith("0"):
        return None
    candidate = "+" + bare
    if not E164.match(candidate) or candidate in _WITHHELD:
        return None
    try:
        parsed = phonenumbers.parse(candidate)
    except phonenumbers.NumberParseException:
        return None
    return candidate if phonenumbers.is_valid_number(parsed) else None


def digits(text: object) -> str:
    """Return the digits of a dialled number without the zeros of a national or international prefix."""
    if not isinstance(text, str):
        return ""
    bare = _URI.sub("", text.strip().strip("<>")).split("@")[0].split(";")[0]
    return re.sub(r"\D", "", bare).lstrip("0")
