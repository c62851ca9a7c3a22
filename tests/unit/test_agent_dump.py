"""An agent as the text of a file: read again it is the same agent, with the same things left unsaid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agent_worker.config.agent_dump import dump_agent
from agent_worker.config.agent_files import read_agent_file
from agent_worker.domain.agent import AgentConfig
from tests.made_agents import made_agents, said

# a failing example is not shrunk: an agent is large, and shrinking takes minutes
many = effort(
    max_examples=100,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
few = effort(many, max_examples=5)


def _read(text: str, folder: Path) -> AgentConfig:
    file = folder / "agent.yaml"
    file.write_bytes(text.encode())
    return read_agent_file(file).agent


def _dumped(**keys: object) -> str:
    return dump_agent(AgentConfig.model_validate({"name": "desk", "prompt": "front-desk", **keys}))


@many
@given(agent=made_agents())
def test_a_file_reads_back_as_the_agent_it_was_made_of(tmp_path: Path, agent: AgentConfig) -> None:
    """Equal, and with the same keys given at every depth; the text of what was read is the same text."""
    text = dump_agent(agent)
    read = _read(text, tmp_path)
    assert read == agent
    assert said(read) == said(agent)
    assert dump_agent(read) == text


@pytest.mark.parametrize("field", AgentConfig.model_fields)
@few
@given(data=st.data())
def test_every_key_reads_back(tmp_path: Path, field: str, data: st.DataObject) -> None:
    """No key of an agent is lost on the way."""
    if field == "system_prompt":  # given together with `prompt`, only one of the two may stand in a file
        agent = AgentConfig(name="desk", system_prompt=data.draw(st.text(min_size=1)) + "x")
    else:
        agent = data.draw(made_agents(field))
    read = _read(dump_agent(agent), tmp_path)
    assert field in read.model_fields_set
    assert (read, said(read)) == (agent, said(agent))


def test_the_example_agents_read_back(root: Path, tmp_path: Path) -> None:
    """What operators write by hand survives as well."""
    for file in sorted((root / "agents").glob("*.yaml")):
        agent = read_agent_file(file).agent
        read = _read(dump_agent(agent), tmp_path)
        assert (read, said(read)) == (agent, said(agent))


def test_what_is_null_is_not_what_is_unsaid(tmp_path: Path) -> None:
    """A key that says "none" hides the layer below; a key that is not there does not."""
    silent = _read(_dumped(), tmp_path)
    null = _read(_dumped(voice=None, ttsOptions={"speed": None}), tmp_path)
    assert "voice" not in silent.model_fields_set
    assert null.model_fields_set >= {"voice", "tts_options"}
    assert null.tts_options.model_fields_set == {"speed"}


def test_long_texts_stand_as_they_are_spoken() -> None:
    """A prompt of several lines is a block that a person can edit, whatever is in it."""
    text = _dumped(prompt=None, systemPrompt='You are the front desk.\n\nSay: "Grüße" # don\'t\n  - {{ name }}\n')
    assert (
        text
        == """\
name: desk
systemPrompt: |
  You are the front desk.

  Say: "Grüße" # don't
    - {{ name }}
prompt: null
"""
    )


def test_numbers_are_in_quotes_and_lists_under_their_key() -> None:
    """A phone number without quotes would be read as a number."""
    assert _dumped(numbers=["+12015550123"], voice="123", tools=["end_call"]).splitlines()[2:] == [
        'voice: "123"',
        "tools:",
        "  - name: end_call",
        "numbers:",
        '  - "+12015550123"',
    ]


@pytest.mark.parametrize("text", ["yes", "off", "1e5", "0o17", "12:30", "2026-03-02", "1_000", ".5", "~", "NULL", "="])
def test_a_text_stays_text_for_every_reader(text: str, tmp_path: Path) -> None:
    """Readers of YAML 1.1 and of 1.2 take plain words for different things; none of these is plain."""
    dumped = _dumped(voice=text)
    assert _read(dumped, tmp_path).voice == text
    assert yaml.safe_load(dumped)["voice"] == text


def test_a_prompt_that_was_read_is_dumped_as_text(tmp_path: Path) -> None:
    """An agent of the catalog has the prompt's name and its text; a file may have one of them."""
    agent = AgentConfig(name="desk", prompt="front-desk").model_copy(update={"system_prompt": "You are the desk."})
    read = _read(dump_agent(agent), tmp_path)
    assert (read.prompt, read.system_prompt) == (None, "You are the desk.")
