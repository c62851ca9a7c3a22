"""When each tool of an agent was made and changed: tools stand in the agent's configuration, their times beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from agent_worker.domain.agent import AgentConfig
from agent_worker.store.agents import StoredAgent
from agent_worker.store.columns import wire_time


def changed_times(before: StoredAgent, after: AgentConfig, now: datetime) -> dict[str, Sequence[str]]:
    """Return the times of the agent's tools after a change; those of tools that are gone are gone."""
    tools = {tool.name: tool for tool in before.agent.tools}
    moment = wire_time(now) or ""
    times: dict[str, Sequence[str]] = {}
    for tool in after.tools:
        if tool.name not in tools:
            times[tool.name] = (moment, moment)
        elif tool == tools[tool.name]:
            times[tool.name] = times_of(before, tool.name)
        else:
            times[tool.name] = (times_of(before, tool.name)[0], moment)
    return times


def times_of(agent: StoredAgent, name: str) -> Sequence[str]:
    """Return when a tool was made and last changed: with its agent, where nothing else is known."""
    made = wire_time(agent.created_at) or ""
    times: Mapping[str, Sequence[str]] = agent.tool_times
    return times.get(name) or (made, made)
