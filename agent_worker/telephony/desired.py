"""What LiveKit should have so that calls reach our numbers and leave from them: trunks and one dispatch rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network

from livekit import api

from agent_worker.domain.lifecycle_hook import variable_of
from agent_worker.domain.number import NumberConfig, SipConnection
from agent_worker.errors import ConfigError, SettingsError

ROOM_PREFIX = "call-"
MANAGED_BY = "agent-worker"

FORWARDING_HEADERS = {"Diversion": "call.diversion", "History-Info": "call.history-info"}
"""Of a repeated header the bridge maps the first, and its "all headers" option keeps the last: both are used."""

EXAMPLE = """\
Describe where calls come from in telephony.yaml (AGENT_WORKER_TELEPHONY_FILE):

  sipConnections:
    - name: carrier
      address: sip.carrier.example
      allowedAddresses: [203.0.113.0/24]
  numbers:
    - e164: "+12015550123"
      agentId: front-desk
      sipConnection: carrier"""

_TRANSPORT = {
    "auto": api.SIPTransport.SIP_TRANSPORT_AUTO,
    "udp": api.SIPTransport.SIP_TRANSPORT_UDP,
    "tcp": api.SIPTransport.SIP_TRANSPORT_TCP,
    "tls": api.SIPTransport.SIP_TRANSPORT_TLS,
}
_ENCRYPTION = {
    "disable": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_DISABLE,
    "allow": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_ALLOW,
    "require": api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_REQUIRE,
}


@dataclass(frozen=True)
class Desired:
    """Trunks by the name of their SIP connection; messages hold only what we decide, everything else is left alone.

    Attributes:
        agent_name: what the rule dispatches calls to, and part of the marker on everything we make.
        warnings: what is legal and may still surprise.
    """

    agent_name: str
    inbound: Mapping[str, api.SIPInboundTrunkInfo]
    outbound: Mapping[str, api.SIPOutboundTrunkInfo]
    warnings: tuple[str, ...] = ()

    def rule(self, trunk_ids: Iterable[str]) -> api.SIPDispatchRuleInfo | None:
        """Return the rule for these inbound trunks, None for none: a rule bound to no trunk takes every call."""
        ids = sorted(trunk_ids)
        if not ids:
            return None
        individual = api.SIPDispatchRuleIndividual(room_prefix=ROOM_PREFIX)
        return api.SIPDispatchRuleInfo(
            name=self.agent_name,
            metadata=marker(self.agent_name),
            trunk_ids=ids,
            rule=api.SIPDispatchRule(dispatch_rule_individual=individual),
            room_config=api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=self.agent_name)]),
        )


def desired_state(
    numbers: Iterable[NumberConfig],
    connections: Iterable[SipConnection],
    *,
    agent_name: str,
    env: Mapping[str, str],
) -> Desired:
    """Return what LiveKit should have for these numbers, in E.164, on these connections.

    Args:
        env: where the connections' user names and passwords are.

    Raises:
        ConfigError: a number is on no connection; with all that are.
        SettingsError: an environment variable a connection names is not set; with all that are not.
    """
    by_name = {connection.name: connection for connection in connections}
    wanted = list(numbers)
    on = _placed(wanted, by_name)
    used = {name: connection for name, connection in by_name.items() if on[name]}
    _require(used.values(), env)
    inbound: dict[str, api.SIPInboundTrunkInfo] = {}
    outbound: dict[str, api.SIPOutboundTrunkInfo] = {}
    warnings: list[str] = []
    if not wanted:
        warnings.append("No numbers are configured. List them in telephony.yaml, or under an agent's `numbers`.")
    for name, connection in used.items():
        taking = [number.e164 for number in on[name] if number.takes_calls]
        placing = [number.e164 for number in on[name] if number.places_calls]
        if taking:
            inbound[name] = _inbound(connection, taking, agent_name, env)
            if not connection.allowed_addresses and not connection.username_env:
                warnings.append(
                    f"{name!r} takes calls from any address without a password: anybody can ring its numbers. "
                    "Add allowedAddresses, or usernameEnv and passwordEnv."
                )
        if placing and connection.address:
            outbound[name] = _outbound(connection, placing, agent_name, env)
    return Desired(agent_name, inbound, outbound, tuple(warnings))


def marker(agent_name: str, connection: str | None = None) -> str:
    """Return the metadata by which what we made is known again."""
    mark = {"managedBy": MANAGED_BY, "agentName": agent_name}
    return json.dumps(mark | ({"connection": connection} if connection is not None else {}), sort_keys=True)


def read_marker(metadata: str) -> tuple[str, str] | None:
    """Return agent name and connection ("" for the rule) of something `provision` made, None for what it did not."""
    try:
        mark = json.loads(metadata)
    except ValueError:
        return None
    if not isinstance(mark, dict) or mark.get("managedBy") != MANAGED_BY:
        return None
    return str(mark.get("agentName", "")), str(mark.get("connection", ""))


def _placed(numbers: Iterable[NumberConfig], connections: Mapping[str, SipConnection]) -> dict[str, list[NumberConfig]]:
    """Return each connection's numbers; one that names no connection is on the only one there is."""
    on: dict[str, list[NumberConfig]] = {name: [] for name in connections}
    lost: list[str] = []
    for number in numbers:
        name = number.sip_connection or (next(iter(connections)) if len(connections) == 1 else None)
        if name in on:
            on[name].append(number)
        else:
            lost.append(number.e164)
    if lost and not connections:
        raise ConfigError(
            "sip_connections_missing",
            f"{_listed(lost)} {'is' if len(lost) == 1 else 'are'} on no SIP connection, and none is described.",
            remedy=EXAMPLE,
        )
    if lost:
        raise ConfigError(
            "number_without_connection",
            f"{_listed(lost)} {'is' if len(lost) == 1 else 'are'} on none of the SIP connections "
            f"{', '.join(sorted(connections))}.",
            remedy="Give each number in telephony.yaml its sipConnection; a number an agent lists stands there too.",
        )
    return on


