"""What becomes of an endpoint's row when it is registered or changed: decisions only, and where its URL leads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import resolve_host

OVERLAP = timedelta(hours=24)
"""How long a secret that was replaced still signs beside the new one."""

RESOLVE_SECONDS = 2.0

DEFAULTS: Mapping[str, Any] = {
    "all_agents": True,
    "agent_ids": [],
    "filter_tags": {},
    "headers": {},
    "auth_headers": [],
    "timeout_ms": 8_000,
    "signing_secret_source": "workspace",
    "signing_secret": None,
    "previous_signing_secret": None,
    "previous_secret_until": None,
    "extraction_fields": [],
    "content_mode": "full",
}


class NotPossible(Exception):
    """The endpoint cannot be so.

    Attributes:
        key: which part of the request is wrong, camelCase.
    """

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


async def check_url(url: str, policy: AddressPolicy) -> None:
    """Check that the URL may be reached, as far as can be said now; each request checks again.

    Raises:
        EgressError: it may not.
    """
    destination = policy.check_url(url)
    if destination.address is not None:
        return
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            addresses = await resolve_host(destination.host, destination.port)
    except (OSError, UnicodeError, TimeoutError):
        return  # the name may come to be known before anything is sent
    for address in addresses:
        policy.check_address(destination, address)


def changed_row(before: Mapping[str, Any], change: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the columns that change.

    Args:
        before: the row by column; `DEFAULTS` for a new one.
        change: the supplied keys, by column.

    Raises:
        NotPossible: the row would contradict itself.
    """
    values = dict(change)
    if "auth_headers" in values:
        values["auth_headers"] = _auth_headers(before["auth_headers"], values["auth_headers"])
    for name in ("events", "agent_ids"):
        if name in values:
            values[name] = list(dict.fromkeys(values[name]))
    values |= _secrets(before, values, now)
    after = {**before, **values}
    if not after["all_agents"] and not after["agent_ids"]:
        raise NotPossible("agentIds", "Without allAgents, name at least one agent.")
    return values


def _auth_headers(before: Sequence[Mapping[str, str]], given: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    kept = {header["name"].lower(): header["value"] for header in before}
    headers = []
    for header in given:
        value = kept.get(header["name"].lower()) if header["value"] is None else header["value"]
        if value is None:
            raise NotPossible("authHeaders", f"{header['name']} has no value.")
        headers.append({"name": header["name"], "value": value})
    return headers


def _secrets(before: Mapping[str, Any], change: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    source = change.get("signing_secret_source", before["signing_secret_source"])
    old, new = before["signing_secret"], change.get("signing_secret")
    if source == "workspace":
        if new is not None:
            raise NotPossible("signingSecret", "Set signingSecretSource to custom to sign with a secret of its own.")
    elif new is None:
        if old is None:
            raise NotPossible("signingSecret", "With signingSecretSource custom, a signingSecret is needed.")
        new = old
    if new == old:
        return {}
    previous = {} if old is None else {"previous_signing_secret": old, "previous_secret_until": now + OVERLAP}
    return {"signing_secret": new, **previous}
