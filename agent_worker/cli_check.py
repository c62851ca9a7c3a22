"""`check`: would this installation answer the phone? All that is wrong, with place and remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.table import Column, Table

from agent_worker.config.agent_checks import outbound_problems, template_notes, template_problems
from agent_worker.config.agent_files import AgentFile, line_of
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.inactive import inactive_keys
from agent_worker.config.presets_file import read_presets
from agent_worker.config.problems import ConfigErrors, did_you_mean
from agent_worker.config.resolve import agent_layer, default_layer, resolve
from agent_worker.config.tool_configs import tool_config_problems
from agent_worker.control.make import is_remote, make_catalog
from agent_worker.control.prices import read_prices
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.dialling import DialPolicy
from agent_worker.domain.presets import NO_PRESETS, LayerName, Presets
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import AgentWorkerError, ConfigError, SettingsError
from agent_worker.settings import Settings, read_settings
from agent_worker.store.engine import database_url
from agent_worker.toolbox.loader import config_models, load_tools

T = TypeVar("T")

HEADINGS = ("agent", "numbers", "hears with", "thinks with", "speaks with", "tools")
MAX_TABLE_ROWS = 100
"""More agents than these are listed a line each, with tabs."""


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
    presets: Presets = NO_PRESETS
    numbers: dict[str, list[str]] = field(default_factory=dict)

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
    presets = outcome.try_to(lambda: read_presets(settings.presets_file))
    outcome.presets = presets or NO_PRESETS
    cached = outcome.try_to(lambda: make_catalog(settings))
    catalog = cached.current() if cached else None
    if is_remote(settings):
        outcome.notes.append(f"Agents and numbers come from {settings.control_url}; check them on that host.")
    if catalog is None:
        return outcome
    outcome.agents = list(catalog.agents.values())
    if not catalog.agents and not is_remote(settings):
        outcome.problems.append(_nobody(settings))
    outcome.numbers = _numbers_by_agent(catalog)
    outcome.notes.extend(catalog.notes)
    policy = outcome.try_to(lambda: AddressPolicy.of(settings.egress_allow))
    dialling = outcome.try_to(lambda: DialPolicy.of(settings.dial_allow))
    for found in catalog.files.values():
        if tools is not None:
            outcome.problems.extend(_unknown_tools(found, outcome.tools))
        if tools is not None and dialling is not None:
            outcome.problems.extend(tool_config_problems(found, config_models(tools), dialling))
        if presets is not None:
            outcome.problems.extend(_unusable_providers(found, presets))
        if policy is not None:
            outcome.problems.extend(outbound_problems(found, policy, os.environ))
        outcome.problems.extend(template_problems(found, catalog.prompts))
        outcome.notes.extend(template_notes(found))
        outcome.notes.extend(_inactive_notes(found))
        if found.agent.name not in outcome.numbers and found.agent.name != settings.default_agent:
            outcome.notes.append(
                f"{found.file}: no numbers; {found.agent.name!r} takes only calls dispatched to it by name."
            )
    if settings.default_agent and not is_remote(settings) and catalog.find_agent(settings.default_agent) is None:
        outcome.problems.append(
            SettingsError(
                "default_agent_unknown",
                f"AGENT_WORKER_DEFAULT_AGENT: there is no agent {settings.default_agent!r}.",
                remedy=did_you_mean(settings.default_agent, list(catalog.agents)),
            )
        )
    return outcome


def _nobody(settings: Settings) -> ConfigError:
    return ConfigError(
        "agents_none",
        f"There is no agent file in {settings.agents_dir}, and none came from the database yet.",
        remedy="Write one (docs/agents.md has an example), or run `serve` and create one with POST /v1/agents.",
    )


def _numbers_by_agent(catalog: AgentCatalog) -> dict[str, list[str]]:
    numbers: dict[str, list[str]] = {}
    for e164, entry in catalog.numbers.items():
        if entry.config.agent_id is not None:
            numbers.setdefault(entry.config.agent_id, []).append(e164)
    return numbers


def _inactive_notes(found: AgentFile) -> Iterator[str]:
    resolved = resolve([default_layer(), agent_layer(found.agent)])
    for key, reason in inactive_keys(resolved.values, resolved.provenance).items():
        yield f"{found.file}: {key} is not active yet: {reason}."


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
        if tool.function is not None and tool.function not in known:
            yield found.problem(
                "agent_tool_unknown",
                ("tools", index),
                f"There is no tool {tool.function!r}.",
                did_you_mean(tool.function, known),
            )


def _unusable_providers(found: AgentFile, presets: Presets) -> Iterator[ConfigError]:
    from agent_worker.providers.registry import check_stack

    location = ("stackPreferences", "allowedProviders")
    line = line_of(found.tree, location) if "stackPreferences" in found.tree else None
    for error in check_stack(found.agent, os.environ, presets):
        yield ConfigError(error.code, error.message, remedy=error.remedy, file=found.file, line=line)


def _served_by(agent: AgentConfig, layer: LayerName, presets: Presets) -> str:
    """Return who serves a layer, who takes over, and which preset says so where the agent does not."""
    from agent_worker.providers.registry import look_up

    choice = look_up(agent, layer, os.environ, presets)
    first, *rest = [str(candidate.label) for candidate in choice.candidates]
    source = [] if choice.source == "agent" else [f"({choice.source})"]
    return "\n".join([first, *(f"then {label}" for label in rest), *source])


def _row(agent: AgentConfig, outcome: CheckOutcome) -> tuple[str, ...]:
    return (
        agent.name,
        "\n".join(outcome.numbers.get(agent.name, [])) or "by name only",
        _served_by(agent, "stt", outcome.presets),
        _served_by(agent, "llm", outcome.presets),
        _served_by(agent, "tts", outcome.presets),
        "\n".join(tool.name for tool in agent.tools) or "none",
    )


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
    rows = [_row(agent, outcome) for agent in outcome.agents]
    if len(rows) > MAX_TABLE_ROWS:
        # laying out a long table takes longer than reading the files
        lines = ["\t".join(cell.replace("\n", ", ") for cell in row) for row in [HEADINGS, *rows]]
        stdout.file.write("\n".join(lines) + "\n")
    else:
        table = Table(*(Column(heading, overflow="fold") for heading in HEADINGS))
        for row in rows:
            table.add_row(*row)
        stdout.print(table)
    for note in outcome.notes:
        stdout.print(f"note: {note}", markup=False, soft_wrap=True)
    stdout.print("Everything is in place.", markup=False)
