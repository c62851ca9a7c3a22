"""Who forwarded a call: the number that was called first, from what carriers send along."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import phonenumbers

from agent_worker.config.numbers import digits, to_e164
from agent_worker.config.sip_entries import SipEntry, sip_entries

Source = Literal["telnyx", "diversion", "history-info"]

HEADER_ATTRIBUTE = "sip.h."
"""How LiveKit names the attribute of a header it passes on by itself: of a repeated header it holds the last."""

_TELNYX_FIELDS = ("forwardedfrom", "originalto", "redirectingnumber")
_DIVERSION = ("diversion",)
_HISTORY = ("historyinfo", "history")
_MIN_TAIL_DIGITS = 7
_NORTH_AMERICAN = re.compile(r"[2-9][0-9]{9}")


@dataclass(frozen=True)
class Forwarding:
    """Where a call came from before it reached us.

    Attributes:
        number: the number that was called first and forwarded, E.164; None where the call was not forwarded, or
            nobody says from where.
        source: what said so.
        hops: every number the call was forwarded from, the first one called first, E.164.
    """

    number: str | None = None
    source: Source | None = None
    hops: tuple[str, ...] = ()


def forwarded_from(
    attributes: Mapping[str, str], job_metadata: Mapping[str, Any], dialed_number: str | None
) -> Forwarding:
    """Return the number that forwarded first: from the carrier's fields, else `Diversion`, else `History-Info`.

    Args:
        attributes: of the caller's participant. A header can be there twice: `sip.h.<name>` holds the last of
            several, an attribute mapped on the trunk (`call.diversion`) the first; both are read as one.
        job_metadata: what the dispatch sent along; Telnyx' fields at the top, in `payload` or in `data.payload`.
        dialed_number: our own number, which is no forwarding; also tells the country of a number without one.
    """
    place = _Place(dialed_number)
    sources: tuple[tuple[Source, Iterable[str]], ...] = (
        ("telnyx", _carrier_numbers(attributes, job_metadata, place)),
        ("diversion", _diverted(_entries(attributes, _DIVERSION), place)),
        ("history-info", _retargeted(_entries(attributes, _HISTORY), place)),
    )
    for source, numbers in sources:
        hops = tuple(dict.fromkeys(numbers))
        if hops:
            return Forwarding(hops[0], source, hops)
    return Forwarding()


class _Place:
    """The country and the number a call arrived at."""

    def __init__(self, dialed: str | None) -> None:
        self._e164 = to_e164(dialed)
        self._tail = digits(dialed)
        certain = isinstance(dialed, str) and dialed.strip().startswith(("+", "00"))
        self._country, self._region = _country_of(self._e164 if certain else None)

    def number(self, entry: SipEntry) -> str | None:
        """Return the entry's number in E.164, or None where it is none."""
        bare = re.sub(r"[\s().\-/\u00a0]", "", entry.user)
        if entry.context is not None and not bare.startswith("+"):
            return _possible(to_e164(entry.context + bare.removeprefix("0")))
        if self._country == 1 and _NORTH_AMERICAN.fullmatch(bare):
            return self._national(bare) or to_e164(bare)
        return to_e164(entry.user) or self._national(bare)

    def is_ours(self, number: str) -> bool:
        """Whether this is the number that was dialled."""
        return number == self._e164 or (len(self._tail) >= _MIN_TAIL_DIGITS and number.endswith(self._tail))

    def _national(self, bare: str) -> str | None:
        if self._region is None or not bare.isascii() or not bare.isdigit() or len(bare) < _MIN_TAIL_DIGITS:
            return None
        try:
            parsed = phonenumbers.parse(bare, self._region)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_valid_number(parsed):
            return None
        return to_e164(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def _possible(e164: str | None) -> str | None:
    if e164 is None:
        return None
    try:
        return e164 if phonenumbers.is_possible_number(phonenumbers.parse(e164)) else None
    except phonenumbers.NumberParseException:
        return None


def _country_of(e164: str | None) -> tuple[int | None, str | None]:
    if e164 is None:
        return None, None
    try:
        parsed = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return None, None
    region = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return parsed.country_code, None if region in ("ZZ", "001") else region


def _carrier_numbers(attributes: Mapping[str, str], job: Mapping[str, Any], place: _Place) -> Iterator[str]:
    given = [*_fields_of(job), *((_folded(name.rpartition(".")[2]), value) for name, value in attributes.items())]
    for field in _TELNYX_FIELDS:
        for name, value in given:
            if name != field or not isinstance(value, str):
                continue
            for entry in sip_entries(value):
                number = place.number(entry)
                if number is not None and not place.is_ours(number):
                    yield number
                    return


def _fields_of(job: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    data = job.get("data")
    for group in (job, job.get("payload"), data.get("payload") if isinstance(data, Mapping) else None):
        if isinstance(group, Mapping):
            for name, value in group.items():
                if isinstance(value, (list, tuple)) and value:
                    yield _folded(name), value[0]
                else:
                    yield _folded(name), value


def _folded(name: object) -> str:
    """Return a field's or header's name without case, dashes, and the `X-` and vendor's name before it."""
    words = [word for word in re.split(r"[-_]", str(name)[:100].lower()) if word]
    while words and words[0] in ("x", "telnyx"):
        del words[0]
    return "".join(words)


def _entries(attributes: Mapping[str, Any], names: Sequence[str]) -> list[SipEntry]:
    """Return the entries of a header: those of its first line, then those of its last, each once."""
    first: list[SipEntry] = []
    last: list[SipEntry] = []
    for name, value in attributes.items():
        if isinstance(value, str) and _header_name(name) in names:
            (last if name.lower().startswith(HEADER_ATTRIBUTE) else first).extend(sip_entries(value))
    return list(dict.fromkeys([*first, *last]))


def _header_name(attribute: str) -> str:
    return attribute.rpartition(".")[2].lower().replace("-", "").replace("_", "")


def _diverted(entries: Sequence[SipEntry], place: _Place) -> Iterator[str]:
    """Yield who diverted the call, the first one first: every diversion is written on top of those before it."""
    for entry in reversed(entries):
        number = place.number(entry)
        if number is not None and not place.is_ours(number):
            yield number


def _retargeted(entries: Sequence[SipEntry], place: _Place) -> Iterator[str]:
    """Yield who was called before the last target; a lone entry counts only where it says that the call left it."""
    if all(entry.index is not None for entry in entries):
        entries = sorted(entries, key=lambda entry: entry.index or ())
    before, last = entries[:-1], entries[-1:]
    if len(entries) == 1 and entries[0].left:
        before, last = entries, []
    current = place.number(last[0]) if last else None
    for entry in before:
        number = place.number(entry)
        if number is not None and number != current and not place.is_ours(number):
            yield number
