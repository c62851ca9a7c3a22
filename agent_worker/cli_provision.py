"""`provision`: what is, or would be, done to LiveKit's trunks and rule, told line by line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer
from pydantic import ValidationError

from agent_worker.config.catalog import AgentCatalog, load_catalog
from agent_worker.control import wire
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import is_remote
from agent_worker.control.remote import RemoteControlPlane
from agent_worker.control.remote_client import ControlClient
from agent_worker.errors import ConfigError, ControlPlaneError, SettingsError
from agent_worker.settings import Settings
from agent_worker.store.engine import Database, database_url, sqlite_file
from agent_worker.telephony.client import livekit_client
from agent_worker.telephony.desired import Desired, desired_state
from agent_worker.telephony.diff import Change, FieldChange
from agent_worker.telephony.provision import Outcome, provision

_SIGNS = {"create": "+", "update": "~", "delete": "-"}
_DONE = {"create": "made", "update": "changed", "delete": "removed"}
_HIDDEN = frozenset({"name", "metadata"})


READY_SECONDS = 3.0
"""How long a `serve` that has just been started is given to read its database."""

_NOTHING_CHANGED = "Nothing was changed: a part of the configuration is not known."


@dataclass(frozen=True)
class Configuration:
    """All numbers there are, asked for now: no copy stands in for what cannot be read.

    Attributes:
        is_certain: False where no database and no file of numbers was there to be read.
    """

    catalog: AgentCatalog
    is_certain: bool


async def read_configuration(settings: Settings) -> Configuration:
    """Read files and database, or ask the control plane on another host; this host's copy is neither read nor written.

    Raises:
        ConfigErrors: all mistakes in all files.
        SettingsError: URL or token cannot be used, or the SQLite file that is named does not exist.
        ControlPlaneError: the database, or the other host, does not say.
    """
    if is_remote(settings):
        return Configuration(await _told_by_remote(settings), True)
    files = load_catalog(settings)
    stored = await _stored(settings)
    if stored is None:
        return Configuration(files, settings.telephony_file is not None)
    return Configuration(files.joined(stored), True)


def check_prune(found: Configuration) -> None:
    """Refuse to remove everything for want of a configuration.

    Raises:
        ConfigError: there are no numbers, and nothing was read that could have had any.
    """
    if not found.catalog.numbers and not found.is_certain:
        raise ConfigError(
            "nothing_configured",
            "--prune would remove every trunk and the rule: no number is configured, and there is neither "
            "a telephony.yaml nor a database here.",
            remedy="Run it where they are, or set AGENT_WORKER_TELEPHONY_FILE; one with `numbers: []` means none.",
        )


async def _stored(settings: Settings) -> AgentCatalog | None:
    """Return what the database holds; None where it is the default file and nobody has made it yet."""
    file = sqlite_file(database_url(settings.database))
    if file is not None and not file.exists():
        if not settings.database_url:
            return None
        raise SettingsError(
            "database_missing",
            "AGENT_WORKER_DATABASE_URL names an SQLite file that does not exist.",
            remedy="Correct it, or make the file with `python -m agent_worker migrate`.",
        )
    await Database(settings.database).aclose()  # says so where the driver is missing
    control = EmbeddedControlPlane(settings)
    try:
        snapshot = await control.fetch_catalog(None)
    except ControlPlaneError as error:
        raise _unknown(error, "Start the database, or correct AGENT_WORKER_DATABASE_URL, and run it again.") from error
    finally:
        await control.aclose()
    return AgentCatalog.from_snapshot(snapshot or {})


async def _told_by_remote(settings: Settings) -> AgentCatalog:
    await _require_ready(settings)
    control = RemoteControlPlane(settings)
    try:
        return AgentCatalog.from_snapshot(await control.fetch_catalog(None) or {})
    except ControlPlaneError as error:
        raise _unknown(error, "`python -m agent_worker doctor` says what to do about it.") from error
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        garbled = ControlPlaneError(
            "versions_differ",
            "The control plane is of another version: its configuration cannot be read here.",
            retryable=False,
        )
        raise _unknown(garbled, "Run the same version on both hosts.") from error
    finally:
        await control.aclose()


async def _require_ready(settings: Settings) -> None:
    """Raise where the other host's `serve` cannot read its database: it then hands out what it has, which may be less.

    A proxy may keep `/readyz` to itself; then there is nobody to ask.
    """
    client = ControlClient(wire.ControlAddress.of(settings))
    try:
        await client.ask("GET", "readyz", lambda answer: None, seconds=READY_SECONDS)
    except ControlPlaneError as error:
        if error.code != "control_plane_unexpected":
            remedy = "`python -m agent_worker doctor` here, and GET /readyz there, say what to do about it."
            raise _unknown(error, remedy) from error
    finally:
        await client.aclose()


def _unknown(error: ControlPlaneError, remedy: str) -> ControlPlaneError:
    return ControlPlaneError(error.code, f"{error.message} {_NOTHING_CHANGED} {remedy}", retryable=error.retryable)


def desired_of(catalog: AgentCatalog, settings: Settings) -> Desired:
    """Return what LiveKit should have for the numbers of a catalog.

    Raises:
        ConfigError: a number is on no SIP connection.
        SettingsError: credentials of a connection are not set.
    """
    numbers = [entry.config.model_copy(update={"e164": e164}) for e164, entry in catalog.numbers.items()]
    return desired_state(numbers, catalog.connections.values(), agent_name=settings.agent_name, env=os.environ)


async def run_provision(settings: Settings, desired: Desired, *, prune: bool, dry_run: bool, as_json: bool) -> int:
    """Provision and print; return the exit code.

    Raises:
        TelephonyError: LiveKit cannot be asked what it has.
    """

    def tell(change: Change) -> None:
        if not as_json:
            typer.echo("\n".join(change_lines(change, done=True)))

    async with livekit_client(settings) as client:
        outcome = await provision(client, desired, prune=prune, dry_run=dry_run, tell=tell)
    if as_json:
        typer.echo(json.dumps(as_dict(outcome, dry_run=dry_run), indent=2, ensure_ascii=False))
    else:
        _print(outcome, dry_run=dry_run)
    return 0 if outcome.ok else 1


def change_lines(change: Change, *, done: bool = False) -> Iterator[str]:
    """Yield one change for people: what, and each field before and after."""
    place = f" ({change.id})" if change.id else ""
    word = f" {_DONE[change.action]}" if done else ""
    yield f"{_SIGNS[change.action]} {change.kind} {change.name}{place}{word}"
    for entry in change.fields:
        if change.action == "update" or entry.name not in _HIDDEN:
            yield f"    {entry.name.replace('_', ' ')}: {_field(change, entry)}"


def _field(change: Change, entry: FieldChange) -> str:
    if change.action == "create":
        return _shown(entry.after)
    if isinstance(entry.before, list) and isinstance(entry.after, list):
        removed = [f"- {value}" for value in entry.before if value not in entry.after]
        return ", ".join(removed + [f"+ {value}" for value in entry.after if value not in entry.before])
    return f"{_shown(entry.before)} -> {_shown(entry.after)}"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} -> {entry}" for key, entry in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in ("", None) else f"{value:g} s" if isinstance(value, float) else str(value)


def as_dict(outcome: Outcome, *, dry_run: bool) -> dict[str, Any]:
    """Return an outcome as plain JSON; secrets are not in it."""
    return {
        "dryRun": dry_run,
        "ok": outcome.ok,
        "changes": [
            _change_dict(change) | {"done": index < outcome.done} for index, change in enumerate(outcome.changes)
        ],
        "stale": [_change_dict(change) for change in outcome.stale],
        "warnings": outcome.warnings,
        "problems": outcome.problems,
        "error": None if outcome.error is None else {"code": outcome.error.code, "message": str(outcome.error)},
    }


def _change_dict(change: Change) -> dict[str, Any]:
    fields = {entry.name: {"before": entry.before, "after": entry.after} for entry in change.fields}
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "id": change.id or None,
        "fields": fields,
    }


def _print(outcome: Outcome, *, dry_run: bool) -> None:
    if dry_run or outcome.problems:
        for change in outcome.changes:
            typer.echo("\n".join(change_lines(change)))
    for change in outcome.stale:
        typer.echo(
            f"note: {change.kind} {change.name} ({change.id}) is no longer in the configuration; --prune removes it."
        )
    for warning in outcome.warnings:
        typer.echo(f"warning: {warning}")
    for problem in outcome.problems:
        typer.echo(f"error: {problem}", err=True)
    if outcome.error is not None:
        typer.echo(f"error: {outcome.error}", err=True)
    typer.echo(_summary(outcome, dry_run=dry_run), err=not outcome.ok)


def _summary(outcome: Outcome, *, dry_run: bool) -> str:
    count = len(outcome.changes)
    changes = f"{count} {'change' if count == 1 else 'changes'}"
    if outcome.problems:
        return "Nothing was changed."
    if outcome.error is not None:
        return f"{outcome.done} done; run it again for the rest."
    if not count:
        return "Nothing to change."
    return f"{changes} to make." if dry_run else f"{changes} made."