def _listed(numbers: list[str]) -> str:
    shown = ", ".join(sorted(numbers)[:5])
    return shown if len(numbers) <= 5 else f"{shown} and {len(numbers) - 5} more"


def _require(connections: Iterable[SipConnection], env: Mapping[str, str]) -> None:
    named = {name: None for connection in connections for name in _variables(connection)}
    missing = [name for name in named if not env.get(name)]
    if missing:
        raise SettingsError(
            "sip_credentials_missing",
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set.",
            remedy="A SIP connection of telephony.yaml takes its credentials from there.",
        )


def _variables(connection: SipConnection) -> list[str]:
    headers = [variable_of(value) for value in connection.headers.values()]
    return [name for name in (connection.username_env, connection.password_env, *headers) if name]


def _inbound(
    connection: SipConnection, numbers: Iterable[str], agent_name: str, env: Mapping[str, str]
) -> api.SIPInboundTrunkInfo:
    trunk = api.SIPInboundTrunkInfo(
        name=f"{agent_name} {connection.name}",
        metadata=marker(agent_name, connection.name),
        numbers=sorted(numbers),
        allowed_addresses=[_network(address) for address in connection.allowed_addresses],
        auth_username=env.get(connection.username_env or "", ""),
        auth_password=env.get(connection.password_env or "", ""),
        headers_to_attributes=FORWARDING_HEADERS,
        include_headers=api.SIPHeaderOptions.SIP_ALL_HEADERS,
        media_encryption=_ENCRYPTION[connection.media_encryption],
    )
    trunk.ringing_timeout.FromTimedelta(timedelta(seconds=connection.ringing_timeout_seconds))
    return trunk


def _outbound(
    connection: SipConnection, numbers: Iterable[str], agent_name: str, env: Mapping[str, str]
) -> api.SIPOutboundTrunkInfo:
    headers = {
        name: env[variable] if (variable := variable_of(value)) else value for name, value in connection.headers.items()
    }
    return api.SIPOutboundTrunkInfo(
        name=f"{agent_name} {connection.name}",
        metadata=marker(agent_name, connection.name),
        address=connection.address or "",
        transport=_TRANSPORT[connection.transport],
        numbers=sorted(numbers),
        auth_username=env.get(connection.username_env or "", ""),
        auth_password=env.get(connection.password_env or "", ""),
        headers=headers,
        media_encryption=_ENCRYPTION[connection.media_encryption],
    )


def _network(written: str) -> str:
    # the server reads prefix lengths only: a network mask would match nobody
    return str(ip_network(written)) if "/" in written else written
