"""What tests of agents over HTTP do with them."""

from __future__ import annotations

from typing import Any

import httpx

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.store.agents import load_agents
from tests.integration.api_client import NEW_AGENT, Served

HOOK = {
    "url": "https://crm.example.com/status",
    "secret": "a-secret-of-the-hook",
    "headers": {"x-tenant": "a"},
    "authHeaders": [{"name": "Authorization", "value": "Bearer of-the-header"}],
    "timeoutMs": 3000,
}


async def made(there: Served, **changes: Any) -> dict[str, Any]:
    """Make an agent; returns its row."""
    answer = await there.http.post("/v1/agents", json={**NEW_AGENT, **changes})
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def changed(there: Served, agent_id: str, **changes: Any) -> dict[str, Any]:
    """Change an agent; returns its row."""
    answer = await there.http.patch(f"/v1/agents/{agent_id}", json=changes)
    assert answer.status_code == 200, answer.text
    row: dict[str, Any] = answer.json()
    return row


async def stored(there: Served, agent_id: str) -> AgentConfig:
    """Return an agent as the database has it."""
    control = EmbeddedControlPlane(there.settings)
    async with control.reading() as connection:
        agents = await load_agents(connection, there.settings.organization_id)
    await control.aclose()
    return agents[agent_id]


def wrong(answer: httpx.Response) -> dict[str, str]:
    """Return the issues of an answer that says the request is wrong: dotted path -> message."""
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "VALIDATION_ERROR"
    return {".".join(map(str, issue["path"])): issue["message"] for issue in answer.json()["issues"]}
