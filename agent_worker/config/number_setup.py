"""Whether a number can be called and can call: what is there, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from agent_worker.config.overrides import read_overrides
from agent_worker.domain.number import NumberConfig, SipConnection


@dataclass(frozen=True)
class NumberSetup:
    """How far a number is set up.

    Attributes:
        agent_ready: somebody answers: a linked agent that is there, or a template.
        connection_ready: there is a SIP connection, or a trunk of the operator's, that the number is on.
        issues: what is missing, each with its remedy.
    """

    inbound_ready: bool
    outbound_ready: bool
    agent_ready: bool
    connection_ready: bool
    issues: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether nothing is left to do."""
        return not self.issues


def may_take_calls(number: NumberConfig) -> bool:
    """Return whether what answers is said, where calls are taken (contract 1.5)."""
    return not number.takes_calls or number.agent_id is not None or bool(number.dispatch_metadata_template)


def setup_of(
    number: NumberConfig,
    *,
    agents: Collection[str],
    connections: Mapping[str, SipConnection],
    trunk_id: str | None = None,
    shadowed: bool = False,
) -> NumberSetup:
    """Return how far a number is set up.

    Args:
        agents: ids of all agents there are.
        trunk_id: LiveKit's outbound trunk, where the operator named one.
        shadowed: a file has the same number, and counts.
    """
    issues: list[str] = []
    if shadowed:
        issues.append("A file of the control plane's host has this number too, and counts: delete one of the two.")
    agent_ready = _agent_ready(number, agents, issues)
    connection, connected = _connection(number, connections, trunk_id, issues)
    placed = trunk_id is not None or (connection is not None and connection.address is not None)
    if number.direction == "outbound" and connected and not placed:
        issues.append("The SIP connection has no address, so no calls are placed: add one in telephony.yaml.")
    return NumberSetup(
        inbound_ready=number.takes_calls and agent_ready and connected and not shadowed,
        outbound_ready=number.places_calls and placed,
        agent_ready=agent_ready,
        connection_ready=connected,
        issues=tuple(issues),
    )


def _agent_ready(number: NumberConfig, agents: Collection[str], issues: list[str]) -> bool:
    if number.agent_id is not None and number.agent_id not in agents:
        issues.append("The linked agent is not there: link another one.")
    elif not may_take_calls(number):
        issues.append("Nobody answers: link an agent, or give it a dispatchMetadataTemplate.")
    wrong = read_overrides(number.dispatch_metadata_template or {}, "number").wrong
    issues += [f"dispatchMetadataTemplate: {sentence}" for sentence in wrong.values()]
    return number.agent_id in agents or (number.agent_id is None and bool(number.dispatch_metadata_template))


def _connection(
    number: NumberConfig, connections: Mapping[str, SipConnection], trunk_id: str | None, issues: list[str]
) -> tuple[SipConnection | None, bool]:
    name = number.sip_connection or (next(iter(connections)) if len(connections) == 1 else None)
    found = connections.get(name) if name is not None else None
    if found is None and trunk_id is None:
        if number.sip_connection is not None:
            issues.append("telephony.yaml has no SIP connection of this name: describe it there.")
        elif connections:
            issues.append("There are several SIP connections: say in sipConnectionInstallationId which one it is on.")
        else:
            issues.append("No SIP connection is described: write telephony.yaml, then run `provision`.")
    return found, found is not None or trunk_id is not None
