"""All agents and numbers of an installation: who there is, and who takes a call to which number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent_worker.config.agent_files import AgentFile, read_agent_file
from agent_worker.config.numbers import digits, to_e164
from agent_worker.config.problems import ConfigErrors, did_you_mean
from agent_worker.config.telephony_file import TelephonyFile, read_telephony_file
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import NumberConfig, SipConnection, TelephonyConfig
from agent_worker.errors import ConfigError
from agent_worker.prompting import prompt, read_prompts
from agent_worker.settings import Settings

MIN_NATIONAL_DIGITS = 7
"""Fewer digits than these never match the end of a number: they are an extension."""

_INTERNATIONAL = re.compile(r"^\s*<?\s*(?:sips?:|tel:)?\s*(?:\+|00)", re.IGNORECASE)
"""Numbers so written have their country, and are one of ours or none."""

STORED_AGENT = "agent_"
"""How the id of an agent in the database begins; a file may name one that only the database knows."""


@dataclass(frozen=True)
class NumberEntry:
    """A number of ours; `id` is the row's, or made from the number where it stands in a file."""

    id: str
    config: NumberConfig


@dataclass(frozen=True)
class AgentCatalog:
    """What this installation answers with.

    Attributes:
        agents: by id, which is the name where the agent is a file; their prompts are read, so `system_prompt` is text.
        numbers: by E.164, those of the telephony file and those that agents list.
        connections: SIP connections by name.
        prompts: the texts templates may include, by name.
        files: where each agent stands, for messages.
        notes: what is legal in the files and may still surprise.
    """

    agents: Mapping[str, AgentConfig]
    numbers: Mapping[str, NumberEntry] = field(default_factory=dict)
    connections: Mapping[str, SipConnection] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, AgentFile] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, agents_dir: Path, prompts_dir: Path, telephony_file: Path | None = None) -> AgentCatalog:
        """Read every `*.yaml` and `*.yml` of the folder, the prompts they name, and the numbers.

        A folder may hold none: agents are then those of the database.

        Raises:
            ConfigErrors: all mistakes in all files; also where the folder is missing.
        """
        problems: list[ConfigError] = []
        telephony = _telephony(telephony_file, problems)
        files: list[AgentFile] = []
        for path in _agent_paths(agents_dir):
            try:
                files.append(_with_prompt(read_agent_file(path), prompts_dir))
            except ConfigErrors as error:
                problems.extend(error.problems)
            except ConfigError as error:
                problems.append(error)
        # an agent whose file is wrong is not told again where a number names it
        problems += _clashes(files, None if problems else telephony)
        if problems:
            raise ConfigErrors(problems)
        config = telephony.config if telephony else TelephonyConfig()
        return cls.of(
            {found.agent.name: found.agent for found in files},
            config.numbers,
            connections=config.sip_connections,
            prompts=read_prompts(prompts_dir),
            files={found.agent.name: found for found in files},
            notes=telephony.notes if telephony else (),
        )

    @classmethod
    def of(
        cls,
        agents: Mapping[str, AgentConfig] | Iterable[AgentConfig],
        numbers: Iterable[NumberConfig] | Mapping[str, NumberConfig] = (),
        *,
        connections: Iterable[SipConnection] = (),
        prompts: Mapping[str, str] | None = None,
        files: Mapping[str, AgentFile] | None = None,
        notes: tuple[str, ...] = (),
    ) -> AgentCatalog:
        """Return a catalog; the first agent keeps a number two of them claim.

        Args:
            agents: by id, or as a sequence, where each agent's name is its id.
            numbers: by id, or as a sequence, where ids are made from the numbers.
        """
        by_id = dict(agents) if isinstance(agents, Mapping) else {agent.name: agent for agent in agents}
        named = numbers.items() if isinstance(numbers, Mapping) else ((None, number) for number in numbers)
        entries: dict[str, NumberEntry] = {}
        for number_id, number in named:
            e164 = to_e164(number.e164) or number.e164
            entries.setdefault(e164, NumberEntry(number_id or _number_id(e164), number))
        for agent_id, agent in by_id.items():
            for written in agent.numbers:
                e164 = to_e164(written) or written
                known = entries.get(e164)
                if known is None:
                    entries[e164] = NumberEntry(_number_id(e164), NumberConfig(e164=e164, agent_id=agent_id))
                elif known.config.agent_id is None:
                    entries[e164] = NumberEntry(known.id, known.config.model_copy(update={"agent_id": agent_id}))
        return cls(
            MappingProxyType(by_id),
            MappingProxyType(entries),
            MappingProxyType({connection.name: connection for connection in connections}),
            MappingProxyType(dict(prompts or {})),
            MappingProxyType(dict(files or {})),
            notes,
        )

    def find_agent(self, ref: str) -> tuple[str, AgentConfig] | None:
        """Return id and configuration of the agent with this id, or of the only one with this name."""
        if ref in self.agents:
            return ref, self.agents[ref]
        named = [(agent_id, agent) for agent_id, agent in self.agents.items() if agent.name == ref]
        return named[0] if len(named) == 1 else None

    def find_number(self, dialed: str | None) -> NumberEntry | None:
        """Return our number that was dialled, or None.

        A trunk may write a number without `+` or in its national form: the only number of ours that
        ends with those digits is then meant.
        """
        if dialed is None:
            return None
        exact = self.numbers.get(to_e164(dialed) or dialed)
        if exact is not None:
            return exact
        tail = digits(dialed)
        if len(tail) < MIN_NATIONAL_DIGITS or _INTERNATIONAL.match(dialed):
            return None
        ends = [entry for number, entry in self.numbers.items() if number.endswith(tail)]
        return ends[0] if len(ends) == 1 else None

    def joined(self, other: AgentCatalog) -> AgentCatalog:
        """Return both catalogs as one; where both know an agent, a number or a connection, this one wins."""
        return AgentCatalog(
            MappingProxyType({**other.agents, **self.agents}),
            MappingProxyType({**other.numbers, **self.numbers}),
            MappingProxyType({**other.connections, **self.connections}),
            MappingProxyType({**other.prompts, **self.prompts}),
            self.files,
            self.notes,
        )

    def snapshot(self, *, secrets: bool) -> dict[str, Any]:
        """Return the catalog as plain JSON.

        Args:
            secrets: whether the agents' webhooks, which carry secrets, are in it.
        """
        hidden: set[str] = set() if secrets else {"webhooks"}
        return {
            "agents": {
                agent_id: agent.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=hidden)
                for agent_id, agent in self.agents.items()
            },
            "numbers": {
                entry.id: entry.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
                for entry in self.numbers.values()
            },
            "connections": [
                connection.model_dump(mode="json", by_alias=True, exclude_unset=True)
                for connection in self.connections.values()
            ],
            "prompts": dict(self.prompts),
        }

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> AgentCatalog:
        """Return the catalog a snapshot was made of; keys of a newer version are left unread.

        Raises:
            pydantic.ValidationError: a value of it is none this version can have.
        """
        return cls.of(
            {key: AgentConfig.model_validate(row, extra="ignore") for key, row in snapshot["agents"].items()},
            {key: NumberConfig.model_validate(row, extra="ignore") for key, row in snapshot["numbers"].items()},
            connections=[SipConnection.model_validate(row, extra="ignore") for row in snapshot.get("connections", [])],
            prompts=snapshot.get("prompts"),
        )


