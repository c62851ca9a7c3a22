"""`/v1/agents/{id}/tools`: what an agent can do; each tool stands in its agent's configuration (contract 4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Path, Query

from agent_worker.api.agents import Deleted
from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.bodies import Like, invalid
from agent_worker.api.errors import ApiError
from agent_worker.api.known_agents import Admin, AgentId, Reader, agent_to_change, rules_of, the_agent
from agent_worker.api.shapes import errors
from agent_worker.api.tool_rows import ToolRow, tool_id, tool_row
from agent_worker.config.agent_body import CheckedBody, Remark, not_active, with_tool
from agent_worker.config.problems import did_you_mean
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.domain.tool_ref import ToolRef
from agent_worker.store.agents import StoredAgent, save_agent
from agent_worker.store.tool_times import changed_times
from agent_worker.toolbox.names import tool_names

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

REQUIRED = ("name", "description", "parameters", "source")
CLEARABLE = frozenset({"preToolSpeech", "toolSound", "simulation"})

_NEW = {
    "name": "look_up_order",
    "description": "Look up an order by its number.",
    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
    "source": {"kind": "webhook", "url": "https://crm.example.com/orders", "secret": "a secret of yours"},
}

ToolId = Annotated[str, Path(max_length=200)]
ToolBody = Annotated[dict[str, Any], Like(ToolRef, REQUIRED, tuple(_NEW.items())), Body()]
ToolChange = Annotated[dict[str, Any], Like(ToolRef, (), (("description", "Look up an order."),)), Body()]
OnlyAvailable = Annotated[bool, Query(description="Leave out what cannot run now: all but functions of `tools/`.")]


def tools_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["tools"], prefix="/agents/{agent_id}/tools")
    rows: dict[str, Any] = {"response_model_exclude_unset": True}

    async def functions() -> Mapping[str, str]:
        return await asyncio.to_thread(tool_names, backend.settings.tools_dir)

    @router.get("", responses=errors(404), **rows)
    async def list_tools(agent_id: AgentId, principal: Reader, available: OnlyAvailable = False) -> list[ToolRow]:
        """The agent's tools, in the order a model is offered them."""
        known = await functions()
        async with backend.control.reading() as connection:
            agent, _ = await the_agent(connection, backend, principal, agent_id)
        return [tool_row(agent, tool, known) for tool in agent.agent.tools if not available or tool.function in known]

    @router.post("", status_code=201, responses=errors(404, 409), **rows)
    async def create_tool(agent_id: AgentId, principal: Admin, body: ToolBody) -> ToolRow:
        """Give the agent one tool more."""
        changed, checked = await _create(backend, principal, agent_id, body)
        return _shown(changed, changed.agent.tools[-1], await functions(), checked.warnings)

    @router.get("/{tool_id}", responses=errors(404), **rows)
    async def get_tool(agent_id: AgentId, tool_id: ToolId, principal: Reader) -> ToolRow:
        """One tool, with what of it changes nothing yet."""
        async with backend.control.reading() as connection:
            agent, _ = await the_agent(connection, backend, principal, agent_id)
        return _shown(agent, _the_tool(agent, tool_id), await functions(), _not_active(agent, tool_id))

    @router.patch("/{tool_id}", responses=errors(404, 409), **rows)
    async def update_tool(agent_id: AgentId, tool_id: ToolId, principal: Admin, body: ToolChange) -> ToolRow:
        """Replace the keys that are supplied, but never the name; a secret that is not supplied stays."""
        changed, checked = await _change(backend, principal, agent_id, tool_id, body)
        return _shown(changed, _the_tool(changed, tool_id), await functions(), checked.warnings)

    @router.delete("/{tool_id}", responses=errors(404, 409))
    async def remove_tool(agent_id: AgentId, tool_id: ToolId, principal: Admin) -> Deleted:
        """Take a tool from the agent."""
        await _delete(backend, principal, agent_id, tool_id)
        return Deleted(deleted=True)

    return router


