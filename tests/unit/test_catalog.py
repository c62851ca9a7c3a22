"""All agents of a folder: by name, by number, and the clashes between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.problems import ConfigErrors
from tests.agent_files import GOOD, write


def test_a_catalog_reads_prompts_and_finds_agents_by_number(tmp_path: Path) -> None:
    """A trunk's spelling of the number does not matter, as long as it means one of ours."""
    write(tmp_path / "agents", GOOD)
    write(tmp_path / "prompts", "Be kind.\n", "desk.md")

    catalog = AgentCatalog.load(tmp_path / "agents", tmp_path / "prompts")

    agent = catalog.agents["desk"]
    assert agent.system_prompt == "Be kind."
    for spelling in (
        "+12015550123",
        "12015550123",
        "2015550123",
        "sip:+12015550123@pbx.example",
        "0012015550123",
    ):
        found = catalog.find_number(spelling)
        assert found is not None and found.config.agent_id == "desk", spelling
    for other in (None, "", "+12015550199", "0123", "anonymous", "5550123555555555555555"):
        assert catalog.find_number(other) is None, other


def test_a_national_form_that_fits_two_numbers_finds_nobody(tmp_path: Path) -> None:
    """An ambiguous ending is not guessed at."""
    write(
        tmp_path / "agents",
        "name: a\nsystemPrompt: x\nnumbers: ['+12015550123', '+442015550123']\n",
        "a.yaml",
    )

    catalog = AgentCatalog.load(tmp_path / "agents", tmp_path)

    assert catalog.find_number("2015550123") is None
    assert catalog.find_number("+442015550123") is not None


def test_agents_that_claim_the_same_name_or_number_are_told(tmp_path: Path) -> None:
    """Both clashes and a missing prompt are reported together, each at its line."""
    agents = tmp_path / "agents"
    write(agents, "name: a\nsystemPrompt: x\nnumbers: ['+12015550123']\n", "a.yaml")
    write(agents, "name: a\nsystemPrompt: x\nnumbers:\n  - '+12015550123'\n", "b.yaml")
    write(agents, "name: c\nprompt: desc\n", "c.yaml")
    write(tmp_path / "prompts", "Be kind.\n", "desk.md")

    with pytest.raises(ConfigErrors) as caught:
        AgentCatalog.load(agents, tmp_path / "prompts")

    told = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert told == [
        "agents/b.yaml:1: agents/a.yaml has an agent named 'a' already.",
        "agents/b.yaml:4: +12015550123 is answered by the agent of agents/a.yaml already. "
        "A number belongs to one agent.",
        "agents/c.yaml:2: There is no prompt prompts/desc.md. Did you mean 'desk'?",
    ]


def test_no_folder_is_told_and_an_empty_one_is_no_mistake(tmp_path: Path) -> None:
    """A folder that is not there may be a typo, and the sentence says so; agents may all be in the database."""
    with pytest.raises(ConfigErrors, match=r"There is no folder .*AGENT_WORKER_AGENTS_DIR"):
        AgentCatalog.load(tmp_path / "nowhere", tmp_path)
    assert AgentCatalog.load(tmp_path, tmp_path).agents == {}


def test_the_example_agents_are_right(root: Path) -> None:
    """The agents that ship load without a mistake."""
    catalog = AgentCatalog.load(root / "agents", root / "prompts")

    assert "front-desk" in catalog.agents
