"""Who forwarded a call: the number that was dialled first, from what carriers send along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import phonenumbers

from agent_worker.config.numbers import to_e164
from agent_worker.config.sip_headers import AddressEntry, address_entries

Source = Literal["telnyx", "diversion", "history-info"]

TELNYX_FIELDS = ("forwarded-from", "original-to", "redirecting-number")
"""In the order they are believed (contract S2)."""

LAST = 10**9
"""Where an index stands that is none."""

DIVERSION, HISTORY_INFO = ("diversion",), ("history-info", "history")


@dataclass(frozen=True)
class Forwarding:
    """Where a call came from before it reached us.

    Attributes:
        number: the number the caller dialled, E.164; None where the call was not forwarded, or nobody says by whom.
        source: what says so.
        hops: every number the call passed, the first one first.
    """

    number: str | None = None
    source: Source | None = None
    hops: tuple[str, ...] = ()


def forwarded_from(
    attributes: Mapping[str, str], job_metadata: Mapping[str, Any], dialed_number: str | None
) -> Forwarding:
    """Return what forwarded the call: a carrier's own field, else `Diversion`, else `History-Info`.

    Args:
        attributes: of the caller's participant; a header is there under its own name, behind whatever dots.
        job_metadata: of the dispatch, which may hold a carrier's event.
        dialed_number: the number of ours; it is no forwarder, and its country places national numbers.
    """
    region = _region(dialed_number)
    ours = to_e164(dialed_number) or dialed_number
    told: list[tuple[Source, list[str]]] = [
        ("telnyx", [text for text in _telnyx(attributes, job_metadata) if isinstance(text, str)]),
        ("diversion", _diverting(_header(attributes, DIVERSION))),
        ("history-info", _history(_header(attributes, HISTORY_INFO))),
    ]
    for source, users in told:
        hops = tuple(dict.fromkeys(n for user in users if (n := _number(user, region)) and n != ours))
        if hops:
            # a carrier's fields are several names for one number, not a list of hops
            return Forwarding(hops[0], source, hops[:1] if source == "telnyx" else hops)
    return Forwarding()


def _telnyx(attributes: Mapping[str, str], job_metadata: Mapping[str, Any]) -> Iterator[Any]:
    events = [job_metadata, _inner(job_metadata, "payload"), _inner(_inner(job_metadata, "data"), "payload")]
    named = {_field_name(name): value for name, value in attributes.items()}
    for field in TELNYX_FIELDS:
        for event in events:
            yield event.get(field.replace("-", "_"))
        yield named.get(field)


def _inner(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def _field_name(attribute: str) -> str:
    bare = attribute.rpartition(".")[2].lower().replace("_", "-")
    return bare.removeprefix("x-").removeprefix("telnyx-")


def _header(attributes: Mapping[str, str], names: tuple[str, ...]) -> list[AddressEntry]:
    """Return the entries of a header from all attributes that hold it.

    Of a repeated header the bridge maps the first to an attribute of the trunk's choice, and includes the last as
    `sip.h.<name>`: read in this order, both ends of the list are there.
    """
    held = [name for name in attributes if name.rpartition(".")[2].lower().replace("_", "-") in names]
    entries: list[AddressEntry] = []
    for name in sorted(held, key=lambda name: name.startswith("sip.h.")):
        entries += [entry for entry in address_entries(str(attributes[name])) if entry not in entries]
    return entries


def _diverting(entries: list[AddressEntry]) -> list[str]:
    """Return who diverted, the first one first: each diversion is put on top of those before it (RFC 5806, 4.1)."""
    return [entry.user for entry in reversed(entries)]


def _history(entries: list[AddressEntry]) -> list[str]:
    """Return who was called, in order, without the one who is being called now (RFC 7044, 5)."""
    ordered = sorted(entries, key=_index) if all("index" in entry.parameters for entry in entries) else entries
    return [entry.user for entry in ordered[:-1]]


def _index(entry: AddressEntry) -> tuple[int, ...]:
    parts: Iterable[str] = entry.parameters["index"].split(".")[:20]
    return tuple(int(part) if part.isascii() and part.isdecimal() and len(part) < 9 else LAST for part in parts)


def _number(user: str, region: str | None) -> str | None:
    """Return E.164; digits alone are a number of our own country where they are a valid one there."""
    if region is None or len(user) > 40 or user.startswith(("+", "00")):
        return to_e164(user)
    try:
        parsed = phonenumbers.parse(user, region)
    except phonenumbers.NumberParseException:
        return to_e164(user)
    national = to_e164(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    return national if phonenumbers.is_valid_number(parsed) else to_e164(user)


def _region(dialed_number: str | None) -> str | None:
    """Return the country of the number of ours, None where it has none."""
    try:
        parsed = phonenumbers.parse(to_e164(dialed_number) or "")
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.region_code_for_country_code(parsed.country_code or 0)
