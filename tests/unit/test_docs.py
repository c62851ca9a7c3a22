"""The documentation keeps up: what can be set, written or typed is described, and what is described exists."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from agent_worker.cli import app
from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.inactive import INACTIVE
from agent_worker.config.presets_file import read_presets
from agent_worker.config.telephony_file import read_telephony_file
from agent_worker.settings import Settings, read_settings
from agent_worker.telephony.desired import desired_state
from agent_worker.toolbox.loader import load_tools
from docs.generate import SETTING_SECTIONS, variable_of, written
from docs.model_keys import EXAMPLES, FILES, Key, keys

ROOT = Path(__file__).resolve().parents[2]
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
MARKDOWN = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def fields_of(file: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Every field of every object a configuration file can hold."""
    waiting: list[type[BaseModel]] = [FILES[file]]
    seen: set[type[BaseModel]] = set()
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for name, field in model.model_fields.items():
            yield model, name
            waiting += models_in(field.annotation)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def rows_of(page: str) -> dict[str, list[str]]:
    """The cells of each row whose first cell is code, by that cell; every table's."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and re.fullmatch(r"`[^`]+`", cells[0]):
            found.setdefault(cells[0].strip("`").replace(" (", "("), cells[1:])
    return found


KEYS = [key for file in FILES for key in keys(file)]
PARTS = dict(
    zip(
        (*FILES, "settings"),
        (rows_of(part) for part in re.split(r"^## ", DOCS["configuration.md"], flags=re.MULTILINE)[1:]),
        strict=False,
    )
)


def test_the_configuration_page_is_what_the_models_say() -> None:
    """Nobody edits a table by hand, and no change of a model is forgotten: `make docs` writes the page."""
    assert written(DOCS["configuration.md"]) == DOCS["configuration.md"]


@pytest.mark.parametrize("file", FILES)
def test_every_key_of_a_file_is_on_the_configuration_page(file: str) -> None:
    """Each field of each object has a row, or is an object whose own keys have theirs."""
    described = {(key.model, key.name) for key in keys(file)}
    parents = {(model, alias) for key in keys(file) for model, alias, _ in key.trail}

    for model, name in fields_of(file):
        alias = model.model_fields[name].alias or name
        assert (model, name) in described or (model, alias) in parents, f"{model.__name__}.{name}"
    assert {key.path for key in keys(file)} == PARTS[file].keys()


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.file} {key.path}")
def test_every_key_has_its_meaning_and_all_its_cells(key: Key) -> None:
    """A row says type, default, example, when it takes effect and what it means, and none of these is empty."""
    of_type, default, example, effect, meaning = PARTS[key.file][key.path]

    assert len(key.meaning) > 3, f"the docstring of {key.model.__name__} says nothing of {key.name}"
    assert of_type
    assert default
    assert YAML(typ="safe", pure=True).load(example.strip("`")) == key.example
    assert effect in ("start", "start · call", "provision", "not yet")
    assert meaning.startswith(key.meaning.replace("|", "\\|"))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: f"{key.file} {key.path}")
def test_every_example_is_valid_and_is_taken(key: Key, tmp_path: Path) -> None:
    """The example can be written into a file, which is then read without a complaint and holds it."""
    path = tmp_path / f"{key.file}.yaml"
    YAML(typ="safe", pure=True).dump(key.document(), path)
    read: BaseModel
    if key.file == "agent":
        read = read_agent_file(path).agent
    elif key.file == "telephony":
        read = read_telephony_file(path).config
    else:
        read = read_presets(path)

    value: Any = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for _, alias, wrapper in key.trail:
        value = value[alias]
        value = value[0] if wrapper == "[]" else value["de"] if wrapper == ".<tag>" else value
    assert value == key.example


def test_no_example_is_left_over() -> None:
    """An example is of a key or a variable that exists."""
    for file in FILES:
        needed = {name for key in keys(file) for name in sibling_paths(key)}
        assert EXAMPLES[file].keys() <= {key.path for key in keys(file)} | needed, file
    assert EXAMPLES["settings"].keys() == {variable_of(name) for name in Settings.model_fields}


def sibling_paths(key: Key) -> Iterator[str]:
    """Required keys beside this one, which its example needs."""
    prefix = key.path_of(len(key.trail) - 1)
    for name, field in key.model.model_fields.items():
        if field.is_required():
            yield f"{prefix}{field.alias or name}"


def test_what_is_not_active_is_told_with_its_reason() -> None:
    """A key nothing follows from is marked so on the page, and one that works is not."""
    rows = PARTS["agent"]
    for key, reason in INACTIVE.items():
        under = [path for path in rows if path == key or path.startswith((f"{key}.", f"{key}["))]
        assert under, key
        for path in under:
            assert rows[path][3] == "not yet", path
        assert reason in rows[under[0]][4], key
    assert rows["firstMessage"][3] == rows["webhooks.preCall.url"][3] == "start · call"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_described(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable has its row, a plain default as it is, and an example that can be set and is another value."""
    field = Settings.model_fields[name]
    variable = variable_of(name)
    of_type, default, example, meaning = PARTS["settings"][variable]
    before = getattr(read_settings(), name)
    monkeypatch.setenv(variable, example.strip("`"))

    assert of_type
    assert meaning
    if isinstance(field.default, int):
        assert default.strip("`") == str(field.default)
    assert getattr(read_settings(), name) != before


def test_the_sections_of_the_settings_hold_each_once() -> None:
    """No variable is forgotten, and none stands twice."""
    listed = [name for names in SETTING_SECTIONS.values() for name in names.split()]

    assert sorted(listed) == sorted(Settings.model_fields)


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


def test_the_layers_in_the_architecture_are_those_that_are_checked() -> None:
    """The drawing of who imports whom is the import linter's, without modules that do not exist yet."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    drawn = DOCS["architecture.md"].split("## Who imports whom")[1].split("```")[1].strip().splitlines()

    checked = [[name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]]
    there = [[name for name in layer if exists(name)] for layer in checked if "__main__" not in layer]
    assert [line.split(" | ") for line in drawn] == [layer for layer in there if layer]


def exists(module: str) -> bool:
    return any((ROOT / "agent_worker" / name).exists() for name in (module, f"{module}.py"))


def test_modules_named_in_the_architecture_exist() -> None:
    """The tables of a call and of what is around it name real modules."""
    table = DOCS["architecture.md"].split("## A call, in order")[1].split("## Who imports whom")[0]
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+(?:\.py|/))`", table)

    assert len(named) > 30
    for name in named:
        assert (ROOT / "agent_worker" / name).exists() or (ROOT / name).exists(), name


def test_the_smallest_agent_of_the_docs_is_an_agent(tmp_path: Path) -> None:
    """What stands in the documentation can be copied."""
    block = re.search(r"```yaml agent\n(name: night-line.*?)```", DOCS["agents.md"], re.DOTALL)
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
