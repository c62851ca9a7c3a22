"""The entries of a SIP header that lists addresses, such as Diversion and History-Info, however odd it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAX_HEADER_CHARS = 65_536
MAX_ENTRIES = 50
MAX_URI_CHARS = 2_000

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)\s*:", re.ASCII)
_INDEX = re.compile(r";\s*index\s*=\s*\"?([0-9.]{1,100})", re.IGNORECASE)
_CONTEXT = re.compile(r";\s*phone-context\s*=\s*\"?(\+[0-9][0-9 ().-]{0,30})", re.IGNORECASE)
_REASON = re.compile(r"[?&]\s*reason\s*=", re.IGNORECASE)


@dataclass(frozen=True)
class SipEntry:
    """One address of a header.

    Attributes:
        user: who is called: what stands before the `@`, decoded; "" where it is no SIP or telephone address.
        context: the number a local one is to be read after, from `phone-context`: `+49`.
        index: place in a History-Info, `(1, 1)`; None where it says none.
        left: whether the call left this address: its URI carries a Reason.
    """

    user: str
    context: str | None = None
    index: tuple[int, ...] | None = None
    left: bool = False


def sip_entries(header: str) -> list[SipEntry]:
    """Return the entries of a header in the order they stand; of too many the first and the last ones. Never raises."""
    parts = [part for part in _split(header[:MAX_HEADER_CHARS]) if part.strip()]
    if len(parts) > MAX_ENTRIES:
        parts = [*parts[: MAX_ENTRIES // 2], *parts[-MAX_ENTRIES // 2 :]]
    return [_entry(part) for part in parts]


def _split(header: str) -> list[str]:
    """Return the parts between commas that stand neither in quotes nor in angle brackets, without display names."""
    parts: list[str] = []
    kept: list[str] = []
    position, quotes = 0, True
    while position < len(header):
        character = header[position]
        following = position + 1
        if character == '"' and quotes:
            quoted = _QUOTED.match(header, position)
            if quoted is None:
                quotes = False  # never closed, so it is no quote; nor is any after it
            else:
                following = quoted.end()
                # a display name says nothing of the number; the value of a parameter does
                kept.append(quoted[0] if "".join(kept[-3:]).rstrip().endswith("=") else " ")
        elif character == "<":
            following = _after_uri(header, following)
            kept.append(header[position:following])
        elif character == ",":
            parts.append("".join(kept))
            kept = []
        else:
            kept.append(character)
        position = following
    return [*parts, "".join(kept)]


def _after_uri(header: str, position: int) -> int:
    """Return where a URI in angle brackets is over: at its bracket, else at the next comma."""
    limit = position + MAX_URI_CHARS
    end, another = header.find(">", position, limit), header.find("<", position, limit)
    if end >= 0 and not 0 <= another < end:
        return end + 1
    comma = header.find(",", position, limit)
    return comma if comma >= 0 else min(limit, len(header))


def _entry(part: str) -> SipEntry:
    before, bracket, rest = part.partition("<")
    uri, _, parameters = rest.partition(">")
    if not bracket:
        uri = parameters = before
    index = _INDEX.search(parameters)
    context = _CONTEXT.search(uri)
    return SipEntry(
        user=_user(uri),
        context=context[1] if context else None,
        index=tuple(int(step) for step in index[1].split(".") if step) if index else None,
        left=_REASON.search(uri) is not None,
    )


def _user(uri: str) -> str:
    scheme = _SCHEME.match(uri)
    if scheme is not None:
        if scheme[1].lower() not in ("sip", "sips", "tel"):
            return ""
        uri = uri[scheme.end() :]
    user, at, _ = uri.partition("@")
    if not at:
        user = uri.partition("?")[0]
    # a user's own parameters, a password; whatever is left of them is no number
    return unquote(user.partition(";")[0].partition(":")[0])[:200].strip()
