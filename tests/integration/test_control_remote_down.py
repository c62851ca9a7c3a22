"""Calls that come in while the control plane on another host is down, slow or coming back."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_worker.config import catalog_cache
from agent_worker.config.catalog_cache import REMOTE_FILE
from agent_worker.control.remote import UNREACHABLE_EVENT
from agent_worker.domain.call import CallPlan, CallRefusal, DisconnectionReason
from agent_worker.errors import ControlPlaneError
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import TOKEN
from tests.integration.remote_worker import answering, cached_worker
from tests.integration.serving import DESK, NUMBER, OFFER, Hop, remote_to, serve_settings, serving

# --- calls that come in while it is down


async def test_a_call_is_planned_from_the_cache_while_nobody_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent, its prompt and its tools are those last seen; the plan says what happened, within the budget."""
    agent = {**DESK, "firstMessage": "Good day.", "voice": "maya", "toolSecrets": {"crm": "secret-of-tools"}}
    async with cached_worker(tmp_path, agent) as worker:
        started = asyncio.get_running_loop().time()
        with caplog.at_level(logging.INFO):
            plan = await worker.control.open_call(OFFER, budget_seconds=1.5)
        took = asyncio.get_running_loop().time() - started
    assert isinstance(plan, CallPlan)
    assert took < 1.5
    assert (plan.agent_id, plan.agent.first_message, plan.agent.voice) == ("desk", "Good day.", "maya")
    assert plan.agent.tool_secrets == {"crm": "secret-of-tools"}
    [event] = plan.events
    assert (event.event_type, event.failure_cause) == (UNREACHABLE_EVENT, "control_plane_unreachable")
    assert event.payload["cached_at"]
    assert NUMBER not in caplog.text
    assert TOKEN not in caplog.text


async def test_a_plan_of_the_cache_is_the_plan_of_the_control_plane(tmp_path: Path) -> None:
    """Default agent, unknown numbers and organization are decided by the control plane's settings, not the worker's."""
    options = {"default_agent": "desk", "organization_id": "org_7"}
    unknown = OFFER.model_copy(update={"dialed_number": "+12015550100"})
    settings = serve_settings(tmp_path, **options)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
            there = await worker.control.open_call(unknown, budget_seconds=4)
        here = await worker.control.open_call(unknown, budget_seconds=0.5)
    assert isinstance(there, CallPlan)
    assert isinstance(here, CallPlan)
    assert here.organization_id == "org_7"
    assert here.model_copy(update={"events": ()}) == there


async def test_a_refusal_of_the_cache_says_where_it_comes_from(tmp_path: Path) -> None:
    """A number that is not in the cached configuration is refused, with the same event."""
    async with cached_worker(tmp_path, unknown_number_message="Nobody here.") as worker:
        refusal = await worker.control.open_call(
            OFFER.model_copy(update={"dialed_number": "+12015550100"}), budget_seconds=0.5
        )
    assert isinstance(refusal, CallRefusal)
    assert refusal.sentence == "Nobody here."
    assert [event.event_type for event in refusal.events] == [UNREACHABLE_EVENT]


@pytest.mark.parametrize(("on_failure", "taken"), [("continue", True), ("reject", False)])
async def test_a_webhook_that_cannot_be_asked_has_failed(tmp_path: Path, on_failure: str, taken: bool) -> None:
    """Whether a call goes on without its pre-call webhook is the agent's word, also where nobody can ask it."""
    hook = {"url": "https://crm.example/secret-path", "secret": "hook-secret", "onFailure": on_failure}
    async with cached_worker(tmp_path, {**DESK, "webhooks": {"preCall": hook}}) as worker:
        answer = await worker.control.open_call(OFFER, budget_seconds=0.5)
        kept = (worker.settings.cache_dir / REMOTE_FILE).read_text()
    assert isinstance(answer, CallPlan if taken else CallRefusal)
    if isinstance(answer, CallRefusal):
        assert answer.reason is DisconnectionReason.REJECTED
    assert [event.event_type for event in answer.events] == [UNREACHABLE_EVENT, "call.pre_call"]
    assert "secret-path" not in kept
    assert "hook-secret" not in kept


async def test_metadata_no_message_can_hold_is_planned_with_here(tmp_path: Path) -> None:
    """A dispatch may send what is nested too deep to be passed on; it costs nobody a call."""
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    async with cached_worker(tmp_path) as worker:
        plan = await worker.control.open_call(OFFER.model_copy(update={"job_metadata": deep}), budget_seconds=0.5)
    assert isinstance(plan, CallPlan)


async def test_without_any_configuration_the_error_is_said(tmp_path: Path) -> None:
    """A worker that has never seen the control plane has nobody to take a call with."""
    async with remote_to(f"http://127.0.0.1:{free_port()}", tmp_path) as worker:
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.open_call(OFFER, budget_seconds=0.3)
    assert error.value.retryable


async def test_a_control_plane_that_hangs_costs_no_more_than_the_budget(tmp_path: Path) -> None:
    """An open connection that says nothing is given up in time to plan the call here."""

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with cached_worker(tmp_path) as worker, answering(hang) as url:
        path = worker.settings.cache_dir / REMOTE_FILE
        catalog_cache.write(path, {**(catalog_cache.read(path) or {}), "source": url})
        async with remote_to(url, tmp_path) as other:
            started = asyncio.get_running_loop().time()
            plan = await other.control.open_call(OFFER, budget_seconds=1.2)
            took = asyncio.get_running_loop().time() - started
    assert isinstance(plan, CallPlan)
    assert took < 1.2
    assert plan.events[0].failure_cause == "control_plane_timeout"


async def test_a_control_plane_that_comes_back_in_time_is_heard(tmp_path: Path) -> None:
    """It is asked again for most of the budget: a restart costs ringing, not its answer."""
    settings = serve_settings(tmp_path)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        asking = asyncio.create_task(worker.control.open_call(OFFER, budget_seconds=5))
        await asyncio.sleep(0.6)
        async with serving(settings.model_copy(update={"api_port": port})):
            plan = await asking
    assert isinstance(plan, CallPlan)
    assert plan.events == ()


async def test_a_lost_answer_does_not_ask_the_webhook_twice(tmp_path: Path) -> None:
    """The question is put again, `serve` remembers what it answered, and the webhook hears of the call once."""
    async with HookReceiver() as hook:
        hook.answer_with({"voice": "zoe"}, delay_ms=200)
        settings = serve_settings(
            tmp_path, {**DESK, "webhooks": {"preCall": {"url": hook.url}}}, egress_allow="127.0.0.1"
        )
        async with (
            serving(settings) as url,
            Hop(int(url.rsplit(":", 1)[1])) as hop,
            remote_to(hop.url, tmp_path) as worker,
        ):
            hop.swallow = 2
            plan = await worker.control.open_call(OFFER, budget_seconds=5)
            assert hop.swallowed == 2
            again = await worker.control.open_call(OFFER, budget_seconds=5)
            other = OFFER.model_copy(update={"call_id": "call-2"})
            await worker.control.open_call(other, budget_seconds=5)
        asked = [request.json["call_id"] for request in hook.requests]
    assert isinstance(plan, CallPlan)
    assert plan.agent.voice == "zoe"
    assert again == plan
    assert asked == ["call-1", "call-2"]
