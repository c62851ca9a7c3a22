"""Who takes a call, and how the call is then configured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.resolve import Layer, resolve
from agent_worker.config.routing import IGNORED, route
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, Direction, DisconnectionReason
from agent_worker.settings import Settings

CATALOG = AgentCatalog.of(
    [
        AgentConfig(name="desk", system_prompt="Be kind.", numbers=["+12015550123"], metadata={"team": "a", "n": 1}),
        AgentConfig(
            name="night",
            system_prompt="Be brief.",
            tools=[{"name": "crm", "config": {"apiKey": "k-123", "url": "https://crm.example"}}],
        ),
    ]
)


def offer(dialed: str | None = "+12015550123", **job_metadata: Any) -> CallOffer:
    return CallOffer(
        call_id="c1",
        direction=Direction.INBOUND,
        room_name="call-1",
        dialed_number=dialed,
        job_metadata=job_metadata,
    )


def plan(given: CallOffer, settings: Settings | None = None) -> CallPlan:
    answer = route(given, CATALOG, settings or Settings())
    assert isinstance(answer, CallPlan)
    return answer


def test_the_dialled_number_finds_its_agent() -> None:
    """Without anything else, the agent whose file names the number takes the call."""
    answer = plan(offer())

    assert answer.agent_id == "desk"
    assert answer.metadata["routed_by"] == "dialed_number"


def test_an_agent_named_by_the_dispatch_wins_over_the_number() -> None:
    """The dispatch's agentId is asked first."""
    answer = plan(offer(agentId="night"))

    assert answer.agent_id == "night"
    assert answer.provenance["agentId"] == "job_metadata"


def test_an_unknown_number_goes_to_the_default_agent() -> None:
    """A number in no file is answered by the default agent, where one is set."""
    settings = Settings(default_agent="night")

    assert plan(offer("+12015550199"), settings).agent_id == "night"
    assert plan(offer(None), settings).agent_id == "night"


def test_an_unknown_number_without_a_default_agent_hears_the_sentence() -> None:
    """Nobody to answer is a refusal with the operator's sentence, and the detail names no number."""
    answer = route(offer("+12015550199"), CATALOG, Settings(unknown_number_message="Not here."))

    assert isinstance(answer, CallRefusal)
    assert answer.reason is DisconnectionReason.UNKNOWN_NUMBER
    assert answer.sentence == "Not here."
    assert "555" not in answer.detail
    assert "AGENT_WORKER_DEFAULT_AGENT is not set" in answer.detail


def test_a_default_agent_that_is_in_no_file_is_said() -> None:
    """The operator reads which setting is wrong."""
    answer = route(offer(None), CATALOG, Settings(default_agent="dsk"))

    assert isinstance(answer, CallRefusal)
    assert "'dsk' is in no file" in answer.detail


def test_the_effective_configuration_is_the_contracts() -> None:
    """camelCase keys, the kind, the agent's id, each key with its layer, no secret."""
    answer = plan(offer(agentId="night"))

    assert answer.pipeline_config["kind"] == "cascade"
    assert answer.pipeline_config["agentId"] == "night"
    assert answer.pipeline_config["systemPrompt"] == "Be brief."
    assert answer.pipeline_config["idleRePrompts"]["delayMs"] == 8_000
    assert answer.pipeline_config["tools"][0]["config"] == {"apiKey": "***", "url": "https://crm.example"}
    assert answer.provenance["systemPrompt"] == "agent"
    assert answer.provenance["maxDurationSeconds"] == "default"
    assert answer.provenance.keys() == answer.pipeline_config.keys()
    assert answer.agent.tools[0].config["apiKey"] == "k-123"


def test_metadata_of_the_dispatch_is_merged_over_the_agents() -> None:
    """Per key, what the dispatch says wins; keys that configure nothing are metadata too."""
    answer = plan(offer(metadata={"n": 2, "case": "x"}, campaignId="spring"))

    assert answer.metadata == {
        "team": "a", "n": 2, "case": "x", "campaignId": "spring", "routed_by": "dialed_number"
    }  # fmt: skip
    assert answer.provenance["metadata"] == "default < agent < job_metadata"


@pytest.mark.parametrize(
    ("job_metadata", "noted"),
    [
        ({"agentId": 7}, "agentId: must be text, is int"),
        ({"agentId": "nobody"}, "agentId: there is no agent 'nobody'"),
        ({"metadata": ["a"]}, "metadata: must be an object, is list"),
        ({"systemPrompt": "Be rude."}, "systemPrompt: set in the agent file, not by a dispatch"),
        ({"_ignored": "job metadata is not JSON"}, "job metadata is not JSON"),
    ],
)
def test_junk_in_the_dispatch_never_costs_a_call(job_metadata: dict[str, Any], noted: str) -> None:
    """The call is taken by its number, and the junk is listed on it."""
    answer = plan(offer(**job_metadata))

    assert answer.agent_id == "desk"
    assert answer.metadata[IGNORED] == [noted]
    assert answer.pipeline_config["systemPrompt"] == "Be kind."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["agentId", "agent_id", "metadata", "voice", "x"]), JSON))
def test_any_json_object_in_the_dispatch_is_survived(job_metadata: dict[str, Any]) -> None:
    """Whatever a dispatch rule carries, the number's agent, or one that is named, takes the call."""
    answer = route(offer(**job_metadata), CATALOG, Settings())

    assert isinstance(answer, CallPlan)


def test_layers_merge_objects_and_replace_lists() -> None:
    """The highest layer wins per key of an object; lists are never merged."""
    merged = resolve([Layer("a", {"x": {"p": 1, "q": 1}, "l": [1, 2], "s": 1}), Layer("b", {"x": {"q": 2}, "l": [3]})])

    assert merged.values == {"x": {"p": 1, "q": 2}, "l": [3], "s": 1}
    assert merged.provenance == {"x": "a < b", "l": "b", "s": "a"}
