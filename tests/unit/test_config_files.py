"""Agent files: what is read from them, and how their mistakes are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.problems import ConfigErrors

GOOD = """\
name: desk
prompt: desk
numbers:
  - "+1 201 555 0123"
idleRePrompts:
  delayMs: 5000
tools:
  - end_call
  - name: transfer_call
    config:
      destinations:
        - {to: "+12015550188", label: Sales}
"""


def write(folder: Path, text: str, name: str = "desk.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read_agent_file(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def test_a_file_becomes_an_agent_with_plain_values(tmp_path: Path) -> None:
    """Numbers come out in E.164, names alone are tools, and nothing of the YAML reader's types is left."""
    agent = read_agent_file(write(tmp_path, GOOD)).agent

    assert agent.numbers == ["+12015550123"]
    assert [tool.name for tool in agent.tools] == ["end_call", "transfer_call"]
    assert agent.idle_re_prompts.delay_ms == 5_000
    assert type(agent.tools[1].config["destinations"]) is list
    assert type(agent.tools[1].config["destinations"][0]) is dict


def test_an_unknown_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    """A typo is told with its file, its line and the key that was meant."""
    path = write(tmp_path, "name: desk\nsystemPrompt: Be kind.\nfirstMesage: Hello.\n")

    assert problems(path) == ["desk.yaml:3: There is no key 'firstMesage'. Did you mean 'firstMessage'?"]


def test_an_unknown_key_of_a_group_names_the_groups_keys(tmp_path: Path) -> None:
    """In a group the nearest key is looked for in that group."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\nidleRePrompts:\n  enabled: true\n  delayMS: 5\n  wait: 3\n")

    told = problems(path)

    assert told[0] == "desk.yaml:5: There is no key 'idleRePrompts.delayMS'. Did you mean 'delayMs'?"
    assert told[1].startswith("desk.yaml:6: There is no key 'idleRePrompts.wait'. Valid here: ")


def test_a_key_in_the_wrong_place_names_its_group(tmp_path: Path) -> None:
    """A key that exists elsewhere is sent there."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\ntemperature: 0.2\n")

    assert problems(path) == ["desk.yaml:3: There is no key 'temperature'. It belongs under 'llmOptions'."]


def test_wrong_values_are_all_told_at_once(tmp_path: Path) -> None:
    """Each wrong value has its line, what is expected and what stands there."""
    path = write(
        tmp_path,
        "name: desk\nsystemPrompt: x\nidleRePrompts:\n  delayMs: soon\nrecord: perhaps\n"
        "intent:\n  language: English\nturnHandling:\n  turnDetection: magic\nttsOptions: fast\n"
        "maxDurationSeconds: 20\n",
    )

    assert problems(path) == [
        "desk.yaml:4: idleRePrompts.delayMs must be a whole number, is 'soon'.",
        "desk.yaml:5: record must be true or false, is 'perhaps'.",
        "desk.yaml:7: intent.language must have the form ^[a-z]{2}(-[A-Z]{2})?$, is 'English'.",
        "desk.yaml:9: turnHandling.turnDetection must be one of 'audio', 'vad' or 'stt', is 'magic'.",
        "desk.yaml:10: ttsOptions must be a group of keys, is 'fast'.",
        "desk.yaml:11: maxDurationSeconds must be at least 30, is 20.",
    ]


def test_a_number_without_quotes_is_told_to_be_quoted(tmp_path: Path) -> None:
    """YAML reads +1201… as an integer; the remedy is the quoted number."""
    path = write(tmp_path, "name: desk\nsystemPrompt: x\nnumbers:\n  - +12015550123\n")

    assert problems(path) == ['desk.yaml:4: numbers[0] must be text, is 12015550123. Put it in quotes: "+12015550123".']


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "desk.yaml: The file holds no agent."),
        ("- a\n- b\n", "desk.yaml: The file holds no agent."),
        ("name: desk\nname: other\n", "desk.yaml:2: The same key stands here twice."),
        ("name: [desk\nrecord: true\n", "This is not YAML"),
        ("name: desk\nsystemPrompt: x\nnumbers: ['12']\n", "desk.yaml:3: '12' is not a phone number."),
        ("name: desk\nsystemPrompt: x\nprompt: y\n", "desk.yaml:3: Both prompt and systemPrompt are given."),
        ("name: desk\n", "desk.yaml:1: The agent has no instructions."),
        ("systemPrompt: x\n", "desk.yaml:1: The key 'name' is missing."),
        (
            "name: d\nsystemPrompt: x\ntools: [end_call, end_call]\n",
            "desk.yaml:3: The tool 'end_call' is listed",
        ),
        (
            "name: d\nsystemPrompt: x\nturnHandling:\n  endpointing: {minDelay: 2, maxDelay: 1}\n",
            "desk.yaml:4: turnHandling.endpointing.minDelay is longer than maxDelay.",
        ),
        (
            "name: d\nsystemPrompt: x\nnumbers: ['+12015550123', '001 201 555 0123']\n",
            "desk.yaml:3: +12015550123 stands here twice.",
        ),
    ],
)
def test_other_mistakes(tmp_path: Path, text: str, told: str) -> None:
    """Each mistake is one sentence at its place."""
    found = problems(write(tmp_path, text))

    assert len(found) == 1
    assert told in found[0]


def test_a_file_that_is_not_text_is_one_sentence(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told as such."""
    path = tmp_path / "desk.yaml"
    path.write_bytes(b"name: \xff\xfe\n")

    assert problems(path) == ["desk.yaml: The file is not UTF-8 text."]


def test_a_catalog_reads_prompts_and_finds_agents_by_number(tmp_path: Path) -> None:
    """A trunk's spelling of the number does not matter, as long as it means one of ours."""
    write(tmp_path / "agents", GOOD)
    write(tmp_path / "prompts", "Be kind.\n", "desk.md")

    catalog = AgentCatalog.load(tmp_path / "agents", tmp_path / "prompts")

    agent = catalog.agent("desk")
    assert agent is not None
    assert agent.system_prompt == "Be kind."
    for spelling in (
        "+12015550123",
        "12015550123",
        "2015550123",
        "sip:+12015550123@pbx.example",
        "0012015550123",
    ):
        assert catalog.for_number(spelling) is agent, spelling
    for other in (None, "", "+12015550199", "0123", "anonymous", "5550123555555555555555"):
        assert catalog.for_number(other) is None, other


def test_a_national_form_that_fits_two_numbers_finds_nobody(tmp_path: Path) -> None:
    """An ambiguous ending is not guessed at."""
    write(
        tmp_path / "agents",
        "name: a\nsystemPrompt: x\nnumbers: ['+12015550123', '+442015550123']\n",
        "a.yaml",
    )

    catalog = AgentCatalog.load(tmp_path / "agents", tmp_path)

    assert catalog.for_number("2015550123") is None
    assert catalog.for_number("+442015550123") is not None


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


def test_no_folder_and_no_agent_are_told(tmp_path: Path) -> None:
    """Without a folder, or with an empty one, the sentence says what to do."""
    with pytest.raises(ConfigErrors, match=r"There is no folder .*AGENT_WORKER_AGENTS_DIR"):
        AgentCatalog.load(tmp_path / "nowhere", tmp_path)
    with pytest.raises(ConfigErrors, match="There is no agent file"):
        AgentCatalog.load(tmp_path, tmp_path)


def test_the_example_agents_are_right(root: Path) -> None:
    """The agents that ship load without a mistake."""
    catalog = AgentCatalog.load(root / "agents", root / "prompts")

    assert "front-desk" in catalog.agents
