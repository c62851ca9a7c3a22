"""Agents and numbers as rows: saved as given, read back one by one, and a mark that tells when any has changed."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from sqlalchemy import ColumnElement, RowMapping, Table, Text, cast, delete, extract, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import NumberConfig
from agent_worker.errors import ControlPlaneError
from agent_worker.store.tables import agents, numbers
from agent_worker.store.upsert import insert, storable

logger = logging.getLogger("agent_worker.store")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEMPLATE = "dispatch_metadata_template"


@dataclass(frozen=True)
class StoredAgent:
    """An agent and what its row says besides.

    Attributes:
        tool_times: of tools that were added or changed on their own, `[made, changed]` by name, as the wire has times.
    """

    id: str
    agent: AgentConfig
    created_at: datetime
    updated_at: datetime
    tool_times: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredNumber:
    """A number and what its row says besides.

    Attributes:
        sip_trunk_id: LiveKit's trunk, where the number is on no SIP connection of ours.
        sip_provider_name: the carrier's name, for people.
    """

    id: str
    number: NumberConfig
    created_at: datetime
    updated_at: datetime
    sip_trunk_id: str | None = None
    sip_provider_name: str | None = None


async def save_agent(
    connection: AsyncConnection,
    organization_id: str,
    agent: AgentConfig,
    *,
    agent_id: str | None,
    now: datetime,
    tool_times: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Write an agent and return its id; what the configuration leaves unsaid stays unsaid.

    Args:
        agent_id: the agent to replace, or to make where no organization has it; None makes a new one.
        tool_times: None leaves them as they are.

    Raises:
        ControlPlaneError: not retryable: the id is another organization's, or the row would not read back.
    """
    config = storable(agent.model_dump(mode="json", by_alias=True, exclude_unset=True))
    try:
        AgentConfig.model_validate(config)
    except ValidationError:
        raise ControlPlaneError(
            "value_not_storable", "The agent cannot be stored: its row would not read back.", retryable=False
        ) from None  # its text has values, and they may be secrets
    agent_id = agent_id or f"agent_{uuid.uuid4().hex}"
    values: dict[str, Any] = {"name": config["name"], "config": config}
    if tool_times is not None:
        values["tool_times"] = {name: list(times) for name, times in tool_times.items()}
    await _save(connection, agents, organization_id, agent_id, values, now)
    return agent_id


async def load_agents(connection: AsyncConnection, organization_id: str) -> dict[str, AgentConfig]:
    """Return the organization's agents by id, oldest first; a row that is no agent any more is logged and left out."""
    return {found.id: found.agent for found in await stored_agents(connection, organization_id)}


async def stored_agents(connection: AsyncConnection, organization_id: str) -> list[StoredAgent]:
    """Return the organization's agents, oldest first; a row that is no agent any more is logged and left out."""
    rows = await _rows(connection, agents, organization_id, json="config")
    return [found for row in rows if (found := _agent(row)) is not None]


async def stored_agent(
    connection: AsyncConnection, organization_id: str, agent_id: str, *, for_update: bool = False
) -> StoredAgent | None:
    """Return one agent, None where there is none, or its row is none any more.

    Args:
        for_update: nobody else changes it until the transaction ends.
    """
    rows = await _rows(connection, agents, organization_id, json="config", row_id=agent_id, for_update=for_update)
    return _agent(rows[0]) if rows else None


async def lock_agents(connection: AsyncConnection, organization_id: str) -> set[str]:
    """Return the ids of all agents, none of which anybody else changes until the transaction ends."""
    query = select(agents.c.id).where(agents.c.organization_id == organization_id).order_by(agents.c.id)
    return set((await connection.execute(query.with_for_update())).scalars())


def _agent(row: RowMapping) -> StoredAgent | None:
    try:
        agent = AgentConfig.model_validate_json(row["config"])
    except ValidationError as error:
        left_out = {"agent_id": row["id"], "keys": _wrong_keys(error)}
        logger.error("stored agent not usable, left out", extra=left_out)
        return None
    return StoredAgent(row["id"], agent, row["created_at"], row["updated_at"], row["tool_times"] or {})


async def delete_agent(connection: AsyncConnection, organization_id: str, agent_id: str, *, now: datetime) -> bool:
    """Delete an agent, and unlink its numbers; returns whether there was one."""
    owned = (agents.c.organization_id == organization_id, agents.c.id == agent_id)
    if (await connection.execute(delete(agents).where(*owned))).rowcount == 0:
        return False
    linked = (numbers.c.organization_id == organization_id, numbers.c.agent_id == agent_id)
    unlinked = {"agent_id": None, "version": numbers.c.version + 1, "updated_at": now}
    await connection.execute(update(numbers).where(*linked).values(unlinked))
    return True


async def save_number(
    connection: AsyncConnection,
    organization_id: str,
    number: NumberConfig,
    *,
    number_id: str | None,
    now: datetime,
    trunk: Mapping[str, str | None] | None = None,
) -> str:
    """Write a number and return its id; the agent it names need not be in the database.

    Args:
        number_id: the number to replace, or to make where no organization has it; None makes a new one.
        trunk: `sip_trunk_id` and `sip_provider_name`; None leaves them as they are.

    Raises:
        ControlPlaneError: not retryable: the organization has this number under another id, or the id is another
            organization's.
    """
    values = storable(number.model_dump(mode="json"))
    same = (numbers.c.organization_id == organization_id, numbers.c.e164 == values["e164"])
    known = (await connection.execute(select(numbers.c.id).where(*same))).scalar_one_or_none()
    if known is not None and known != number_id:
        raise ControlPlaneError("number_exists", f"The number is there already, as {known}.", retryable=False)
    number_id = number_id or f"pn_{uuid.uuid4().hex}"
    try:
        await _save(connection, numbers, organization_id, number_id, values | storable(dict(trunk or {})), now)
    except IntegrityError as error:  # somebody wrote it between our look and our write
        raise ControlPlaneError("number_exists", "The number is there already.", retryable=False) from error
    return number_id


