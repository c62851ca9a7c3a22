"""Phone numbers as trunks, carriers and people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.numbers import E164, to_e164


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+12015550123", "+12015550123"),
        (" +1 (201) 555-0123 ", "+12015550123"),
        ("0012015550123", "+12015550123"),
        ("tel:+1-201-555-0123", "+12015550123"),
        ("<sip:+12015550123@pbx.example;transport=udp>", "+12015550123"),
        ("4915112345678", "+4915112345678"),
        ("+15559999", "+15559999"),
    ],
)
def test_a_number_is_read_in_every_usual_spelling(written: str, number: str) -> None:
    """Separators, URIs and international prefixes do not change a number."""
    assert to_e164(written) == number


@pytest.mark.parametrize(
    "written",
    [
        "", "anonymous", "Restricted", "unknown", "sip:anonymous@anonymous.invalid", "+266696687", "+",
        "+0123456789", "0201 555 0123", "555", "1001", "+1201555012345678", "alice", None, 12015550123, b"+1201",
        "x" * 10_000, "+1201555\x000123", "+٣٣١٢٣٤٥٦٧٨٩", "+1٣٣٣٣٣٣٣٣",
    ],
)  # fmt: skip
def test_what_is_no_number_is_none(written: object) -> None:
    """Withheld, malformed and national spellings have no E.164 form, and never raise."""
    assert to_e164(written) is None


@given(st.text(max_size=60))
def test_any_text_is_a_number_or_none(text: str) -> None:
    """Whatever a header holds, the answer is E.164 or None."""
    number = to_e164(text)

    assert number is None or E164.match(number)
