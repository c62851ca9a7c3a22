"""Who takes a call, and how the call is then configured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.overrides import Overrides, read_overrides
from agent_worker.config.plan import IGNORED, Draft, draft, finish
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, Direction, DisconnectionReason
from agent_worker.domain.number import NumberConfig
from agent_worker.settings import Settings

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
TEMPLATE = {
    "tenant": "acme",
    "caller": "{{callerNumber}}",
    "forwardedFromNumber": "{{forwardedFromNumber}}",
    "voice": "alto",
    "firstMessage": "Template's greeting.",
}
CATALOG = AgentCatalog.of(
    [
        AgentConfig(name="desk", system_prompt="Be kind.", numbers=["+12015550123"], metadata={"team": "a", "n": 1}),
        AgentConfig.model_validate(
            {
                "name": "night",
                "systemPrompt": "Be brief.",
                "tools": [{"name": "crm", "config": {"apiKey": "k-123", "url": "https://crm.example"}}],
                "webhooks": {"preCall": {"url": "https://crm.example/pre", "secret": "whsec_abcdef"}},
            }
        ),
        AgentConfig.model_validate(
            {
                "name": "liquid",
                "systemPrompt": "You speak with {{ name }}, plan {{ plan | default: 'free' }}, at {{ system.time }}.",
                "firstMessage": "Hello {{ name }}.",
                "timezone": "Europe/Berlin",
                "promptVariables": [{"name": "name", "defaultValue": "friend"}, {"name": "plan"}],
            }
        ),
    ],
    [
        NumberConfig(e164="+12015550150", direction="outbound", agent_id="desk"),
        NumberConfig(e164="+12015550151", agent_id="night", dispatch_metadata_template=TEMPLATE),
        NumberConfig(
            e164="+12015550152",
            label="Template only",
            dispatch_metadata_template={"systemPrompt": "Caller {{callerNumber}}.", "intent": {"language": "de"}},
        ),
        NumberConfig(e164="+12015550153", dispatch_metadata_template={"tenant": "acme"}),
        NumberConfig(e164="+12015550154", agent_id="gone"),
        NumberConfig(
            e164="+12015550155",
            agent_id="liquid",
            dispatch_metadata_template={"variables": {"name": "{{callerNumber}}"}, "metadata": {"line": "x"}},
        ),
    ],
)


def offer(
    dialed: str | None = "+12015550123",
    *,
    caller: str | None = "+12015550101",
    attributes: dict[str, str] | None = None,
    **job_metadata: Any,
) -> CallOffer:
    return CallOffer(
        call_id="c1",
        direction=Direction.INBOUND,
        room_name="call-1",
        caller_number=caller,
        dialed_number=dialed,
        attributes=attributes or {},
        job_metadata=job_metadata,
    )


def answer(
    given: CallOffer, settings: Settings | None = None, pre_call: Overrides | None = None
) -> CallPlan | CallRefusal:
    settings = settings or Settings()
    prepared = draft(given, CATALOG, settings)
    return finish(prepared, pre_call, CATALOG, settings, now=NOW) if isinstance(prepared, Draft) else prepared


def plan(given: CallOffer, settings: Settings | None = None, pre_call: dict[str, Any] | None = None) -> CallPlan:
    found = answer(given, settings, read_overrides(pre_call, "pre_call") if pre_call is not None else None)
    assert isinstance(found, CallPlan), found
    return found


def test_the_dialled_number_finds_its_agent() -> None:
    """Without anything else, the agent whose file names the number takes the call."""
    found = plan(offer())

    assert found.agent_id == "desk"
    assert found.metadata["routed_by"] == "dialed_number"
    assert found.metadata["phone_number_id"] == "pn_12015550123"


def test_an_agent_named_by_the_dispatch_wins_over_the_number() -> None:
    """The dispatch's agentId is asked first."""
    found = plan(offer(agentId="night"))

    assert found.agent_id == "night"
    assert found.provenance["agentId"] == "job_metadata"


def test_an_unknown_number_goes_to_the_default_agent() -> None:
    """A number nobody claims is answered by the default agent, where one is set."""
    settings = Settings(default_agent="night")

    assert plan(offer("+12015550199"), settings).agent_id == "night"
    assert plan(offer(None), settings).agent_id == "night"


@pytest.mark.parametrize(
    ("dialed", "detail"),
    [
        ("+12015550199", "No agent answers the dialled number, and AGENT_WORKER_DEFAULT_AGENT is not set."),
        (None, "The room names no dialled number, and AGENT_WORKER_DEFAULT_AGENT is not set."),
        ("+12015550150", "The dialled number only places calls: its direction is outbound."),
        ("+12015550154", "The dialled number has no agent that exists, and AGENT_WORKER_DEFAULT_AGENT is not set."),
    ],
)
def test_a_call_nobody_takes_is_refused_with_a_sentence_and_a_reason(dialed: str | None, detail: str) -> None:
    """The caller hears the operator's sentence; the detail names no number."""
    found = answer(offer(dialed), Settings(unknown_number_message="Not here."))

    assert isinstance(found, CallRefusal)
    assert found.reason is DisconnectionReason.UNKNOWN_NUMBER
    assert found.sentence == "Not here."
    assert found.detail == detail


