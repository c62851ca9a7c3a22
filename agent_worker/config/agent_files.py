"""One YAML file -> one agent, and every mistake in it with file, line and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_worker.config.yaml_file import (
    ConfigFile,
    FileKind,
    Location,
    YamlTree,
    keys_of,
    numbers_of,
    read_tree,
    told,
    validated,
)
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ConfigError

__all__ = ["AgentFile", "CheckedAgent", "Location", "contradictions", "keys_of", "line_of", "read_agent_file"]

_KIND = FileKind(code="agent", holds="agent", start="name: …")


class CheckedAgent(Protocol):
    """An agent, and how a mistake in it is told: by file and line, or by its place in a request."""

    @property
    def agent(self) -> AgentConfig:
        """The agent."""

    def problem(self, code: str, location: Location, message: str, remedy: str = "") -> ConfigError:
        """Return a mistake at this place."""


@dataclass(frozen=True)
class AgentFile(ConfigFile):
    """An agent, and where in which file each of its keys stands.

    Attributes:
        file: path as the operator wrote it.
    """

    file: str
    agent: AgentConfig
    tree: YamlTree


def read_agent_file(path: Path) -> AgentFile:
    """Read and check one agent file.

    Raises:
        ConfigErrors: the file cannot be read, is not YAML, or one or several keys are wrong.
    """
    tree = read_tree(path, _KIND)
    found = AgentFile(str(path), validated(tree, AgentConfig), tree)
    written = found.agent.numbers
    numbers, problems = numbers_of(tree, ((("numbers", index), number) for index, number in enumerate(written)))
    problems += contradictions(found)
    if problems:
        raise told(tree, problems, len(problems))
    if numbers == found.agent.numbers:
        return found
    return AgentFile(found.file, found.agent.model_copy(update={"numbers": numbers}), tree)


def line_of(tree: YamlTree, location: Location) -> int | None:
    """Return the 1-based line of the deepest part of this location that the file has."""
    return tree.line_of(location)


def contradictions(found: CheckedAgent) -> list[ConfigError]:
    """Return what is right by itself and wrong together."""
    agent = found.agent
    problems = [*_prompt_problems(found), *_hook_problems(found)]
    pauses = agent.turn_handling.endpointing
    if pauses.min_delay is not None and pauses.max_delay is not None and pauses.min_delay > pauses.max_delay:
        problems.append(
            found.problem(
                "agent_value_wrong",
                ("turnHandling", "endpointing", "minDelay"),
                "turnHandling.endpointing.minDelay is longer than maxDelay.",
            )
        )
    for index, name in _repeated(tool.name for tool in agent.tools):
        problems.append(found.problem("agent_tool_twice", ("tools", index), f"The tool {name!r} is listed twice."))
    for index, name in _repeated(variable.name for variable in agent.prompt_variables):
        problems.append(
            found.problem(
                "agent_variable_twice", ("promptVariables", index), f"The variable {name!r} is declared twice."
            )
        )
    for index, name in _repeated(field.name for field in agent.extraction_fields):
        problems.append(
            found.problem("agent_field_twice", ("extractionFields", index), f"The field {name!r} is listed twice.")
        )
    return problems


def _prompt_problems(found: CheckedAgent) -> Iterator[ConfigError]:
    agent = found.agent
    if agent.prompt and agent.system_prompt:
        yield found.problem(
            "agent_prompt_twice",
            ("prompt",),
            "Both prompt and systemPrompt are given.",
            "Keep one: a file's name, or the text.",
        )
    if not agent.prompt and not agent.system_prompt.strip():
        yield found.problem(
            "agent_prompt_missing",
            (),
            "The agent has no instructions.",
            "Add `prompt: <name of a file in prompts/>`, or `systemPrompt: …`.",
        )


def _hook_problems(found: CheckedAgent) -> Iterator[ConfigError]:
    hooks = found.agent.webhooks
    for key, hook in (
        ("preCall", hooks.pre_call),
        ("status", hooks.status),
        ("postCall", hooks.post_call),
        ("analysis", hooks.analysis),
        ("recording", hooks.recording),
    ):
        if hook is None:
            continue
        if key != "postCall" and hook.extraction_fields:
            yield found.problem(
                "agent_hook_key_misplaced",
                ("webhooks", key, "extractionFields"),
                f"webhooks.{key} has extractionFields, which only postCall uses.",
                "Move them to webhooks.postCall, or to the agent's own extractionFields.",
            )
        if key != "preCall" and "on_failure" in hook.model_fields_set:
            yield found.problem(
                "agent_hook_key_misplaced",
                ("webhooks", key, "onFailure"),
                f"webhooks.{key} has onFailure, which only preCall uses.",
                "Take it out: a webhook that fails is sent again.",
            )


def _repeated(names: Iterable[str]) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield index, name
        seen.add(name)