def load_catalog(settings: Settings) -> AgentCatalog:
    """Return what the folders and files of these settings hold.

    Raises:
        ConfigErrors: all mistakes in all files.
    """
    return AgentCatalog.load(settings.agents_dir, settings.prompts_dir, settings.telephony_file)


def _number_id(e164: str) -> str:
    return f"pn_{e164.removeprefix('+')}"


def _telephony(path: Path | None, problems: list[ConfigError]) -> TelephonyFile | None:
    if path is None:
        return None
    try:
        return read_telephony_file(path)
    except ConfigErrors as error:
        problems.extend(error.problems)
        return None


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
    return sorted([*agents_dir.glob("*.yaml"), *agents_dir.glob("*.yml")])


def _with_prompt(found: AgentFile, prompts_dir: Path) -> AgentFile:
    if not found.agent.prompt:
        return found
    try:
        text = prompt(found.agent.prompt, prompts_dir)
    except ConfigError as error:
        raise found.problem(error.code, ("prompt",), error.message, error.remedy) from error
    return AgentFile(found.file, found.agent.model_copy(update={"system_prompt": text}), found.tree)


def _clashes(files: list[AgentFile], telephony: TelephonyFile | None) -> list[ConfigError]:
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
    if telephony is not None:
        problems += _number_clashes(telephony, names, numbers)
    return problems


def _number_clashes(
    telephony: TelephonyFile, names: Mapping[str, AgentFile], listed: Mapping[str, AgentFile]
) -> Iterable[ConfigError]:
    for index, number in enumerate(telephony.config.numbers):
        claimed = listed.get(number.e164)
        stored = number.agent_id is not None and number.agent_id.startswith(STORED_AGENT)
        if number.agent_id is not None and number.agent_id not in names and not stored:
            yield telephony.problem(
                "number_agent_unknown",
                ("numbers", index, "agentId"),
                f"There is no agent {number.agent_id!r}.",
                did_you_mean(number.agent_id, list(names)),
            )
        elif number.agent_id is not None and claimed is not None and claimed.agent.name != number.agent_id:
            yield telephony.problem(
                "agent_number_twice",
                ("numbers", index, "agentId"),
                f"{number.e164} is listed by the agent of {claimed.file}.",
                "A number belongs to one agent.",
            )
        if number.takes_calls and number.agent_id is None and claimed is None and not number.dispatch_metadata_template:
            yield telephony.problem(
                "number_without_agent",
                ("numbers", index),
                f"{number.e164} takes calls and has no agent.",
                "Give it an agentId or a dispatchMetadataTemplate, or set direction: outbound.",
            )
