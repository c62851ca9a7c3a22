"""An agent as requests write it: what a change keeps, for any agent there can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as effort

from agent_worker.api.agent_rows import row_of
from agent_worker.config.agent_body import Rules, changed_agent, new_agent, with_tool
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.egress.policy import AddressPolicy
from agent_worker.store.agents import StoredAgent
from tests.made_agents import made_agents, said

NOW = utc_now()
TEXT = "You answer the phone."
GENERATED = (Phase.explicit, Phase.reuse, Phase.generate)  # to shrink an agent takes minutes
LEAST: dict[str, Any] = {"name": "A", "systemPrompt": "x", "intent": {"language": "en"}}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "front-desk.md").write_text(TEXT)
    return Rules(AddressPolicy.of("*.example,*.example.com"), folder, {})


def as_stored(agent: AgentConfig) -> AgentConfig:
    """The agent with instructions, from a file where it names one."""
    changes = {"prompt": "front-desk", "system_prompt": ""} if agent.prompt else {"system_prompt": "You help."}
    return agent.model_copy(update=changes)


def row(agent: AgentConfig) -> dict[str, Any]:
    """The agent as the API answers it."""
    text = agent.model_copy(update={"system_prompt": TEXT}) if agent.prompt else agent
    shown = row_of(StoredAgent("agent_1", text, NOW, NOW), "org", "database", [])
    found: dict[str, Any] = shown.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return found


def without_nothing(values: Any) -> Any:
    """What is said, without what says nothing: null, an empty list, an empty object."""
    if isinstance(values, dict):
        kept = {key: without_nothing(value) for key, value in values.items()}
        return {key: value for key, value in kept.items() if value not in (None, [], {})}
    return [without_nothing(value) for value in values] if isinstance(values, list) else values


@effort(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=GENERATED)
@given(agent=made_agents())
def test_an_answer_that_is_sent_back_loses_nothing(rules: Rules, agent: AgentConfig) -> None:
    """Whatever an agent says, reading it and writing it back keeps every secret and every key that says something."""
    agent = as_stored(agent)
    body = row(agent)
    assume(agent.intent.optimize_for != "accuracy")  # the client has no word for it
    checked = changed_agent(agent, body, rules)
    # what could not be made over HTTP, such as a private address, is told and not changed either
    assume(not checked.issues)
    assert checked.agent is not None
    values = agent.model_dump(mode="json", by_alias=True)
    assert without_nothing(checked.agent.model_dump(mode="json", by_alias=True)) == without_nothing(values)
    assert without_nothing(row(checked.agent)) == without_nothing(body)


@effort(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=GENERATED)
@given(agent=made_agents())
def test_a_change_of_one_key_changes_that_key(rules: Rules, agent: AgentConfig) -> None:
    """Nothing else that the agent says moves, be it wrong or forbidden by now."""
    agent = as_stored(agent)
    checked = changed_agent(agent, {"description": "changed"}, rules)
    assert checked.agent is not None, checked.issues
    changed = said(checked.agent)
    assert without_nothing({**changed, "description": ""}) == without_nothing({**said(agent), "description": ""})


def test_secrets_of_tools_are_kept_by_the_tools_name(rules: Rules) -> None:
    """The list of tools is replaced; a tool that was there keeps the secret it does not say."""
    source = {"kind": "webhook", "url": "https://crm.example.com", "secret": "a-secret"}
    made = new_agent({**LEAST, "tools": [{"name": "a", "source": source}, "end_call"]}, rules).agent
    assert made is not None
    moved = {"kind": "webhook", "url": "https://crm.example.com/2"}
    tools = [{"name": "b", "source": moved}, {"name": "a", "source": {**moved, "secretRef": "tools.a.secret"}}]
    after = changed_agent(made, {"tools": tools}, rules).agent
    assert after is not None
    assert [(tool.name, getattr(tool.source, "secret", "")) for tool in after.tools] == [("b", None), ("a", "a-secret")]


def test_a_tool_is_told_of_its_own_mistakes_only(rules: Rules) -> None:
    """What is wrong with its neighbours is nobody's business now; its paths begin in itself."""
    private = {"kind": "webhook", "url": "http://10.0.0.1/x"}
    stored = AgentConfig.model_validate({**LEAST, "tools": [{"name": "old", "source": private}]})
    new = {
        "name": "new",
        "description": "d",
        "parameters": {},
        "source": {"kind": "webhook", "url": "https://a.example"},
    }
    assert with_tool(stored, new, rules, name=None).agent is not None
    wrong = with_tool(stored, {**new, "source": private}, rules, name=None)
    assert [issue.path for issue in wrong.issues] == [("source", "url")]
    assert wrong.agent is None


def test_a_thousand_unknown_keys_are_told_briefly(rules: Rules) -> None:
    """The first twenty, each cut short, and in no time that grows with them."""
    body = {**LEAST, **{f"{'k' * 200}{number}": 1 for number in range(1_000)}}
    checked = new_agent(body, rules)
    assert checked.agent is not None
    assert len(checked.warnings) == 20
    assert max(len(str(warning.path[0])) for warning in checked.warnings) == 100


def test_a_prompt_that_is_no_file_is_told_without_its_place(rules: Rules, tmp_path: Path) -> None:
    """No path of the machine is in the answer."""
    checked = new_agent({"name": "A", "prompt": "nobody", "intent": {"language": "en"}}, rules)
    assert [issue.path for issue in checked.issues] == [("prompt",)]
    assert str(rules.prompts_dir) not in str(checked.issues)


def test_a_part_with_a_key_too_many_is_held_against_its_other_rules(rules: Rules) -> None:
    """The key alone is left out; what is missing beside it is still told."""
    checked = new_agent({**LEAST, "backgroundAudio": {"ambient": {"sound": "rain"}}}, rules)
    assert checked.agent is None
    assert [(remark.path, remark.message) for remark in checked.issues] == [
        (("backgroundAudio", "ambient"), "must have exactly one of clip and soundId")
    ]
    assert [remark.path for remark in checked.warnings] == [("backgroundAudio", "ambient", "sound")]
