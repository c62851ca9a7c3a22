"""`check`: would this installation answer the phone? All that is wrong, with place and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from agent_worker.config.agent_files import AgentFile, line_of
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.problems import ConfigErrors, did_you_mean
from agent_worker.control.prices import read_prices
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import AgentWorkerError, ConfigError, SettingsError
from agent_worker.settings import Settings, read_settings
from agent_worker.store.engine import database_url
from agent_worker.toolbox.loader import load_tools

T = TypeVar("T")


@dataclass
class CheckOutcome:
    """What `check` found.

    Attributes:
        problems: what keeps calls from being answered, in the order it was met.
        notes: what is legal and may still surprise.
    """

    problems: list[AgentWorkerError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    agents: list[AgentConfig] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)

    def try_to(self, step: Callable[[], T]) -> T | None:
        """Run one step; what it raises on purpose is a problem, and the next step follows."""
        try:
            return step()
        except ConfigErrors as error:
            self.problems.extend(error.problems)
        except AgentWorkerError as error:
            self.problems.append(error)
        return None


def run_check() -> CheckOutcome:
    """Check everything a call needs that can be known before a call."""
    outcome = CheckOutcome()
    settings = outcome.try_to(read_settings)
    if settings is None:
        return outcome
    outcome.try_to(settings.require_livekit)
    outcome.problems.extend(_wrong_settings(settings))
    outcome.try_to(lambda: database_url(settings.database))
    if settings.prices_file is not None and settings.prices_file.is_file():
        outcome.try_to(partial(read_prices, settings.prices_file))
    tools = outcome.try_to(lambda: load_tools(settings.tools_dir))
    outcome.tools = sorted(tools or {})
    catalog = outcome.try_to(lambda: AgentCatalog.load(settings.agents_dir, settings.prompts_dir))
    if catalog is None:
        return outcome
    outcome.agents = list(catalog.agents.values())
    for found in catalog.files.values():
        if tools is not None:
            outcome.problems.extend(_unknown_tools(found, outcome.tools))
        outcome.problems.extend(_unusable_providers(found))
        if not found.agent.numbers and found.agent.name != settings.default_agent:
            outcome.notes.append(
                f"{found.file}: no numbers; {found.agent.name!r} takes only calls dispatched to it by name."
            )
    if settings.default_agent and catalog.agent(settings.default_agent) is None:
        outcome.problems.append(
            SettingsError(
                "default_agent_unknown",
                f"AGENT_WORKER_DEFAULT_AGENT: there is no agent {settings.default_agent!r}.",
                remedy=did_you_mean(settings.default_agent, list(catalog.agents)),
            )
        )
    return outcome


def _wrong_settings(settings: Settings) -> Iterator[SettingsError]:
    if settings.livekit_url and not settings.livekit_url.startswith(("ws://", "wss://", "http://", "https://")):
        yield SettingsError(
            "livekit_url_invalid", "LIVEKIT_URL is not a URL.", remedy="Write wss://host, or ws://host:port."
        )
    existing = next(path for path in [settings.data_dir, *settings.data_dir.absolute().parents] if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        yield SettingsError(
            "data_dir_unwritable",
            f"AGENT_WORKER_DATA_DIR: {settings.data_dir} cannot be written to.",
            remedy="Journals and recordings are kept there; the worker's user must be able to write.",
        )
    if settings.prices_file is not None and not settings.prices_file.is_file():
        yield SettingsError(
            "prices_file_missing",
            f"AGENT_WORKER_PRICES_FILE: there is no file {settings.prices_file}.",
            remedy="Unset it, or write the file: docs/configuration.md has an example.",
        )


def _unknown_tools(found: AgentFile, known: list[str]) -> Iterator[ConfigError]:
    for index, tool in enumerate(found.agent.tools):
        if tool.name not in known:
            yield found.problem(
                "agent_tool_unknown",
                ("tools", index),
                f"There is no tool {tool.name!r}.",
                did_you_mean(tool.name, known),
            )


def _unusable_providers(found: AgentFile) -> Iterator[ConfigError]:
    from agent_worker.providers.registry import check_stack

    location = ("stackPreferences", "allowedProviders")
    line = line_of(found.tree, location) if "stackPreferences" in found.tree else None
    for error in check_stack(found.agent, os.environ):
        yield ConfigError(error.code, error.message, remedy=error.remedy, file=found.file, line=line)


def print_outcome(outcome: CheckOutcome) -> None:
    """Print the agents as a table, or the problems one a line; problems go to stderr."""
    if outcome.problems:
        stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        for problem in outcome.problems:
            stderr.print(f"error: {problem}", markup=False)
        count = len(outcome.problems)
        stderr.print(f"{count} {'problem' if count == 1 else 'problems'}.", markup=False)
        return
    stdout = Console(highlight=False)
    table = Table("agent", "numbers", "hears with", "thinks with", "speaks with", "tools")
    for agent in outcome.agents:
        allowed = agent.stack_preferences.allowed_providers
        table.add_row(
            agent.name,
            "\n".join(agent.numbers) or "by name only",
            "\n".join(allowed.stt) or "default",
            "\n".join(allowed.llm) or "default",
            "\n".join(allowed.tts) or "default",
            "\n".join(tool.name for tool in agent.tools) or "none",
        )
    stdout.print(table)
    for note in outcome.notes:
        stdout.print(f"note: {note}", markup=False, soft_wrap=True)
    stdout.print("Everything is in place.", markup=False)