def test_the_operator_may_have_such_calls_declined_while_they_ring() -> None:
    """With the policy `reject` there is no sentence."""
    found = answer(offer("+12015550199"), Settings(unknown_number_policy="reject"))

    assert isinstance(found, CallRefusal)
    assert found.sentence == ""


def test_a_default_agent_that_does_not_exist_is_said() -> None:
    """The operator reads which setting is wrong."""
    found = answer(offer(None), Settings(default_agent="dsk"))

    assert isinstance(found, CallRefusal)
    assert "'dsk' does not exist" in found.detail


@pytest.mark.parametrize("caller", [None, "anonymous", "Restricted", "+266696687", "sip:bob@pbx.example", "x" * 300])
def test_a_caller_without_a_number_is_taken_like_any_other(caller: str | None) -> None:
    """Anonymous and malformed caller ids cost nothing, and are no number anywhere."""
    found = plan(offer("+12015550151", caller=caller))

    assert found.agent_id == "night"
    assert found.metadata["caller"] is None


def test_the_effective_configuration_is_the_contracts() -> None:
    """camelCase keys, the kind, the agent's id, a layer for each value, no secret, no webhook."""
    found = plan(offer(agentId="night"))

    assert found.pipeline_config["kind"] == "cascade"
    assert found.pipeline_config["agentId"] == "night"
    assert found.pipeline_config["systemPrompt"] == "Be brief."
    assert found.pipeline_config["idleRePrompts"]["delayMs"] == 8_000
    assert found.pipeline_config["tools"][0]["config"] == {"apiKey": "***", "url": "https://crm.example"}
    assert "webhooks" not in found.pipeline_config
    assert found.provenance["systemPrompt"] == "agent"
    assert found.provenance["maxDurationSeconds"] == "default"
    assert {key.split(".")[0] for key in found.provenance} >= found.pipeline_config.keys()
    assert found.agent.tools[0].config["apiKey"] == "k-123"
    assert found.agent.webhooks.pre_call is None


def test_metadata_is_merged_from_every_layer() -> None:
    """Per key, the highest wins; keys of a dispatch that configure nothing are metadata too."""
    found = plan(offer(metadata={"n": 2, "case": "x"}, campaignId="spring"), pre_call={"metadata": {"case": "y"}})

    assert found.metadata == {
        "team": "a",
        "n": 2,
        "case": "y",
        "campaignId": "spring",
        "routed_by": "dialed_number",
        "phone_number_id": "pn_12015550123",
    }
    assert found.provenance["metadata.n"] == "per_call"
    assert found.provenance["metadata.case"] == "pre_call"
    assert found.provenance["metadata.team"] == "agent"


def test_the_template_fills_the_gaps_the_agent_leaves() -> None:
    """On the same key the agent wins; what configures nothing is metadata, with the numbers filled in."""
    found = plan(offer("+12015550151", attributes={"call.diversion": "<sip:+12015550177@pbx.example>"}))

    assert found.agent.voice == "alto"
    assert found.agent.system_prompt == "Be brief."
    assert found.agent.first_message == "Template's greeting."
    assert found.provenance["voice"] == "number"
    assert found.metadata["tenant"] == "acme"
    assert found.metadata["caller"] == "+12015550101"
    assert found.metadata["forwardedFromNumber"] == "+12015550177"


def test_a_template_can_be_the_whole_configuration() -> None:
    """A number without an agent is answered by its template, its tokens filled in."""
    found = plan(offer("+12015550152"))

    assert found.agent_id is None
    assert found.agent.name == "Template only"
    assert found.agent.system_prompt == "Caller +12015550101."
    assert found.agent.intent.language == "de"


def test_a_template_without_instructions_cannot_take_a_call() -> None:
    """The operator reads what is missing."""
    found = answer(offer("+12015550153"))

    assert isinstance(found, CallRefusal)
    assert found.reason is DisconnectionReason.CONFIG_ERROR
    assert "no systemPrompt" in found.detail


def test_a_dispatch_configures_the_call_above_the_agent() -> None:
    """`pipelineConfig` of job metadata is the per-call layer; its wrong values are noted and cost nothing."""
    found = plan(offer(pipelineConfig={"voice": "bass", "llm": {"temperature": 9}, "firstMessage": "Hi."}))

    assert found.agent.voice == "bass"
    assert found.agent.first_message == "Hi."
    assert found.provenance["voice"] == "per_call"
    [noted] = found.metadata[IGNORED]
    assert noted.startswith("per_call: llmOptions.temperature")


def test_the_webhooks_reply_is_above_everything() -> None:
    """What it says is in force; what it leaves out stays."""
    found = plan(
        offer(pipelineConfig={"voice": "bass", "firstMessage": "Hi."}),
        pre_call={"voice": None, "systemPrompt": "The caller is Maya.", "tools": ["end_call"]},
    )

    assert found.agent.voice is None
    assert found.provenance["voice"] == "pre_call (cleared)"
    assert found.agent.system_prompt == "The caller is Maya."
    assert found.agent.first_message == "Hi."
    assert [tool.name for tool in found.agent.tools] == ["end_call"]