async def load_numbers(connection: AsyncConnection, organization_id: str) -> dict[str, NumberConfig]:
    """Return the organization's numbers by id, oldest first; a row that is none any more is logged and left out."""
    return {found.id: found.number for found in await stored_numbers(connection, organization_id)}


async def stored_numbers(connection: AsyncConnection, organization_id: str) -> list[StoredNumber]:
    """Return the organization's numbers, oldest first; a row that is none any more is logged and left out."""
    rows = await _rows(connection, numbers, organization_id, json=_TEMPLATE)
    return [found for row in rows if (found := _number(row)) is not None]


async def stored_number(
    connection: AsyncConnection, organization_id: str, number_id: str, *, for_update: bool = False
) -> StoredNumber | None:
    """Return one number, None where there is none, or its row is none any more.

    Args:
        for_update: nobody else changes it until the transaction ends.
    """
    rows = await _rows(connection, numbers, organization_id, json=_TEMPLATE, row_id=number_id, for_update=for_update)
    return _number(rows[0]) if rows else None


def _number(row: RowMapping) -> StoredNumber | None:
    given = {name: row[name] for name in NumberConfig.model_fields if row[name] is not None}
    try:
        if _TEMPLATE in given:
            given[_TEMPLATE] = from_json(given[_TEMPLATE])
        number = NumberConfig.model_validate(given)
    except ValidationError as error:
        left_out = {"number_id": row["id"], "keys": _wrong_keys(error)}
        logger.error("stored number not usable, left out", extra=left_out)
        return None
    except ValueError:  # not JSON
        logger.error("stored number not usable, left out", extra={"number_id": row["id"], "keys": [_TEMPLATE]})
        return None
    times = (row["created_at"], row["updated_at"])
    return StoredNumber(row["id"], number, *times, row["sip_trunk_id"], row["sip_provider_name"])


async def delete_number(connection: AsyncConnection, organization_id: str, number_id: str) -> bool:
    """Delete a number; returns whether there was one."""
    owned = (numbers.c.organization_id == organization_id, numbers.c.id == number_id)
    return (await connection.execute(delete(numbers).where(*owned))).rowcount > 0


async def config_version(connection: AsyncConnection, organization_id: str) -> str:
    """Return a mark that differs after any agent or number was saved or deleted.

    It reads indexes only, no row. Read it before the rows it stands for: what is saved in between is then met again.
    """
    return "-".join([await _state(connection, table, organization_id) for table in (agents, numbers)])


async def _state(connection: AsyncConnection, table: Table, organization_id: str) -> str:
    # A deleted row and a new one may have the same version, and a clock that is behind the same latest time;
    # the sum of all times still tells them apart.
    query = select(
        func.count(),
        func.coalesce(func.sum(table.c.version), 0),
        func.coalesce(func.sum(extract("epoch", table.c.updated_at)), 0),
        func.max(table.c.updated_at),
    ).where(table.c.organization_id == organization_id)
    count, versions, times, latest = (await connection.execute(query)).one()
    return f"{count}.{versions}.{times}.{(latest or _EPOCH).timestamp():.6f}"


async def _save(
    connection: AsyncConnection,
    table: Table,
    organization_id: str,
    row_id: str,
    values: dict[str, Any],
    now: datetime,
) -> None:
    kept = {**values, "updated_at": now}
    new = {**kept, "id": row_id, "organization_id": organization_id, "created_at": now, "version": 1}
    statement = insert(connection, table).values(new)
    replaced: dict[str, Any] = {name: statement.excluded[name] for name in kept}
    upsert = statement.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={**replaced, "version": table.c.version + 1},
        where=table.c.organization_id == organization_id,
    )
    written = await connection.execute(upsert.returning(table.c.id))
    if written.scalar_one_or_none() is None:
        raise ControlPlaneError(f"{table.name[:-1]}_not_found", f"There is no {row_id}.", retryable=False)


async def _rows(
    connection: AsyncConnection,
    table: Table,
    organization_id: str,
    *,
    json: str,
    row_id: str | None = None,
    for_update: bool = False,
) -> Sequence[RowMapping]:
    # The JSON is fetched as text: one row's that cannot be parsed would fail the whole query.
    columns: list[ColumnElement[Any]] = [
        cast(column, Text).label(column.name) if column.name == json else column for column in table.c
    ]
    owned = table.c.organization_id == organization_id
    query = select(*columns).where(owned).order_by(table.c.created_at, table.c.id)
    if row_id is not None:
        query = query.where(table.c.id == row_id)
    if for_update:
        query = query.with_for_update()
    return (await connection.execute(query)).mappings().all()


def _wrong_keys(error: ValidationError) -> list[str]:
    details = error.errors(include_url=False, include_context=False, include_input=False)
    return sorted({str(detail["loc"][0]) for detail in details if detail["loc"]})
