"""Whom we dial: never emergency or premium numbers, SIP addresses only at named hosts, the rest as configured."""

from __future__ import annotations

import pytest

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
        ("", "0205550123", "E.164"),
        ("US", "+442071838750", "country"),
        ("+442071838750", "+442071838751", "country"),
        ("", "sip:sales@pbx.example.com", "hosts"),
        ("example.com", "sip:sales@pbx.example.com", "hosts"),
        ("pbx.example.com", "sip:a@pbx.example.com\r\nX-Evil: 1", "E.164"),
        ("pbx.example.com", "sip:a@pbx.example.com?Replaces=x", "E.164"),
        ("pbx.example.com", "https://pbx.example.com", "E.164"),
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