def test_an_agents_templates_are_filled_in() -> None:
    """Declared defaults, values of the call, inline defaults, and the product's own in the agent's zone."""
    found = plan(offer(agentId="liquid", pipelineConfig={"variables": {"name": "Maya"}}))

    assert found.agent.first_message == "Hello Maya."
    assert found.agent.system_prompt == "You speak with Maya, plan free, at 10:30."
    assert found.events == ()
    assert plan(offer(agentId="liquid")).agent.first_message == "Hello friend."


@pytest.mark.parametrize("evil", ["{{ system.call_id }}", "{% render 'x' %}", "{{", "{% if %}"])
def test_nothing_a_caller_or_a_webhook_sends_is_a_template(evil: str) -> None:
    """Values, a webhook's texts and a caller's name stay the characters they are."""
    by_value = plan(offer(agentId="liquid", pipelineConfig={"variables": {"name": evil}}))
    by_reply = plan(offer(agentId="liquid"), pre_call={"systemPrompt": evil, "firstMessage": evil})
    by_caller = plan(offer("+12015550155", caller=evil))

    assert by_value.agent.first_message == f"Hello {evil}."
    assert by_reply.agent.system_prompt == evil
    assert by_reply.agent.first_message == evil
    assert evil not in by_caller.agent.first_message + by_caller.agent.system_prompt


def test_values_of_a_webhook_fill_in_the_agents_own_template() -> None:
    """A reply may give variables; they are data."""
    found = plan(offer(agentId="liquid"), pre_call={"variables": {"name": "Ada"}})

    assert found.agent.first_message == "Hello Ada."


def test_a_variable_without_a_value_is_empty_and_told() -> None:
    """A caller on the line is answered; the operator reads every missing name."""
    found = plan(
        offer(
            pipelineConfig={
                "variables": {},
                "systemPrompt": "For {{ customer }} of {{ firm }}.",
                "firstMessage": "Hi {{ customer }}",
            }
        )
    )

    assert found.agent.system_prompt == "For  of ."
    [event] = found.events
    assert event.failure_cause == "MISSING_TEMPLATE_VARIABLES"
    assert event.payload == {"names": ["customer", "firm"]}


def test_a_broken_template_is_not_read_out() -> None:
    """The first message falls back to the built-in one; the operator reads why."""
    found = plan(offer(pipelineConfig={"variables": {}, "firstMessage": "Hi {% if x %}"}))

    assert found.agent.first_message == AgentConfig(name="x").first_message
    assert [event.event_type for event in found.events] == ["template.invalid"]


@pytest.mark.parametrize(
    ("job_metadata", "noted"),
    [
        ({"agentId": 7}, "agentId: must be text, is int"),
        ({"agentId": "nobody"}, "agentId: there is no agent 'nobody'"),
        ({"metadata": ["a"]}, "metadata: must be an object, is list"),
        ({"pipelineConfig": "x"}, "pipelineConfig: must be an object, is str"),
        ({"systemPrompt": "Be rude."}, "systemPrompt: belongs under pipelineConfig"),
        ({"pipelineConfig": {"spede": 1}}, "per_call: there is no key 'spede'"),
        ({"pipelineConfig": {"webhooks": {}}}, "per_call: webhooks cannot be set here"),
        ({"_ignored": "job metadata is not JSON"}, "job metadata is not JSON"),
    ],
)
def test_junk_in_the_dispatch_never_costs_a_call(job_metadata: dict[str, Any], noted: str) -> None:
    """The call is taken by its number, and the junk is listed on it."""
    found = plan(offer(**job_metadata))

    assert found.agent_id == "desk"
    assert found.metadata[IGNORED] == [noted]
    assert found.pipeline_config["systemPrompt"] == "Be kind."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["agentId", "agent_id", "metadata", "pipelineConfig", "voice", "x"]), JSON))
def test_any_json_object_in_the_dispatch_is_survived(job_metadata: dict[str, Any]) -> None:
    """Whatever a dispatch rule carries, the number's agent, or one that is named, takes the call."""
    assert isinstance(answer(offer(**job_metadata)), CallPlan)


@given(st.dictionaries(st.sampled_from(["voice", "systemPrompt", "tools", "metadata", "llm", "intent", "x"]), JSON))
def test_any_reply_of_a_webhook_is_survived(reply: dict[str, Any]) -> None:
    """What of a reply can be taken makes a plan."""
    assert isinstance(answer(offer(), pre_call=read_overrides(reply, "pre_call")), CallPlan | CallRefusal)


def test_a_snapshot_holds_the_whole_catalog() -> None:
    """Out and in again, nothing is lost; without secrets, webhooks are."""
    whole = AgentCatalog.from_snapshot(CATALOG.snapshot(secrets=True))
    bare = AgentCatalog.from_snapshot(CATALOG.snapshot(secrets=False))

    assert whole == CATALOG
    assert bare.numbers == CATALOG.numbers
    assert bare.agents["night"].webhooks.pre_call is None
    assert "whsec_abcdef" not in str(CATALOG.snapshot(secrets=False))
