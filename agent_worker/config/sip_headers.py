"""Reads SIP headers that hold a list of addresses, as phones and carriers really write them (RFC 3261, 25.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

MAX_HEADER_CHARS = 16_384
MAX_ENTRIES = 50

_URI = re.compile(r"^\s*(sips?|tel):(?://)?", re.IGNORECASE)
_PARAMETER = re.compile(r";\s*([A-Za-z0-9_.!%*+`'~-]+)\s*(?:=\s*(\"(?:[^\"\\]|\\.)*\"|[^;,\s]*))?")


@dataclass(frozen=True)
class AddressEntry:
    """One entry of such a list.

    Attributes:
        user: who is named, percent-decoded: a number or a name; "" where there is none.
        parameters: by lower-case name, without quotes.
    """

    user: str
    parameters: Mapping[str, str]


def address_entries(header: str) -> list[AddressEntry]:
    """Return the entries of a header, in order; what is no address is left out, and so is what is absurdly long."""
    found: list[AddressEntry] = []
    for text in _split(header[:MAX_HEADER_CHARS]):
        entry = _entry(text)
        if entry is not None:
            found.append(entry)
        if len(found) == MAX_ENTRIES:
            break
    return found


def _split(header: str) -> Iterator[str]:
    """Yield what stands between the commas that separate entries: none in quotes, none within <>."""
    start, quoted, bracketed, escaped = 0, False, False, False
    for position, char in enumerate(header):
        if escaped:
            escaped = False
        elif quoted:
            escaped = char == "\\"
            quoted = char != '"'
        elif char == '"' and not bracketed:
            quoted = True
        elif char in "<>":
            bracketed = char == "<"
        elif char == "," and not bracketed:
            yield header[start:position]
            start = position + 1
    yield header[start:]


def _entry(text: str) -> AddressEntry | None:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text, count=1) if text.lstrip().startswith('"') else text
    opened = bare.find("<")
    if opened >= 0:
        closed = bare.find(">", opened)
        if closed < 0:
            return None
        uri, rest = bare[opened + 1 : closed], bare[closed + 1 :]
    else:
        # without brackets the parameters belong to the header, not to the address (RFC 3261, 20)
        uri, semicolon, rest = bare.partition(";")
        rest = semicolon + rest
    user = _user(uri)
    if user is None:
        return None
    parameters = {name.lower(): value.strip('"') for name, value in _PARAMETER.findall(rest)}
    return AddressEntry(user, parameters)


def _user(uri: str) -> str | None:
    scheme = _URI.match(uri)
    if scheme is None:
        return None
    body = uri[scheme.end() :].split("?")[0]
    if scheme[1].lower() == "tel":
        user = body
    else:
        user, at, _host = body.rpartition("@")
        if not at:
            return ""
    user = user.split(";")[0].split(":")[0]  # parameters of the number, a password
    return unquote(user, errors="replace").strip()
