"""The agents a request can name: those of files and those of the database, as far as its key sees them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path as FolderPath
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, Path
from pydantic import BaseModel

from agent_worker.api.agent_rows import of_file
from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.config.agent_body import Rules
from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.stored_catalog import with_prompt
from agent_worker.domain.dialling import DialPolicy
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ConfigError
from agent_worker.store.agents import StoredAgent, stored_agent, stored_agents
from agent_worker.toolbox.loader import config_models, load_tools

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.api")

Source = Literal["file", "database"]
Reader = Annotated[Principal, Depends(requires(Scope.READ))]
Admin = Annotated[Principal, Depends(requires(Scope.ADMIN))]
AgentId = Annotated[str, Path(max_length=200, description="Id of a row, or name of an agent that is a file.")]


def files_of(backend: Backend) -> AgentCatalog:
    """Return what stands in this host's files."""
    return backend.catalog.files or AgentCatalog.of([])


async def all_agents(connection: AsyncConnection, backend: Backend) -> list[tuple[StoredAgent, Source]]:
    """Return every agent, files first, whoever asks; where both know an id, the file counts."""
    files = files_of(backend)
    found: list[tuple[StoredAgent, Source]] = [
        (of_file(name, agent, files.files.get(name)), "file") for name, agent in files.agents.items()
    ]
    rows = await stored_agents(connection, backend.organization_id)
    return found + [(_with_text(row, backend), "database") for row in rows if row.id not in files.agents]


async def the_agent(
    connection: AsyncConnection, backend: Backend, principal: Principal, agent_id: str
) -> tuple[StoredAgent, Source]:
    """Return one agent.

    Raises:
        ApiError: there is none, as far as the key sees.
    """
    files = files_of(backend)
    if principal.may_see(agent_id):
        if agent_id in files.agents:
            return of_file(agent_id, files.agents[agent_id], files.files.get(agent_id)), "file"
        row = await stored_agent(connection, backend.organization_id, agent_id)
        if row is not None:
            return _with_text(row, backend), "database"
    raise unknown_agent()


async def agent_to_change(
    connection: AsyncConnection, backend: Backend, principal: Principal, agent_id: str
) -> StoredAgent:
    """Return one agent as its row says it; nobody else changes it until the transaction ends.

    Raises:
        ApiError: there is none, as far as the key sees, or it is a file.
    """
    if principal.may_see(agent_id):
        files = files_of(backend)
        if agent_id in files.agents:
            raise _is_a_file(files, agent_id)
        row = await stored_agent(connection, backend.organization_id, agent_id, for_update=True)
        if row is not None:
            return row
    raise unknown_agent()


def unknown_agent() -> ApiError:
    """Return what is answered where there is no such agent, or none the key sees."""
    return ApiError(404, "NOT_FOUND", "There is no such agent.", retryable=False)


async def rules_of(backend: Backend, env: Mapping[str, str] = os.environ) -> Rules:
    """Return what configurations that come over HTTP are held against.

    The tools are loaded once, when the first configuration comes, so ask for this before a transaction is opened; where
    that fails, their `config` is not checked.
    """
    settings = backend.settings
    try:
        tool_configs = await asyncio.to_thread(_tool_configs, settings.tools_dir)
    except ConfigError as error:
        logger.error("tools not loaded: what agents configure them with is not checked", extra={"code": error.code})
        tool_configs = {}
    policy, dialling = AddressPolicy.of(settings.egress_allow), DialPolicy.of(settings.dial_allow)
    return Rules(policy, settings.prompts_dir, env, tool_configs, dialling)


@lru_cache(maxsize=1)
def _tool_configs(tools_dir: FolderPath) -> Mapping[str, type[BaseModel]]:
    return config_models(load_tools(tools_dir))


def _is_a_file(files: AgentCatalog, agent_id: str) -> ApiError:
    where = f" {files.files[agent_id].file}" if agent_id in files.files else ""
    sentence = f"This agent is the file{where}: change the file and restart, or create an agent over HTTP."
    return ApiError(409, "AGENT_IS_A_FILE", sentence, retryable=False)


def _with_text(row: StoredAgent, backend: Backend) -> StoredAgent:
    return replace(row, agent=with_prompt(row.id, row.agent, backend.settings))
