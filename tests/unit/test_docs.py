"""The documentation keeps up: what can be set, written or typed is described, and what is described exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from agent_worker.cli import app
from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.settings import Settings
from agent_worker.telephony.desired import desired_state
from agent_worker.toolbox.loader import load_tools

ROOT = Path(__file__).resolve().parents[2]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKDOWN = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def agent_keys(model: type[BaseModel] = AgentConfig, prefix: str = "") -> Iterator[str]:
    """Every key of an agent file, dotted; the keys of a list's entries behind `[]`."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        annotation = field.annotation
        inner = next((part for part in (annotation, *get_args(annotation)) if is_model(part)), None)
        if inner is None:
            yield key
        else:
            yield from agent_keys(inner, f"{key}{'' if inner is annotation else '[]'}.")


def is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


@pytest.mark.parametrize("key", sorted(agent_keys()))
def test_every_agent_key_is_described(key: str) -> None:
    """Each key of an agent file has its row in docs/agents.md."""
    assert f"\n| `{key}` |" in DOCS["agents.md"]


def test_no_agent_key_is_described_that_is_none() -> None:
    """A row of docs/agents.md is a key that can be written."""
    rows = set(re.findall(r"^\| `([a-zA-Z.\[\]]+)` \|", DOCS["agents.md"], re.MULTILINE))

    assert rows - set(agent_keys()) == {"stackPreferences.allowedProviders", "tools"}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_described(name: str) -> None:
    """Each variable has its row in docs/configuration.md, with its default where it is a plain one."""
    field = Settings.model_fields[name]
    variable = str(field.validation_alias or f"AGENT_WORKER_{name.upper()}")
    row = re.search(rf"^\| `{variable}` \| (.*?) \|", DOCS["configuration.md"], re.MULTILINE)

    assert row, variable
    if isinstance(field.default, int):
        assert row[1].strip("`") == str(field.default)


@pytest.mark.parametrize(
    "command",
    sorted(str(command.callback.__name__) for command in app.registered_commands if command.callback),
)
def test_every_command_is_in_the_readme(command: str) -> None:
    """Each command has its line in the README's table."""
    assert f"| `python -m agent_worker {command}` |" in README


@pytest.mark.parametrize("tool", sorted(load_tools(ROOT / "tools")))
def test_every_tool_is_described(tool: str) -> None:
    """Each tool that ships has its row, with every argument a model fills in."""
    row = next(line for line in DOCS["tools.md"].splitlines() if line.startswith(f"| `{tool}` |"))

    for argument in load_tools(ROOT / "tools")[tool].signature.parameters["properties"]:
        assert f"`{argument}`" in row


def test_every_make_target_is_real() -> None:
    """What the documentation has people type exists in the Makefile."""
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    for path in MARKDOWN:
        named = set(re.findall(r"(?:`|\$ )make ([a-z0-9]+)", path.read_text(encoding="utf-8")))
        assert named <= targets, path.name


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link is a file of the checkout."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_modules_named_in_the_architecture_exist() -> None:
    """The table of a call names real modules."""
    table = DOCS["architecture.md"].split("## A call, in order")[1].split("## Who imports whom")[0]
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", table)

    assert len(named) > 10
    for name in named:
        assert (ROOT / "agent_worker" / name).exists() or (ROOT / name).exists(), name


def test_the_smallest_agent_of_the_docs_is_an_agent(tmp_path: Path) -> None:
    """What stands in the documentation can be copied."""
    block = re.search(r"```yaml\n(name: night-line.*?)```", DOCS["agents.md"], re.DOTALL)
    assert block
    path = tmp_path / "night.yaml"
    path.write_text(block[1], encoding="utf-8")

    agent = read_agent_file(path).agent

    assert {tool.name for tool in agent.tools} <= set(load_tools(ROOT / "tools"))


async def test_the_tool_of_the_docs_is_a_tool(tmp_path: Path) -> None:
    """The example loads, and its configuration is what it reads."""
    code = re.search(r"```python\n(.*?)```", DOCS["tools.md"], re.DOTALL)
    config = re.search(r"```yaml\n(.*?)```", DOCS["tools.md"], re.DOTALL)
    assert code
    assert config
    (tmp_path / "opening_hours.py").write_text(code[1], encoding="utf-8")

    tool = load_tools(tmp_path)["opening_hours"]
    written = YAML(typ="safe").load(config[1])["tools"][0]

    assert written["name"] == tool.name
    assert set(written["config"]["hours"]) < set(tool.signature.parameters["properties"]["day"]["enum"])


def test_the_example_numbers_bring_calls_to_the_example_agent() -> None:
    """deploy/telephony.example.yaml, with the agents that ship, gives LiveKit a trunk and a rule for the agent's number."""
    example = ROOT / "deploy" / "telephony.example.yaml"
    catalog = AgentCatalog.load(ROOT / "agents", ROOT / "prompts", example)
    name = Settings.model_fields["agent_name"].default
    numbers = [entry.config for entry in catalog.numbers.values()]

    wanted = desired_state(numbers, catalog.connections.values(), agent_name=name, env={})
    rule = wanted.rule(["ST_1"])

    assert set(catalog.agents["front-desk"].numbers) <= set(wanted.inbound["carrier"].numbers)
    assert wanted.inbound["carrier"].allowed_addresses
    assert wanted.outbound["carrier"].address == "sip.carrier.example"
    assert rule is not None
    assert [agent.agent_name for agent in rule.room_config.agents] == [name]


def test_the_constraints_are_names_and_versions() -> None:
    """No address of any registry, and every dependency of the project is pinned."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines if not line.startswith("#")}

    assert [line for line in lines if not re.match(r"^(#.*|[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+)$", line)] == []
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[project.scripts]")[0]
    needed = re.findall(r'^\s+"([A-Za-z0-9_.-]+)(?:\[[a-z]+\])?>=', project, re.MULTILINE)
    assert len(needed) > 15
    assert {name.lower().replace("_", "-") for name in needed} <= pinned
