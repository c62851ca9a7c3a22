"""Who forwarded a call: header shapes of carriers and PBXs, good and bad; all numbers are invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.forwarding import Forwarding, forwarded_from
from agent_worker.config.numbers import to_e164
from agent_worker.config.sip_headers import MAX_ENTRIES, address_entries

FIXTURES = json.loads((Path(__file__).parents[1] / "fixtures" / "forwarding.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", FIXTURES, ids=[case["note"] for case in FIXTURES])
def test_the_number_that_was_called_first_is_found(case: dict[str, Any]) -> None:
    """Each fixture says what is on the call, and which number, from which source, over which hops."""
    found = forwarded_from(case["attributes"], case["job_metadata"], case["dialed"])

    assert found == Forwarding(case["number"], case["source"], tuple(case["hops"]))


HEADER = st.text(st.sampled_from('<>",;:=@?%+.\\ siptel0123459index'), max_size=200) | st.text(max_size=60)


@given(HEADER, HEADER, st.none() | HEADER)
def test_whatever_a_phone_sends_is_survived(diversion: str, history: str, dialed: str | None) -> None:
    """Junk costs nothing, and what is found is a number."""
    attributes = {"call.diversion": diversion, "sip.h.history-info": history}

    found = forwarded_from(attributes, {"payload": {"forwarded_from": diversion}}, dialed)

    assert all(to_e164(hop) == hop for hop in found.hops)
    assert (found.number is None) == (found.source is None) == (not found.hops)


@given(HEADER)
def test_entries_are_bounded(header: str) -> None:
    """However long a header is, it takes no longer to read than fifty entries do."""
    assert len(address_entries(header * 500)) <= MAX_ENTRIES
