"""Planning a call: the webhook has its share of the time, and whatever it says, a caller is answered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.open_call import plan_call
from agent_worker.domain.agent import FIRST_MESSAGE_CHARS, AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, Direction
from agent_worker.domain.lifecycle_hook import LifecycleHook
from agent_worker.settings import Settings
from agent_worker.webhooks.pre_call import PreCallAnswer

OFFER = CallOffer(call_id="c1", direction=Direction.INBOUND, room_name="r", dialed_number="+12015550123")


class Webhook:
    """Answers as it is told, and keeps what it was given."""

    def __init__(self, reply: dict[str, Any] | None = None, *, failure: Any = None) -> None:
        self.answer = PreCallAnswer(reply, False, "", failure, "", 200, 5)
        self.seconds: list[float] = []

    async def __call__(self, hook: LifecycleHook, payload: Mapping[str, Any], timeout_seconds: float) -> PreCallAnswer:
        self.seconds.append(timeout_seconds)
        return self.answer


def catalog(*, hook: dict[str, Any] | None = None, **agent: Any) -> AgentCatalog:
    given = {"name": "desk", "systemPrompt": "Be kind.", "numbers": ["+12015550123"], **agent}
    return AgentCatalog.of(
        [AgentConfig.model_validate({**given, "webhooks": {"preCall": {"url": "https://crm.example", **(hook or {})}}})]
    )


async def planned(webhook: Webhook, found: AgentCatalog, *, budget: float = 4.0, **job: Any) -> CallPlan | CallRefusal:
    offer = OFFER.model_copy(update={"job_metadata": job})
    return await plan_call(offer, found, Settings(), budget_seconds=budget, ask=webhook)


@pytest.mark.parametrize(
    ("budget", "hook", "seconds"),
    [
        (4.0, {}, 3.2),
        (10.0, {}, 4.0),
        (10.0, {"timeoutMs": 8_000}, 8.0),
        (4.0, {"timeoutMs": 500}, 0.5),
        (0.5, {}, 0.4),
    ],
)
async def test_the_webhook_has_its_share_of_the_ringing(budget: float, hook: dict[str, Any], seconds: float) -> None:
    """Its own timeout, and never more than four fifths of what is left, with at most 0.8 s for the greeting."""
    webhook = Webhook({})

    await planned(webhook, catalog(hook=hook), budget=budget)

    assert webhook.seconds == [pytest.approx(seconds, abs=0.02)]


async def test_a_webhook_is_not_asked_when_no_time_is_left() -> None:
    """The call is answered as it is configured, and the operator reads why; or declined, where that is wanted."""
    webhook = Webhook({"voice": "alto"})

    late = await planned(webhook, catalog(), budget=0.1)
    declined = await planned(webhook, catalog(hook={"onFailure": "reject"}), budget=0.0)

    assert webhook.seconds == []
    assert isinstance(late, CallPlan)
    assert [(event.status, event.failure_cause) for event in late.events] == [("failed", "timeout")]
    assert isinstance(declined, CallRefusal)


async def test_a_reply_that_fits_alone_and_not_together_is_a_wrong_reply() -> None:
    """Twenty kilobytes of metadata on twenty: the call goes on without the reply."""
    found = catalog(metadata={"a": "x" * 20_000})

    plan = await planned(Webhook({"metadata": {"b": "x" * 20_000}, "voice": "alto"}), found)

    assert isinstance(plan, CallPlan)
    assert [(event.status, event.failure_cause) for event in plan.events] == [("failed", "wrong_type")]
    assert plan.agent.voice is None
    assert "b" not in plan.metadata


async def test_a_dispatch_that_fits_alone_and_not_together_gives_way() -> None:
    """The agent's metadata stays, the dispatch's is noted as ignored."""
    found = catalog(metadata={"a": "x" * 20_000})

    plan = await planned(Webhook({}), found, metadata={"b": "x" * 20_000}, pipelineConfig={"voice": "alto"})

    assert isinstance(plan, CallPlan)
    assert plan.agent.voice == "alto"
    assert "b" not in plan.metadata
    assert plan.metadata["ignored_job_metadata"] == [
        "per_call: metadata: must be at most 32768 bytes as JSON, is 40018"
    ]


@pytest.mark.parametrize("blank", [None, "", "  "])
async def test_a_reply_without_instructions_leaves_the_agents(blank: str | None) -> None:
    """A serializer that writes nulls does not cost the call."""
    plan = await planned(Webhook({"systemPrompt": blank, "voice": "alto"}), catalog())

    assert isinstance(plan, CallPlan)
    assert (plan.agent.system_prompt, plan.agent.voice) == ("Be kind.", "alto")
    assert plan.events[0].payload["ignored"] == ["systemPrompt"]


async def test_a_greeting_that_is_filled_in_beyond_its_limit_is_cut() -> None:
    """A variable may be longer than a greeting may be."""
    found = catalog(firstMessage="Hello {{ name }}.", promptVariables=[{"name": "name"}])

    plan = await planned(Webhook({"variables": {"name": "y" * 4_000}}), found)

    assert isinstance(plan, CallPlan)
    assert len(plan.agent.first_message) == FIRST_MESSAGE_CHARS
    assert [event.event_type for event in plan.events] == ["call.pre_call", "template.cut"]


async def test_a_refusal_keeps_what_is_known_of_the_call() -> None:
    """An agent the dispatch named and nobody has is on the row of the call that is refused for it."""
    offer = OFFER.model_copy(update={"dialed_number": None, "job_metadata": {"agentId": "nosuch"}})

    refusal = await plan_call(offer, catalog(), Settings(), budget_seconds=4, ask=None)

    assert isinstance(refusal, CallRefusal)
    assert refusal.metadata["ignored_job_metadata"] == ["agentId: there is no agent 'nosuch'"]


async def test_a_hooks_extraction_fields_stand_below_the_agents_own() -> None:
    """What is extracted is settled when the call is planned, and is in its configuration without the hook."""
    own = {"name": "topic", "type": "string", "description": "Mine."}
    theirs = [{**own, "description": "Theirs."}, {"name": "urgent", "type": "boolean", "description": "Urgent?"}]
    hooks = {"postCall": {"url": "https://crm.example", "extractionFields": theirs}}
    agent = {"name": "desk", "systemPrompt": "Be kind.", "numbers": ["+12015550123"], "extractionFields": [own]}
    found = AgentCatalog.of([AgentConfig.model_validate({**agent, "webhooks": hooks})])
    plan = await planned(Webhook(), found)
    assert isinstance(plan, CallPlan)
    fields = plan.pipeline_config["extractionFields"]
    assert [(field["name"], field["description"]) for field in fields] == [("topic", "Mine."), ("urgent", "Urgent?")]
    assert "webhooks" not in plan.pipeline_config
