"""What LiveKit should have for the numbers and connections of a configuration."""

from __future__ import annotations

import pytest
from livekit import api

from agent_worker.domain.number import SipConnection
from agent_worker.errors import ConfigError, SettingsError
from agent_worker.telephony import diff
from agent_worker.telephony.desired import desired_state, read_marker
from agent_worker.telephony.diff import Existing
from tests.connections import NUMBERS, connection, desired, number


def test_a_connection_becomes_trunks_in_both_directions() -> None:
    """Numbers by direction, addresses, credentials, the forwarding headers, encryption and ringing time."""
    trunk = connection(
        address="sip.carrier.example:5061",
        transport="tls",
        usernameEnv="SIP_USER",
        passwordEnv="SIP_PASSWORD",
        mediaEncryption="require",
        ringingTimeoutSeconds=45,
        headers={"X-Account": "env:SIP_ACCOUNT", "X-Site": "3"},
        allowedAddresses=["203.0.113.7", "203.0.113.0/255.255.255.0"],
    )
    numbers = [number(NUMBERS[1], direction="inbound"), number(NUMBERS[0]), number(NUMBERS[2], direction="outbound")]

    wanted = desired(numbers, [trunk], SIP_USER="acme", SIP_PASSWORD="s3cret", SIP_ACCOUNT="a-1")

    inbound, outbound = wanted.inbound["carrier"], wanted.outbound["carrier"]
    assert list(inbound.numbers) == NUMBERS[:2]
    assert list(inbound.allowed_addresses) == ["203.0.113.7", "203.0.113.0/24"]
    assert (inbound.auth_username, inbound.auth_password) == ("acme", "s3cret")
    assert dict(inbound.headers_to_attributes) == {"Diversion": "call.diversion", "History-Info": "call.history-info"}
    assert inbound.include_headers == api.SIPHeaderOptions.SIP_ALL_HEADERS
    assert inbound.ringing_timeout.seconds == 45
    assert inbound.media_encryption == api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_REQUIRE
    assert (outbound.address, outbound.transport) == ("sip.carrier.example:5061", api.SIPTransport.SIP_TRANSPORT_TLS)
    assert list(outbound.numbers) == [NUMBERS[0], NUMBERS[2]]
    assert dict(outbound.headers) == {"X-Account": "a-1", "X-Site": "3"}
    assert read_marker(inbound.metadata) == ("desk", "carrier")
    assert wanted.warnings == ()


def test_the_rule_is_bound_to_trunks_or_there_is_none() -> None:
    """Each caller gets a room, with our agent; without trunks there is no rule, never a catch-all."""
    wanted = desired([number(NUMBERS[0])])

    rule = wanted.rule(["ST_B", "ST_A"])

    assert rule is not None
    assert list(rule.trunk_ids) == ["ST_A", "ST_B"]
    assert rule.rule.dispatch_rule_individual.room_prefix == "call-"
    assert [agent.agent_name for agent in rule.room_config.agents] == ["desk"]
    assert wanted.rule([]) is None
    assert diff.rule_changes(wanted, Existing(), []) == []


def test_the_only_connection_takes_numbers_that_name_none() -> None:
    """A number an agent file lists needs no telephony.yaml entry where there is one connection."""
    assert list(desired([number(NUMBERS[0])]).inbound["carrier"].numbers) == [NUMBERS[0]]


@pytest.mark.parametrize(
    ("connections", "told"),
    [
        ([], f"{NUMBERS[0]} is on no SIP connection, and none is described. Describe where calls come from"),
        ([connection("east"), connection("west")], f"{NUMBERS[0]} is on none of the SIP connections east, west."),
    ],
)
def test_a_number_on_no_connection_is_told(connections: list[SipConnection], told: str) -> None:
    """With the remedy; without any connection also with an example."""
    with pytest.raises(ConfigError) as caught:
        desired_state([number(NUMBERS[0])], connections, agent_name="desk", env={})
    assert str(caught.value).startswith(told)


def test_credentials_that_are_not_set_are_all_named() -> None:
    """Only of connections that numbers are on."""
    used = connection(usernameEnv="A_USER", passwordEnv="A_PASSWORD", headers={"X-Key": "env:A_KEY"})
    unused = connection("other", usernameEnv="B_USER", passwordEnv="B_PASSWORD")

    with pytest.raises(SettingsError, match="A_USER and A_KEY are not set"):
        desired([number(NUMBERS[0], "carrier")], [used, unused], A_PASSWORD="x")


def test_a_trunk_open_to_anybody_is_warned_of() -> None:
    """Numbers alone keep nobody out."""
    [warning] = desired([number(NUMBERS[0])], [connection(allowedAddresses=[])]).warnings

    assert "anybody can ring its numbers" in warning