async def _create(
    backend: Backend, principal: Principal, agent_id: str, body: Mapping[str, Any]
) -> tuple[StoredAgent, CheckedBody]:
    _check_new(body)
    rules = await rules_of(backend)
    async with backend.control.writing() as connection:
        agent = await agent_to_change(connection, backend, principal, agent_id)
        if any(tool.name == body["name"] for tool in agent.agent.tools):
            raise ApiError(409, "TOOL_NAME_CONFLICT", "The agent has a tool of this name.", retryable=False)
        checked = with_tool(agent.agent, body, rules, name=None)
        changed = await _save(connection, backend, agent, checked)
        resource = _resource(agent_id, changed.agent.tools[-1].name)
        await audit(connection, backend, principal, "tool.create", resource)
    await backend.keeper.refresh()
    return changed, checked


async def _change(
    backend: Backend, principal: Principal, agent_id: str, wanted: str, body: Mapping[str, Any]
) -> tuple[StoredAgent, CheckedBody]:
    rules = await rules_of(backend)
    async with backend.control.writing() as connection:
        agent = await agent_to_change(connection, backend, principal, agent_id)
        name = _the_tool(agent, wanted).name
        _check_change(body, name)
        checked = with_tool(agent.agent, body, rules, name=name)
        changed = await _save(connection, backend, agent, checked)
        keys = {"keys": sorted({*body} & _ALL_KEYS)}
        await audit(connection, backend, principal, "tool.update", _resource(agent_id, name), keys)
    await backend.keeper.refresh()
    return changed, checked


async def _delete(backend: Backend, principal: Principal, agent_id: str, wanted: str) -> None:
    async with backend.control.writing() as connection:
        agent = await agent_to_change(connection, backend, principal, agent_id)
        name = _the_tool(agent, wanted).name
        kept = [tool for tool in agent.agent.tools if tool.name != name]
        await _save(connection, backend, agent, CheckedBody(agent.agent.model_copy(update={"tools": kept})))
        await audit(connection, backend, principal, "tool.delete", _resource(agent_id, name))
    await backend.keeper.refresh()


async def _save(connection: AsyncConnection, backend: Backend, agent: StoredAgent, checked: CheckedBody) -> StoredAgent:
    if checked.agent is None:
        raise invalid(checked.issues)
    now = utc_now()
    times = changed_times(agent, checked.agent, now)
    organization = backend.organization_id
    await save_agent(connection, organization, checked.agent, agent_id=agent.id, now=now, tool_times=times)
    return StoredAgent(agent.id, checked.agent, agent.created_at, now, times)


_ALL_KEYS = frozenset(field.alias or name for name, field in ToolRef.model_fields.items())


def _the_tool(agent: StoredAgent, wanted: str) -> ToolRef:
    for tool in agent.agent.tools:
        if tool_id(agent.id, tool.name) == wanted:
            return tool
    raise ApiError(404, "NOT_FOUND", "The agent has no such tool.", retryable=False)


def _resource(agent_id: str, name: str) -> str:
    return f"agents/{agent_id}/tools/{tool_id(agent_id, name)}"


def _check_new(body: Mapping[str, Any]) -> None:
    missing = [Remark((key,), "is required") for key in REQUIRED if body.get(key) is None]
    if not missing and body["description"] == "":
        missing = [Remark(("description",), "must not be empty")]
    if missing:
        raise invalid(missing)


def _check_change(body: Mapping[str, Any], name: str) -> None:
    issues = [
        Remark((key,), "cannot be cleared")
        for key, value in body.items()
        if value is None and key in REQUIRED and key not in CLEARABLE
    ]
    if body.get("name", name) != name:
        issues.append(Remark(("name",), "cannot be changed: delete the tool and create another."))
    if issues:
        raise invalid(issues)


def _not_active(agent: StoredAgent, wanted: str) -> Iterator[Remark]:
    names = [tool_id(agent.id, tool.name) for tool in agent.agent.tools]
    place = ("tools", names.index(wanted))
    for remark in not_active(AgentConfig(name="-", tools=agent.agent.tools)):
        if remark.path[:2] == place:
            yield Remark(remark.path[2:], remark.message)


def _shown(agent: StoredAgent, tool: ToolRef, functions: Mapping[str, str], told: Any) -> ToolRow:
    warnings = list(told)
    if tool.function is not None and tool.function not in functions:
        remedy = did_you_mean(tool.function, list(functions))
        warnings.append(
            Remark(("source", "name"), f"There is no function of this name in tools/ here. {remedy}".strip())
        )
    return tool_row(agent, tool, functions, warnings)
