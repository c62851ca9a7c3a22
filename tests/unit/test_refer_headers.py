"""Headers of a REFER: an operator's own pass, those that say who calls whom and on which way are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent_worker.domain.refer_headers import MOST_CHARS, is_reserved
from agent_worker.domain.transfer import TransferConfig, TransferPlan

NAMED = [
    *("Via", "From", "To", "Contact", "Call-ID", "CSeq", "Max-Forwards", "Route", "Record-Route", "Refer-To"),
    *("Referred-By", "Replaces", "Authorization", "Proxy-Authorization", "Proxy-Require", "Content-Type"),
    *("Content-Length", "P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Diversion", "Identity"),
    *"vftmilcrby",
]


def plan(headers: dict[str, str]) -> TransferPlan:
    return TransferPlan.model_validate(
        {"kind": "blind", "destinations": [{"to": "+12015550123"}], "headers": headers}, by_alias=True
    )


@given(st.sampled_from(NAMED), st.data())
def test_what_the_bridge_writes_is_refused_however_it_is_spelled(name: str, data: st.DataObject) -> None:
    """In a request and in an agent's configuration, in any case and in its compact form."""
    spelled = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in name)
    assert is_reserved(spelled)
    for build in (plan, lambda headers: TransferConfig.model_validate({"headers": headers})):
        with pytest.raises(ValidationError, match="of your own"):
            build({spelled: "x"})


def test_ones_own_headers_pass_as_they_are() -> None:
    """Also what only looks like one of the bridge's."""
    own = {"X-Account": "7, Änne", "User-to-User": "56a390f3;encoding=hex", "X-From": "a", "Via-Note": ""}
    assert plan(own).headers == own


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "a\r\nRoute: <sip:evil.example>"},
        {"X-A": "a\x00"},
        {"X-A": "a\tb"},
        {"X-A": "a\x85b"},
        {"X-A": "a\u2028b"},
        {"X-A\r\nRoute": "a"},
        {"X A": "a"},
        {"X-A:": "a"},
        {"": "a"},
        {"X-" + "a" * 63: "a"},
        {"X-A": "a" * 1_025},
        {f"X-{index}": "a" for index in range(21)},
        {f"X-{index}": "a" * (MOST_CHARS // 5) for index in range(5)},
    ],
)
def test_what_would_be_more_than_a_header_or_too_much_is_refused(headers: dict[str, Any]) -> None:
    """Lines within a line, names that are none, too many and too long."""
    with pytest.raises(ValidationError):
        plan(headers)
