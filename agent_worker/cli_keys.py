"""`keys`: makes, lists and revokes the keys of the API, and shows what was changed with them.

Commands import what they need of the database when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from agent_worker.cli_told import told
from agent_worker.errors import SettingsError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from agent_worker.settings import Settings

MAX_NAME = 120
MAX_AGENTS = 100
MAX_ID = 200
WIDEST = 1_000

Answer = TypeVar("Answer")
Record = dict[str, Any]

keys = typer.Typer(
    help=(
        "Make, list and revoke the keys of the API.\n\n"
        "\b\nExample:\n"
        "  python -m agent_worker keys create --name dashboard --scope read\n"
        "  python -m agent_worker keys list\n\n"
        "Of a key only its hash is kept: it is shown once, where it is made. Run this where `serve` has its database."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class KeyScope(StrEnum):
    """What a key may be made for."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


@keys.command(name="create", short_help="Make a key; it is shown once.")
def create(
    name: Annotated[str, typer.Option("--name", "-n", help="What it is for, so that you know it again.")],
    scope: Annotated[KeyScope, typer.Option("--scope", "-s", help="What it allows.")] = KeyScope.READ,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", "-a", help="Id of an agent it sees; may be repeated. Default: all.")
    ] = None,
) -> None:
    """Make a key and print it, alone, to standard output; it cannot be shown again.

    A key of scope read sees calls and configuration; operate also acts on calls (end, messages, notes, callbacks);
    admin also changes agents, numbers and webhooks, and deletes. With --agent, whatever belongs to other agents
    does not exist for it.

    \b
    Example:
      python -m agent_worker keys create --name dashboard --scope read
      KEY=$(python -m agent_worker keys create --name crm --scope operate --agent front-desk)
    """
    with told():
        agents = sorted(set(agent or ()))
        _check(name, agents)

        async def make(connection: AsyncConnection, settings: Settings) -> tuple[str, str]:
            from agent_worker.control.api_keys import make_key
            from agent_worker.domain.api_key import Scope

            chosen = Scope[scope.name]
            return await make_key(connection, settings, name=name.strip(), scope=chosen, agent_ids=agents or None)

        key_id, key = _in_database(make)
    seen = f"sees {', '.join(agents)} only" if agents else "sees every agent"
    typer.echo(f"Key {key_id}, scope {scope.value}, {seen}. It is shown this once:", err=True)
    typer.echo(key)
    typer.echo("Send it as `Authorization: Bearer <key>`; `keys revoke` withdraws it.", err=True)


@keys.command(name="list", short_help="List all keys, without the keys themselves.")
def list_all(as_json: Json = False) -> None:
    """List all keys, revoked ones too: id, name, last characters, scope, agents, when made and last used.

    \b
    Example:
      python -m agent_worker keys list
    """

    async def read(connection: AsyncConnection, settings: Settings) -> list[Record]:
        from agent_worker.store.keys import list_keys

        return await list_keys(connection, settings.organization_id)

    with told():
        rows = _in_database(read)
    shown = {
        "id": "id",
        "name": "name",
        "endsWith": "shown",
        "scope": "scope",
        "agents": "agent_ids",
        "created": "created_at",
        "lastUsed": "last_used_at",
        "revoked": "revoked_at",
    }
    none = "There is no key yet: python -m agent_worker keys create --name NAME"
    _print([{title: row[column] for title, column in shown.items()} for row in rows], as_json, none=none)


@keys.command(short_help="Withdraw a key.")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys list` shows it.")],
) -> None:
    """Withdraw a key for good; a running `serve` refuses it within 5 seconds.

    \b
    Example:
      python -m agent_worker keys revoke key_0123456789abcdef
    """

    async def withdraw(connection: AsyncConnection, settings: Settings) -> bool:
        from agent_worker.control.api_keys import withdraw_key

        return await withdraw_key(connection, settings, key_id)

    with told():
        if not _in_database(withdraw):
            raise SettingsError(
                "key_unknown", f"No key in force has the id {key_id!r}.", remedy="`keys list` shows the ids."
            )
    typer.echo(f"{key_id} is revoked; a running `serve` refuses it within 5 seconds.")


@keys.command(short_help="What was changed, and with which key.")
def audit(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many changes.")] = 20,
    key: Annotated[str | None, typer.Option("--key", "-k", help="Only changes made with the key of this id.")] = None,
    as_json: Json = False,
) -> None:
    """Print the last changes made over the API or with this command, newest first: when, which key, what.

    \b
    Example:
      python -m agent_worker keys audit --limit 50
    """

    async def read(connection: AsyncConnection, settings: Settings) -> list[Record]:
        from agent_worker.store.audit import last_entries

        return await last_entries(connection, settings.organization_id, limit=limit, key_id=key)

    with told():
        rows = _in_database(read)
    entries = [
        {
            "time": row["created_at"],
            "key": row["key_id"] or "command line",
            "action": row["action"],
            "resource": row["resource"],
            "detail": row["detail"],
        }
        for row in rows
    ]
    _print(entries, as_json, none="Nothing was changed yet.")


def _check(name: str, agents: list[str]) -> None:
    if not 0 < len(name.strip()) <= MAX_NAME:
        raise SettingsError("key_name_invalid", f"A key's name has 1 to {MAX_NAME} characters.")
    if len(agents) > MAX_AGENTS or any(not 0 < len(agent) <= MAX_ID for agent in agents):
        raise SettingsError("key_agents_invalid", f"A key is for at most {MAX_AGENTS} agents, named by their ids.")


def _in_database(work: Callable[[AsyncConnection, Settings], Awaitable[Answer]]) -> Answer:
    from agent_worker.control.embedded import EmbeddedControlPlane
    from agent_worker.settings import settings

    configuration = settings()

    async def run() -> Answer:
        control = EmbeddedControlPlane(configuration)
        try:
            async with control.writing() as connection:
                return await work(connection, configuration)
        finally:
            await control.aclose()

    return asyncio.run(run())


def _print(rows: list[Record], as_json: bool, *, none: str) -> None:
    from agent_worker.store.columns import wire_time

    if as_json:
        written = [
            {title: wire_time(value) if isinstance(value, datetime) else value for title, value in row.items()}
            for row in rows
        ]
        typer.echo(json.dumps(written, indent=2, ensure_ascii=False))
    elif not rows:
        typer.echo(none)
    else:
        _print_table(rows)


def _print_table(rows: list[Record]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in rows[0]:
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_shown(value)) for value in row.values()))
    # as wide as it is: a terminal folds long lines, while columns that are cut would hide the ids
    Console(highlight=False, width=WIDEST).print(table, crop=False)


def _shown(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False) if value else ""
    return "" if value is None else str(value)
