"""All agents of a folder: by name, and by the number a caller dialled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from agent_worker.config.agent_files import AgentFile, read_agent_file
from agent_worker.config.numbers import digits, to_e164
from agent_worker.config.problems import ConfigErrors
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ConfigError
from agent_worker.prompting import prompt

MIN_NATIONAL_DIGITS = 7
"""Fewer digits than these never match the end of a number: they are an extension."""


@dataclass(frozen=True)
class AgentCatalog:
    """The agents this installation has.

    Attributes:
        agents: by name; their prompts are read, so `system_prompt` is the text.
        files: where each agent stands, for messages.
    """

    agents: Mapping[str, AgentConfig]
    files: Mapping[str, AgentFile] = field(default_factory=dict)
    _by_number: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, agents_dir: Path, prompts_dir: Path) -> AgentCatalog:
        """Read every `*.yaml` and `*.yml` of the folder, and the prompts they name.

        Raises:
            ConfigErrors: all mistakes in all files; also where the folder is missing or holds no agent.
        """
        files: list[AgentFile] = []
        problems: list[ConfigError] = []
        for path in _agent_paths(agents_dir):
            try:
                files.append(read_agent_file(path))
            except ConfigErrors as error:
                problems.extend(error.problems)
        resolved: list[AgentFile] = []
        for found in files:
            try:
                resolved.append(_with_prompt(found, prompts_dir))
            except ConfigError as error:
                problems.append(error)
        problems += _clashes(files)
        if problems:
            raise ConfigErrors(problems)
        return cls.of([found.agent for found in resolved], {found.agent.name: found for found in resolved})

    @classmethod
    def of(cls, agents: list[AgentConfig], files: Mapping[str, AgentFile] | None = None) -> AgentCatalog:
        """Return a catalog of agents that need no file; the first agent keeps a number two of them claim."""
        by_number: dict[str, str] = {}
        for agent in agents:
            for number in agent.numbers:
                by_number.setdefault(to_e164(number) or number, agent.name)
        return cls(
            MappingProxyType({agent.name: agent for agent in agents}),
            MappingProxyType(dict(files or {})),
            MappingProxyType(by_number),
        )

    def agent(self, name: str) -> AgentConfig | None:
        """Return the agent of this name, or None."""
        return self.agents.get(name)

    def for_number(self, dialed: str | None) -> AgentConfig | None:
        """Return the agent that answers this number, or None.

        A trunk may write a number without `+` or in its national form: the only number of ours that
        ends with those digits is then meant.
        """
        if dialed is None:
            return None
        exact = self._by_number.get(to_e164(dialed) or dialed)
        if exact is None:
            tail = digits(dialed)
            ends = [name for number, name in self._by_number.items() if number.endswith(tail)]
            exact = ends[0] if len(tail) >= MIN_NATIONAL_DIGITS and len(ends) == 1 else None
        return self.agents[exact] if exact is not None else None


def _agent_paths(agents_dir: Path) -> list[Path]:
    if not agents_dir.is_dir():
        raise ConfigErrors(
            [
                ConfigError(
                    "agents_dir_missing",
                    f"There is no folder {agents_dir}.",
                    remedy="Set AGENT_WORKER_AGENTS_DIR, or start where the folder agents/ is.",
                )
            ]
        )
    paths = sorted([*agents_dir.glob("*.yaml"), *agents_dir.glob("*.yml")])
    if not paths:
        raise ConfigErrors(
            [
                ConfigError(
                    "agents_dir_empty",
                    f"There is no agent file in {agents_dir}.",
                    remedy="Write one: docs/agents.md has an example.",
                )
            ]
        )
    return paths


def _with_prompt(found: AgentFile, prompts_dir: Path) -> AgentFile:
    if not found.agent.prompt:
        return found
    try:
        text = prompt(found.agent.prompt, prompts_dir)
    except ConfigError as error:
        raise found.problem(error.code, ("prompt",), error.message, error.remedy) from error
    return AgentFile(found.file, found.agent.model_copy(update={"system_prompt": text}), found.tree)


def _clashes(files: list[AgentFile]) -> list[ConfigError]:
    problems: list[ConfigError] = []
    names: dict[str, AgentFile] = {}
    numbers: dict[str, AgentFile] = {}
    for found in files:
        name = found.agent.name
        if name in names:
            problems.append(
                found.problem("agent_name_twice", ("name",), f"{names[name].file} has an agent named {name!r} already.")
            )
        names.setdefault(name, found)
        for index, number in enumerate(found.agent.numbers):
            if number in numbers:
                problems.append(
                    found.problem(
                        "agent_number_twice",
                        ("numbers", index),
                        f"{number} is answered by the agent of {numbers[number].file} already.",
                        "A number belongs to one agent.",
                    )
                )
            numbers.setdefault(number, found)
    return problems
