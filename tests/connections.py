"""Numbers and SIP connections to provision, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from agent_worker.domain.number import NumberConfig, SipConnection
from agent_worker.telephony.desired import Desired, desired_state

NUMBERS = [f"+1201555010{digit}" for digit in range(6)]
NAMES = ["east", "north", "west"]


def connection(name: str = "carrier", **changes: object) -> SipConnection:
    return SipConnection.model_validate({"name": name, "allowedAddresses": ["203.0.113.0/24"]} | changes)


def number(e164: str, on: str | None = None, direction: str = "both") -> NumberConfig:
    return NumberConfig.model_validate({"e164": e164, "sipConnection": on, "direction": direction})


def desired(
    numbers: Iterable[NumberConfig],
    connections: Iterable[SipConnection] = (),
    agent_name: str = "desk",
    **env: str,
) -> Desired:
    return desired_state(numbers, list(connections) or [connection()], agent_name=agent_name, env=env)
