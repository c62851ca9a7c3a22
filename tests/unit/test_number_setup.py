"""How far a number is set up: what is missing, told with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from agent_worker.config.number_setup import NumberSetup, may_take_calls, setup_of
from agent_worker.domain.number import NumberConfig, SipConnection

CARRIER = SipConnection(name="carrier", address="sip.carrier.example")
INBOUND_ONLY = SipConnection(name="listening")


def setup(
    connections: tuple[SipConnection, ...] = (CARRIER,), trunk_id: str | None = None, **number: Any
) -> NumberSetup:
    values = {"e164": "+12015550123", "agent_id": "desk", **number}
    by_name = {connection.name: connection for connection in connections}
    return setup_of(NumberConfig(**values), agents={"desk"}, connections=by_name, trunk_id=trunk_id)


def test_nothing_is_missing() -> None:
    """An agent that is there and a connection with an address: both ways are ready."""
    found = setup()
    assert (found.inbound_ready, found.outbound_ready, found.is_ready) == (True, True, True)


@pytest.mark.parametrize(
    ("number", "inbound", "issue"),
    [
        ({"agent_id": "gone"}, False, "not there"),
        ({"agent_id": None}, False, "Nobody answers"),
        ({"connections": ()}, False, "No SIP connection"),
        ({"connections": (CARRIER, INBOUND_ONLY)}, False, "several"),
        ({"connections": (CARRIER, INBOUND_ONLY), "sip_connection": "other"}, False, "of this name"),
        ({"connections": (INBOUND_ONLY,), "direction": "outbound"}, False, "no address"),
        ({"agent_id": None, "dispatch_metadata_template": {"llm": {"temperature": 9}}}, True, "temperature"),
    ],
)
def test_what_is_missing_is_told(number: dict[str, Any], inbound: bool, issue: str) -> None:
    """One sentence each."""
    found = setup(**number)
    assert found.inbound_ready is inbound
    assert [issue in sentence for sentence in found.issues] == [True]


def test_each_way_stands_for_itself() -> None:
    """What takes no calls is not ready to; a connection without an address takes calls and places none."""
    assert setup(direction="outbound").inbound_ready is False
    assert setup(direction="inbound").outbound_ready is False
    listening = setup(connections=(INBOUND_ONLY,))
    assert (listening.inbound_ready, listening.outbound_ready, listening.is_ready) == (True, False, True)
    own_trunk = setup(connections=(), trunk_id="ST_1")
    assert (own_trunk.outbound_ready, own_trunk.connection_ready) == (True, True)


def test_who_takes_calls_has_somebody_who_answers() -> None:
    """An agent, or a template that says something."""
    assert not may_take_calls(NumberConfig(e164="+12015550123"))
    assert not may_take_calls(NumberConfig(e164="+12015550123", dispatch_metadata_template={}))
    assert may_take_calls(NumberConfig(e164="+12015550123", dispatch_metadata_template={"line": "a"}))
    assert may_take_calls(NumberConfig(e164="+12015550123", direction="outbound"))
