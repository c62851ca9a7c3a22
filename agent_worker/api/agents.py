"""`/v1/agents`: the agents of this deployment, made and changed while calls go on (contract 1.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body

from agent_worker.api.agent_rows import AgentRow, row_of
from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.bodies import Like, invalid
from agent_worker.api.errors import ApiError
from agent_worker.api.known_agents import (
    Admin,
    AgentId,
    Reader,
    agent_to_change,
    all_agents,
    files_of,
    rules_of,
    the_agent,
    unknown_agent,
)
from agent_worker.api.shapes import CamelShape, errors
from agent_worker.config.agent_body import REQUIRED, CheckedBody, Remark, changed_agent, new_agent, not_active
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.store.agents import delete_agent, lock_agents, save_agent
from agent_worker.store.tool_times import changed_times

_NEW = {
    "name": "Front desk",
    "systemPrompt": "You answer the phone of a dental practice.",
    "intent": {"language": "en", "optimizeFor": "latency"},
}

AgentBody = Annotated[dict[str, Any], Like(AgentConfig, REQUIRED, tuple(_NEW.items())), Body()]
AgentChange = Annotated[dict[str, Any], Like(AgentConfig, (), (("firstMessage", "Hello."), ("voice", None))), Body()]


class Deleted(CamelShape):
    """What was asked for is done."""

    deleted: Literal[True]


def agents_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["agents"], prefix="/agents")
    rows: dict[str, Any] = {"response_model_exclude_unset": True}

    @router.get("", responses=errors(), **rows)
    async def list_agents(principal: Reader) -> list[AgentRow]:
        """Every agent, those of files first."""
        async with backend.control.reading() as connection:
            found = await all_agents(connection, backend)
        return [
            row_of(agent, backend.organization_id, source) for agent, source in found if principal.may_see(agent.id)
        ]

    @router.post("", status_code=201, responses=errors(), **rows)
    async def create_agent(principal: Admin, body: AgentBody) -> AgentRow:
        """Make an agent; the next call to one of its numbers is planned with it."""
        return await _create(backend, principal, body)

    @router.get("/{agent_id}", responses=errors(404), **rows)
    async def get_agent(agent_id: AgentId, principal: Reader) -> AgentRow:
        """One agent, with what of it changes nothing yet."""
        async with backend.control.reading() as connection:
            found, source = await the_agent(connection, backend, principal, agent_id)
        return row_of(found, backend.organization_id, source, not_active(found.agent))

    @router.patch("/{agent_id}", responses=errors(404, 409), **rows)
    async def update_agent(agent_id: AgentId, principal: Admin, body: AgentChange) -> AgentRow:
        """Replace the keys that are supplied; null clears one. A secret that is not supplied stays."""
        return await _change(backend, principal, agent_id, body)

    @router.delete("/{agent_id}", responses=errors(404, 409))
    async def remove_agent(agent_id: AgentId, principal: Admin) -> Deleted:
        """Delete an agent with its tools, and unlink its numbers; calls that are live go on."""
        await _delete(backend, principal, agent_id)
        return Deleted(deleted=True)

    return router


_ALL_KEYS = frozenset(field.alias or name for name, field in AgentConfig.model_fields.items())


async def _create(backend: Backend, principal: Principal, body: Mapping[str, Any]) -> AgentRow:
    unlimited(principal)
    checked = _usable(new_agent(body, await rules_of(backend)), backend, None)
    assert checked.agent is not None
    async with backend.control.writing() as connection:
        made = await save_agent(connection, backend.organization_id, checked.agent, agent_id=None, now=utc_now())
        keys = {"keys": sorted({*body} & _ALL_KEYS)}
        await audit(connection, backend, principal, "agent.create", f"agents/{made}", keys)
        found, source = await the_agent(connection, backend, principal, made)
    await backend.keeper.refresh()
    return row_of(found, backend.organization_id, source, checked.warnings)


async def _change(backend: Backend, principal: Principal, agent_id: str, body: Mapping[str, Any]) -> AgentRow:
    rules = await rules_of(backend)
    async with backend.control.writing() as connection:
        before = await agent_to_change(connection, backend, principal, agent_id)
        checked = _usable(changed_agent(before.agent, body, rules), backend, agent_id)
        assert checked.agent is not None
        now = utc_now()
        times = changed_times(before, checked.agent, now)
        organization = backend.organization_id
        await save_agent(connection, organization, checked.agent, agent_id=agent_id, now=now, tool_times=times)
        keys = {"keys": sorted({*body} & _ALL_KEYS)}
        await audit(connection, backend, principal, "agent.update", f"agents/{agent_id}", keys)
        found, source = await the_agent(connection, backend, principal, agent_id)
    await backend.keeper.refresh()
    return row_of(found, backend.organization_id, source, checked.warnings)


async def _delete(backend: Backend, principal: Principal, agent_id: str) -> None:
    files = files_of(backend).agents
    async with backend.control.writing() as connection:
        stored = await lock_agents(connection, backend.organization_id)
        if agent_id not in stored or not principal.may_see(agent_id) or agent_id in files:
            await agent_to_change(connection, backend, principal, agent_id)
        if not files and len(stored) == 1:
            sentence = "This is the only agent, and nobody would answer: create another one first."
            raise ApiError(409, "LAST_AGENT", sentence, retryable=False)
        if not await delete_agent(connection, backend.organization_id, agent_id, now=utc_now()):
            raise unknown_agent()
        await audit(connection, backend, principal, "agent.delete", f"agents/{agent_id}")
    await backend.keeper.refresh()


def unlimited(principal: Principal) -> None:
    """Refuse to make anything for a key that is limited to some agents.

    Raises:
        ApiError: it is.
    """
    if principal.agent_ids is not None:
        raise ApiError(403, "FORBIDDEN", "This key is limited to some agents and makes no others.", retryable=False)


def _usable(checked: CheckedBody, backend: Backend, agent_id: str | None) -> CheckedBody:
    """Return what was checked.

    Raises:
        ApiError: something is wrong with it, or it lists a number that another agent answers.
    """
    issues = list(checked.issues)
    numbers = backend.catalog.current().numbers
    for index, number in enumerate(checked.agent.numbers if checked.agent else ()):
        taken = numbers.get(number)
        if taken is not None and taken.config.agent_id not in (None, agent_id):
            issues.append(Remark(("numbers", index), "is answered by another agent; a number belongs to one."))
    if issues:
        raise invalid(issues)
    return checked
