"""Who forwarded a call, from the headers of carriers and switchboards good and bad."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.forwarding import Forwarding, forwarded_from
from agent_worker.config.numbers import E164
from agent_worker.config.sip_entries import MAX_ENTRIES, sip_entries

FIXTURES = Path(__file__).parent.parent / "fixtures" / "forwarding"
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['name']}")
    for file in sorted(FIXTURES.glob("*.json"))
    for case in json.loads(file.read_text(encoding="utf-8"))
]
OURS = "+12015550199"


@pytest.mark.parametrize("case", CASES)
def test_the_number_that_forwarded_first_is_found(case: dict[str, Any]) -> None:
    """Each header shape gives the number, its source and the way the call took."""
    found = forwarded_from(case["attributes"], case.get("job_metadata", {}), case["dialed_number"])
    expected = case["expected"]
    assert found == Forwarding(expected["number"], expected["source"], tuple(expected["hops"])), case["note"]


def test_there_are_fixtures_of_many_kinds() -> None:
    """The folder was found, and holds what it is said to hold."""
    assert len(CASES) >= 30


def test_a_call_with_nothing_to_say_was_not_forwarded() -> None:
    """The attributes LiveKit always sets are no forwarding."""
    attributes = {"sip.phoneNumber": "+12015550101", "sip.trunkPhoneNumber": OURS, "sip.callStatus": "ringing"}
    assert forwarded_from(attributes, {}, OURS) == Forwarding()


def test_of_too_many_diversions_the_first_and_the_last_are_read() -> None:
    """A header of a thousand entries is bounded, and who forwarded first is still found."""
    entries = [f"<sip:+1201555{number:04}@a>" for number in range(1_000)]
    found = forwarded_from({"call.diversion": ",".join(entries)}, {}, OURS)
    assert found.number == "+12015550999"
    assert len(found.hops) == MAX_ENTRIES


@pytest.mark.parametrize("character", ['"', "<", ">", ",", "\\", "=", "%", "@", ";index=", ' "', '<"', '"\\'])
def test_a_header_made_to_be_slow_is_not(character: str) -> None:
    """What is expensive to a careless reader takes no noticeable time."""
    header = character * (200_000 // len(character))
    started = time.process_time()
    assert forwarded_from({"call.diversion": header, "sip.h.history-info": header}, {}, OURS).number is None
    assert time.process_time() - started < 2


def test_a_name_in_quotes_is_not_taken_for_the_number() -> None:
    """The caller's network writes what it likes into the display name."""
    entries = sip_entries('"<sip:+12015550177@x>, +12015550188" <sip:+12015550101@a>;index=1.2')
    assert [(entry.user, entry.index) for entry in entries] == [("+12015550101", (1, 2))]


JUNK = st.text(alphabet='<>",;:@=?%&\\ \t\r\n+0123456789.-siptelndxreaon\u0660\u00a0é', max_size=200)
NUMBERS = st.integers(min_value=0, max_value=99).map(lambda last: f"+120155501{last:02}")


@given(JUNK, JUNK, st.dictionaries(JUNK, JUNK, max_size=3), st.none() | JUNK)
def test_junk_never_raises_and_gives_numbers_only(
    diversion: str, history: str, job: dict[str, Any], dialed: str | None
) -> None:
    """Whatever stands in a header, the answer is E.164 numbers without our own, or nothing."""
    attributes = {"call.diversion": diversion, "sip.h.diversion": history, "call.history": history}
    found = forwarded_from(attributes, {**job, "payload": job, "forwarded_from": diversion}, dialed)
    assert all(E164.match(hop) and hop != dialed for hop in found.hops)
    assert (found.number, bool(found.source)) == (found.hops[0] if found.hops else None, bool(found.hops))


@given(st.lists(NUMBERS, min_size=1, max_size=8, unique=True), st.sampled_from(["call.diversion", "sip.h.diversion"]))
def test_diversions_stack_latest_first(way: list[str], name: str) -> None:
    """However many times a call was forwarded, the last entry is where it began."""
    way = [number for number in way if number != OURS]
    header = ", ".join(f'"P, Q" <sip:{number}@host>;reason=no-answer' for number in reversed(way))
    assert forwarded_from({name: header}, {}, OURS).hops == tuple(way)


@given(st.lists(NUMBERS, min_size=2, max_size=8, unique=True), st.randoms())
def test_history_is_read_by_index(way: list[str], random: Any) -> None:
    """Entries in any order give the way the call took, without its last target."""
    targets = [*(number for number in way if number != OURS), OURS]
    entries = [f"<sip:{number}@host>;index={'.'.join(['1'] * depth)}" for depth, number in enumerate(targets, 1)]
    random.shuffle(entries)
    assert forwarded_from({"call.history": ",".join(entries)}, {}, OURS).hops == tuple(targets[:-1])


@given(st.recursive(st.none() | st.integers() | JUNK, lambda inner: st.lists(inner) | st.dictionaries(JUNK, inner)))
def test_any_json_may_come_with_a_dispatch(junk: Any) -> None:
    """Objects where text is expected, lists where objects are: nothing is found, and nothing breaks."""
    job = {"data": junk, "payload": junk, "forwarded_from": [junk], "original_to": junk}
    found = forwarded_from({}, job, OURS)
    assert found.source in (None, "telnyx")
