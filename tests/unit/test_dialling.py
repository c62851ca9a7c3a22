"""Whom we dial: never emergency or premium numbers, SIP addresses only at named hosts, the rest as configured."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_worker.domain.dialling import DialPolicy, NotDialled
from agent_worker.errors import SettingsError


@pytest.mark.parametrize(
    ("policy", "to", "dialled"),
    [
        ("", "+12015550123", "+12015550123"),
        ("", "tel:+12015550123", "+12015550123"),
        ("US", "+12015550123", "+12015550123"),
        ("US, +442071838750", "+442071838750", "+442071838750"),
        ("US, +442071838750", "+12015550123", "+12015550123"),
        ("pbx.example.com", "+12015550123", "+12015550123"),
        ("pbx.example.com", "sip:sales@PBX.example.com:5061", "sip:sales@PBX.example.com:5061"),
        ("10.0.0.7", "sip:10.0.0.7;transport=tcp", "sip:10.0.0.7;transport=tcp"),
        ("pbx.example.com", "sip:sales@pbx.example.com", "sip:sales@pbx.example.com"),
        ("pbx.example.com:5080", "sips:120@pbx.example.com:5080", "sips:120@pbx.example.com:5080"),
        ("pbx.example.com", "sip:+12015550123@pbx.example.com", "sip:+12015550123@pbx.example.com"),
        ("", "+442079460101", "+442079460101"),
        ("+870773111632", "+870773111632", "+870773111632"),
        ("+979123456789", "+979123456789", "+979123456789"),
        ("+8816312345", "+8816312345", "+8816312345"),
        ("+447700900123", "+447700900123", "+447700900123"),
    ],
)
def test_what_is_allowed_is_dialled(policy: str, to: str, dialled: str) -> None:
    """A number in E.164, or the address as it was written."""
    assert DialPolicy.of(policy).check(to) == dialled


@pytest.mark.parametrize(
    ("policy", "to", "why"),
    [
        ("", "+19005550123", "Premium"),
        ("+19005550123", "+19005550123", "Premium"),
        ("", "+449098790123", "Premium"),
        ("", "911", "E.164"),
        ("", "+1911", "Emergency"),
        ("", "+44999", "Emergency"),
        ("", "tel:+49112", "Emergency"),
        ("", "+33112", "Emergency"),
        ("pbx.example.com", "sip:911@pbx.example.com", "Emergency"),
        ("pbx.example.com", "sip:+44999@pbx.example.com", "Emergency"),
        ("pbx.example.com", "sip:+19005550123@pbx.example.com", "Premium"),
        *(
            ("", f"+{code}123456789"[:13], "lists the very number")
            for code in (800, 808, 870, 878, 881, 882, 883, 888, 979)
        ),
        ("US, +870773111632", "+870773111633", "lists the very number"),
        ("", "+999123456789", "no such"),
        ("", "+15550001111", "no such"),
        ("", "+10000000000", "no such"),
        ("", "+120155501", "no such"),
        ("", "+120155501234567", "no such"),
        ("", "+1201555012345678", "E.164"),
        ("", "+1201555\u0660\u0661\u0662\u0663", "E.164"),
        ("", "tel:+12015550123;ext=7", "parameters"),
        ("", "tel:5550123;phone-context=+1201", "parameters"),
        ("", "tel:+1-201-555-0123", "E.164"),
        ("", "0205550123", "E.164"),
        ("US", "+442071838750", "country"),
        ("+442071838750", "+442071838751", "country"),
        ("", "sip:sales@pbx.example.com", "hosts"),
        ("example.com", "sip:sales@pbx.example.com", "hosts"),
        ("pbx.example.com", "sip:a@pbx.example.com\r\nX-Evil: 1", "E.164"),
        ("pbx.example.com", "sip:a@pbx.example.com?Replaces=x", "E.164"),
        ("pbx.example.com", "https://pbx.example.com", "E.164"),
        ("pbx.example.com", "sip:a@pbx.example.com\n", "E.164"),
        ("pbx.example.com", "sip:a%0d%0ab@pbx.example.com", "E.164"),
        ("pbx.example.com", "sip:a@b@pbx.example.com", "E.164"),
        ("pbx.example.com", "sip:a@pbx.example.com;method=BYE", "E.164"),
        ("pbx.example.com", "sip:a@pbx.example.com:25", "ports"),
        ("pbx.example.com:5080", "sip:a@pbx.example.com", "ports"),
        ("pbx.example.com:5080", "sip:a@pbx.example.com:5060", "ports"),
    ],
)
def test_what_is_not_allowed_is_not(policy: str, to: str, why: str) -> None:
    """The reason is said, without the destination."""
    with pytest.raises(NotDialled, match=why) as error:
        DialPolicy.of(policy).check(to)
    assert to not in str(error.value)


def test_an_entry_nobody_understands_is_an_error() -> None:
    """A typo would otherwise allow or forbid more than was meant."""
    with pytest.raises(SettingsError, match="'USA'"):
        DialPolicy.of("US, USA")


@pytest.mark.parametrize("entry", ["localhost", "tel:+12015550123", "pbx.example.com:", "pbx.example.com:sip", "+12"])
def test_an_entry_that_would_never_match_is_an_error(entry: str) -> None:
    """Neither a number nor a host as destinations have them."""
    with pytest.raises(SettingsError):
        DialPolicy.of(entry)


POLICY = DialPolicy.of("US, GB, pbx.example.com, gw.example.com:5080")
PIECES = ["sip:", "sips:", "tel:", "a", "+12015550123", "911", "@", "pbx.example.com", "gw.example.com", ":5060", ":5080",
          ";transport=tcp", ";ext=1", "?Replaces=x", "%0d%0a", "\r\n", "\n", "\x00", " ", "\"", "'", "<", ">", "\u2028",
          "\u0661"]  # fmt: skip
WRITTEN = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=7).map("".join),
    st.builds(
        "{0}{1}{2}".format,
        st.sampled_from(["+1201555012", "sip:a@pbx.example.co", "sip:", "tel:+1201555012", "sip:a@pbx.example.com"]),
        st.text(max_size=3),
        st.sampled_from(["", "3", "m", "@pbx.example.com", "\n"]),
    ),
)
UNSAFE = re.compile("[\x00-\x20\x7f-\xa0\"'<>?%\u2028\u2029]|@.*@", re.DOTALL)


@given(WRITTEN)
@example("sip:a@pbx.example.com\n")
@example("+12015550123\n")
def test_whatever_is_dialled_cannot_be_taken_for_more_than_a_destination(written: str) -> None:
    """No control character, space, quote, bracket, URI header, escape or second @ gets through, whatever is written."""
    with contextlib.suppress(NotDialled):
        dialled = POLICY.check(written)
        assert not UNSAFE.search(dialled)
        assert dialled.isascii()
        assert dialled in (written, written.removeprefix("tel:"))
        assert POLICY.check(dialled) == dialled


@given(st.from_regex(r"\+[1-9][0-9]{1,16}", fullmatch=True))
@example("+1911")
def test_a_policy_of_countries_lets_only_theirs_through(written: str) -> None:
    """Whatever the digits."""
    with contextlib.suppress(NotDialled):
        assert POLICY.check(written).startswith(("+1", "+44"))
