"""The numbers a request can name: those of files, those of the database, and those that agents of it list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_worker.api.agent_rows import changed_at
from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.known_agents import files_of
from agent_worker.api.number_rows import ConfiguredIn, PhoneNumberRow, number_row
from agent_worker.config.number_setup import setup_of
from agent_worker.domain.number import NumberConfig
from agent_worker.store.agents import StoredNumber, stored_agents, stored_number, stored_numbers

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True)
class KnownNumber:
    """A number and where it stands."""

    id: str
    number: NumberConfig
    configured_in: ConfiguredIn
    created_at: datetime
    updated_at: datetime
    sip_trunk_id: str | None = None
    sip_provider_name: str | None = None


async def all_numbers(connection: AsyncConnection, backend: Backend) -> list[KnownNumber]:
    """Return every number, those of files first, whoever asks."""
    rows = await stored_numbers(connection, backend.organization_id)
    found = [*_of_files(backend), *(_of_row(row, backend) for row in rows)]
    listed = _listed_by_rows(backend, {known.number.e164 for known in found})
    if listed:
        agents = {agent.id: agent for agent in await stored_agents(connection, backend.organization_id)}
        for number_id, number in listed.items():
            agent = agents.get(number.agent_id or "")
            if agent is not None:
                found.append(KnownNumber(number_id, number, "agent", agent.created_at, agent.updated_at))
    return found


async def the_number(
    connection: AsyncConnection, backend: Backend, principal: Principal, number_id: str
) -> KnownNumber:
    """Return one number.

    Raises:
        ApiError: there is none, as far as the key sees.
    """
    row = await stored_number(connection, backend.organization_id, number_id)
    found = [_of_row(row, backend)] if row is not None else await all_numbers(connection, backend)
    for known in found:
        if known.id == number_id and principal.may_see(known.number.agent_id):
            return known
    raise unknown_number()


async def number_to_change(
    connection: AsyncConnection, backend: Backend, principal: Principal, number_id: str
) -> StoredNumber:
    """Return one number as its row says it; nobody else changes it until the transaction ends.

    Raises:
        ApiError: there is none, as far as the key sees, or it stands in a file or under its agent.
    """
    row = await stored_number(connection, backend.organization_id, number_id, for_update=True)
    if row is not None:
        if principal.may_see(_of_row(row, backend).number.agent_id):
            return row
        raise unknown_number()
    known = await the_number(connection, backend, principal, number_id)
    if known.configured_in == "agent":
        sentence = "An agent lists this number: change the agent's `numbers`, or import the number."
        raise ApiError(409, "NUMBER_OF_AN_AGENT", sentence, retryable=False)
    sentence = "This number stands in a file of the control plane's host: change it there and restart."
    raise ApiError(409, "NUMBER_IS_A_FILE", sentence, retryable=False)


def unknown_number() -> ApiError:
    """Return what is answered where there is no such number, or none the key sees."""
    return ApiError(404, "NOT_FOUND", "There is no such phone number.", retryable=False)


def row_of_number(known: KnownNumber, backend: Backend) -> PhoneNumberRow:
    """Return a number as the API shows it, set up as far as is known now."""
    catalog = backend.catalog.current()
    shadowed = known.configured_in != "file" and known.number.e164 in files_of(backend).numbers
    setup = setup_of(
        known.number,
        agents=catalog.agents.keys(),
        connections=catalog.connections,
        trunk_id=known.sip_trunk_id,
        shadowed=shadowed,
    )
    more: Mapping[str, Any] = {"sip_trunk_id": known.sip_trunk_id, "sip_provider_name": known.sip_provider_name}
    return number_row(
        known.id,
        known.number,
        setup,
        organization_id=backend.organization_id,
        configured_in=known.configured_in,
        created_at=known.created_at,
        updated_at=known.updated_at,
        **more,
    )


def _of_files(backend: Backend) -> list[KnownNumber]:
    files = files_of(backend)
    telephony = backend.settings.telephony_file
    found = []
    for entry in files.numbers.values():
        agent = files.agents.get(entry.config.agent_id or "")
        listed = agent is not None and entry.config.e164 in agent.numbers
        file = files.files.get(agent.name) if agent is not None and listed else None
        changed = changed_at(Path(file.file) if file else telephony)
        found.append(KnownNumber(entry.id, entry.config, "file", changed, changed))
    return found


def _of_row(row: StoredNumber, backend: Backend) -> KnownNumber:
    """Return a row's number; an agent that lists it is linked to it."""
    number = row.number
    if number.agent_id is None:
        entry = backend.catalog.current().numbers.get(number.e164)
        if entry is not None and entry.id == row.id:
            number = number.model_copy(update={"agent_id": _listing(backend, number.e164)})
    return KnownNumber(
        row.id, number, "database", row.created_at, row.updated_at, row.sip_trunk_id, row.sip_provider_name
    )


def _listing(backend: Backend, e164: str) -> str | None:
    agents = backend.catalog.current().agents.items()
    return next((agent_id for agent_id, agent in agents if e164 in agent.numbers), None)


def _listed_by_rows(backend: Backend, known: set[str]) -> dict[str, NumberConfig]:
    entries = backend.catalog.current().numbers
    return {entry.id: entry.config for e164, entry in entries.items() if e164 not in known}
