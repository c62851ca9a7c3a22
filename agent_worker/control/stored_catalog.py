"""The agents and numbers of the database, as a catalog."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ConfigError
from agent_worker.prompting import prompt
from agent_worker.settings import Settings
from agent_worker.store.agents import config_version, load_agents, load_numbers

logger = logging.getLogger("agent_worker.control")


async def stored_catalog(connection: AsyncConnection, settings: Settings, known: str | None) -> dict[str, Any] | None:
    """Return a snapshot of what is stored, secrets and all, with its `etag`; None where that is still the known one."""
    organization = settings.organization_id
    version = await config_version(connection, organization)
    if version == known:
        return None
    agents = await load_agents(connection, organization)
    numbers = await load_numbers(connection, organization)
    texts = {agent_id: with_prompt(agent_id, agent, settings) for agent_id, agent in agents.items()}
    return {**AgentCatalog.of(texts, numbers).snapshot(secrets=True), "etag": version}


def with_prompt(agent_id: str, agent: AgentConfig, settings: Settings) -> AgentConfig:
    """Return the agent with its prompt's text; one that names a prompt this host lacks keeps the text it has."""
    if not agent.prompt:
        return agent
    try:
        return agent.model_copy(update={"system_prompt": prompt(agent.prompt, settings.prompts_dir)})
    except ConfigError as error:
        logger.error("stored agent's prompt not usable", extra={"agent": agent_id, "code": error.code})
        return agent
