"""Requests of an agent's URLs against this machine: resolvers that answer by script, and codes of refusals."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from agent_worker.egress.client import EgressClient, Reply
from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import Resolve
from agent_worker.errors import EgressError

LOOPBACK = AddressPolicy.of("127.0.0.0/8")


def resolver(*answers: list[str]) -> tuple[Resolve, list[str]]:
    """A resolver that gives these answers one after the other, the last one for ever, and the names it was asked."""
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


async def post(client: EgressClient, url: str, *, timeout_seconds: float = 5, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(url, b"{}", named, timeout_seconds=timeout_seconds)


async def code_of(answer: Awaitable[Reply]) -> str:
    with pytest.raises(EgressError) as caught:
        await answer
    assert not [word for word in ("secret-path", "token", "hush") if word in str(caught.value)]
    return caught.value.code
