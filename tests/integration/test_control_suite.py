"""One protocol, two implementations: what a worker may rely on holds inside its process and over HTTP alike."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent_worker.control.base import ControlPlane
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog
from agent_worker.domain.call import CallPlan, CallRefusal, DisconnectionReason, utc_now
from agent_worker.domain.fact import CallAnswered, EventOccurred
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import queries, tables
from agent_worker.testing.hook_receiver import HookReceiver
from tests.call_facts import CallStory, whole_call
from tests.databases import fresh_database, held
from tests.integration.serving import DESK, OFFER, remote_to, serve_settings, serving
from tests.integration.test_store import of_the_calls, rows_of

BUDGET = 4.0
kinds = pytest.mark.parametrize(
    "kind", ["embedded-sqlite", "embedded-postgresql", "remote-sqlite", "remote-postgresql"]
)


@dataclass
class Plane:
    """A control plane under test, and another one on its database, to look at what became of it."""

    control: ControlPlane
    store: EmbeddedControlPlane
    settings: Settings

    async def detail(self, call_id: str = "call-1") -> dict[str, Any] | None:
        async with self.store.reading() as connection:
            return await queries.call_detail(connection, call_id)

    async def lease(self, call_id: str = "call-1") -> Any:
        async with self.store.reading() as connection:
            query = select(tables.calls.c.lease_until, tables.calls.c.worker_id).where(tables.calls.c.id == call_id)
            return (await connection.execute(query)).one_or_none()


@asynccontextmanager
async def plane(kind: str, folder: Path, *agents: dict[str, Any], **changes: Any) -> AsyncIterator[Plane]:
    where, database = kind.split("-")
    with fresh_database(database, folder) as database_url:
        settings = serve_settings(folder, *agents, database_url=database_url, **changes)
        store = EmbeddedControlPlane(settings)
        try:
            if where == "embedded":
                control = EmbeddedControlPlane(settings, make_catalog(settings))
                yield Plane(control, store, settings)
                await control.aclose()
            else:
                async with serving(settings) as url, remote_to(url, folder) as worker:
                    yield Plane(worker.control, store, settings)
        finally:
            await store.aclose()


# --- open_call


@kinds
async def test_the_agent_of_the_number_takes_the_call(kind: str, tmp_path: Path) -> None:
    """The plan has the agent's whole configuration, its tools' secrets too, and none of its webhooks."""
    agent = {
        **DESK,
        "firstMessage": "",
        "voice": "maya",
        "intent": {"language": "de"},
        "toolSecrets": {"crm": "s3cret-value"},
        "tools": [{"name": "end_call", "config": {"odd": {"é": [1, 2.5, None]}}}],
        "webhooks": {"status": {"url": "https://crm.example/hook", "secret": "status-secret"}},
    }
    async with plane(kind, tmp_path, agent) as found:
        plan = await found.control.open_call(OFFER, budget_seconds=BUDGET)
    assert isinstance(plan, CallPlan)
    assert (plan.agent_id, plan.agent.first_message, plan.agent.intent.language) == ("desk", "", "de")
    assert plan.agent.tool_secrets == {"crm": "s3cret-value"}
    assert plan.agent.tools[0].config == {"odd": {"é": [1, 2.5, None]}}
    assert plan.agent.webhooks.status is None
    assert plan.pipeline_config["voice"] == "maya"
    assert plan.provenance["voice"] == "agent"
    assert "s3cret-value" not in str(plan.pipeline_config)
    assert plan.events == ()


async def test_both_give_the_same_answers(tmp_path: Path) -> None:
    """Not a key differs between a plan made in this process and one that came over HTTP; nor in a refusal."""
    offers = [
        OFFER.model_copy(
            update={
                "caller_number": "+12015550101",
                "attributes": {"sip.callStatus": "ringing"},
                "job_metadata": {"pipelineConfig": {"voice": "zoe"}, "metadata": {"n": 1.5}, "odd": ["é", None]},
            }
        ),
        OFFER.model_copy(update={"call_id": "call-2", "dialed_number": "+12015550100"}),
    ]
    answers = []
    for kind in ("embedded-sqlite", "remote-sqlite"):
        (tmp_path / kind).mkdir()
        async with plane(kind, tmp_path / kind) as found:
            answers.append([await found.control.open_call(offer, budget_seconds=BUDGET) for offer in offers])
    assert answers[0] == answers[1]
    assert [type(answer) for answer in answers[0]] == [CallPlan, CallRefusal]


@kinds
async def test_a_number_of_nobodys_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    """The refusal is an answer like any other: a reason, a sentence, a detail."""
    async with plane(kind, tmp_path, unknown_number_message="Nobody here.") as found:
        offer = OFFER.model_copy(update={"dialed_number": "+12015550100"})
        refusal = await found.control.open_call(offer, budget_seconds=BUDGET)
    assert isinstance(refusal, CallRefusal)
    assert (refusal.reason, refusal.sentence) == (DisconnectionReason.UNKNOWN_NUMBER, "Nobody here.")


@kinds
async def test_the_pre_call_webhook_is_asked_from_behind_the_seam(kind: str, tmp_path: Path) -> None:
    """Its answer is in the plan, its address and secret are not."""
    async with HookReceiver(secret="whsec_" + "c2VjcmV0LW9mLXRoZS1ob29r") as hook:
        hook.answer_with({"firstMessage": "Hello Maya."})
        webhooks = {"preCall": {"url": hook.url, "secret": "whsec_c2VjcmV0LW9mLXRoZS1ob29r"}}
        async with plane(kind, tmp_path, {**DESK, "webhooks": webhooks}, egress_allow="127.0.0.1") as found:
            plan = await found.control.open_call(OFFER, budget_seconds=BUDGET)
        [request] = hook.requests
    assert isinstance(plan, CallPlan)
    assert plan.agent.first_message == "Hello Maya."
    assert plan.provenance["firstMessage"] == "pre_call"
    assert request.verified
    assert request.json["call_id"] == "call-1"
    assert hook.url not in plan.model_dump_json()
    assert "c2VjcmV0" not in plan.model_dump_json()
    assert [(event.event_type, event.status) for event in plan.events] == [("call.pre_call", "succeeded")]


@kinds
async def test_a_webhook_that_hangs_leaves_an_answer_within_the_budget(kind: str, tmp_path: Path) -> None:
    """The budget the worker gives is the budget that is kept, wherever the webhook is asked."""
    async with HookReceiver() as hook:
        agent = {**DESK, "webhooks": {"preCall": {"url": hook.url}}}
        async with plane(kind, tmp_path, agent, egress_allow="127.0.0.1") as found:
            # what a process loads for its first call is not what this is about
            await found.control.open_call(OFFER.model_copy(update={"call_id": "call-0"}), budget_seconds=20.0)
            hook.answer_with({}, fault="hang")
            started = asyncio.get_running_loop().time()
            plan = await found.control.open_call(OFFER, budget_seconds=2.0)
            took = asyncio.get_running_loop().time() - started
    assert isinstance(plan, CallPlan)
    assert took < 2.0
    assert [(event.event_type, event.failure_cause) for event in plan.events] == [("call.pre_call", "timeout")]


# --- facts


@kinds
async def test_a_whole_call_reads_back(kind: str, tmp_path: Path) -> None:
    """Every kind of fact arrives as it was."""
    async with plane(kind, tmp_path) as found:
        story = whole_call()
        await found.control.record(story.facts[:-1])
        ended = story.facts[-1]
        assert ended.kind == "call_ended"
        await found.control.finish_call(ended)
        detail = await found.detail()
    assert detail is not None
    assert (detail["status"], detail["duration_seconds"]) == ("ended", 10)
    assert [entry["text"] for entry in detail["transcript"]["entries"]] == [
        "Good morning.",
        "Hello, it's Maya.",
        "Hi Maya.",
    ]
    assert detail["report"]["structured_data"] == {"message": {"name": "Maya"}}


@kinds
async def test_facts_may_come_twice_and_in_any_order(kind: str, tmp_path: Path) -> None:
    """However they are cut, repeated and shuffled, the rows are those of one delivery in order."""
    rows = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with plane(kind, folder) as found:
            facts = whole_call().facts
            if number:
                facts = [*facts, *facts]
                random.Random(number).shuffle(facts)
            for start in range(0, len(facts), 3 if number else len(facts)):
                await found.control.record(facts[start : start + 3] if number else facts)
            rows.append(of_the_calls(await rows_of(found.store)))
    for found_rows in rows:
        for report in found_rows["reports"]:
            del report["updated_at"]
    assert rows[0] == rows[1] == rows[2]


@kinds
async def test_a_call_is_finished_once(kind: str, tmp_path: Path) -> None:
    """The end may be told again, also after everything else was: nothing changes."""
    async with plane(kind, tmp_path) as found:
        story = whole_call()
        ended = story.facts[-1]
        assert ended.kind == "call_ended"
        await found.control.record(story.facts[:-1])
        await found.control.finish_call(ended)
        first = await rows_of(found.store)
        await found.control.finish_call(ended)
        await found.control.record(story.facts)
        assert await rows_of(found.store) == first


@kinds
async def test_facts_of_a_call_nobody_opened_make_its_row(kind: str, tmp_path: Path) -> None:
    """An end that overtakes its beginning is kept for it."""
    async with plane(kind, tmp_path) as found:
        story = whole_call("stray")
        ended = story.facts[-1]
        assert ended.kind == "call_ended"
        await found.control.finish_call(ended)
        await found.control.record(story.facts[:2])
        detail = await found.detail("stray")
    assert detail is not None
    assert detail["status"] == "ended"
    assert detail["metadata"]["from"] == "+12015550101"


@kinds
async def test_nothing_to_tell_is_told_at_no_cost(kind: str, tmp_path: Path) -> None:
    """Empty batches are fine, and leave nothing behind."""
    async with plane(kind, tmp_path) as found:
        await found.control.record([])
        await found.control.renew_leases([], worker_id="w1", until=utc_now())
        assert (await rows_of(found.store))["calls"] == []


@kinds
async def test_a_large_batch_arrives_whole(kind: str, tmp_path: Path) -> None:
    """Thousands of facts, some long, some odd, go in one call of `record`."""
    async with plane(kind, tmp_path) as found:
        story = CallStory()
        story.opened()
        texts = [f"{number} " + "é\n\u2028\U0001f600" * (number % 300) for number in range(2_500)]
        for number, text in enumerate(texts):
            story.said(number, "user", text)
        await found.control.record(story.facts)
        detail = await found.detail()
    assert detail is not None
    assert [entry["text"] for entry in detail["transcript"]["entries"]] == texts


@kinds
async def test_many_calls_may_tell_at_once(kind: str, tmp_path: Path) -> None:
    """Twenty calls report at the same time over the same control plane."""
    async with plane(kind, tmp_path) as found:
        stories = [whole_call(f"call-{number}") for number in range(20)]

        async def tell(story: CallStory) -> None:
            await found.control.record(story.facts[:7])
            await found.control.record(story.facts[7:])

        await asyncio.gather(*(tell(story) for story in stories))
        details = [await found.detail(story.call_id) for story in stories]
    assert {detail["status"] for detail in details if detail} == {"ended"}
    assert [len(detail["transcript"]["entries"]) for detail in details if detail] == [3] * 20


@kinds
async def test_a_fact_that_cannot_be_stored_is_refused_for_good(kind: str, tmp_path: Path) -> None:
    """Such an error is not retryable: whoever delivers puts the fact aside instead of trying for ever."""
    async with plane(kind, tmp_path) as found:
        story = CallStory()
        opened = story.opened()
        bad = story.add(EventOccurred, event_type="odd", sip_status_code=2**80)
        with pytest.raises(ControlPlaneError) as error:
            await found.control.record([opened, bad])
        assert not error.value.retryable
        await found.control.record([opened])
        assert (await found.detail() or {})["status"] == "connecting"


@kinds
async def test_a_locked_database_is_an_error_to_try_again(kind: str, tmp_path: Path) -> None:
    """While somebody holds the calls the error is retryable; afterwards the same facts apply."""
    async with plane(kind, tmp_path) as found:
        story = whole_call()
        await found.control.record(story.facts[:3])
        async with held(found.settings.database):
            with pytest.raises(ControlPlaneError) as error:
                await found.control.record(story.facts)
            assert error.value.retryable
            plan = await found.control.open_call(OFFER, budget_seconds=BUDGET)
            assert isinstance(plan, CallPlan)
        await found.control.record(story.facts)
        assert (await found.detail() or {})["status"] == "ended"


# --- leases


@kinds
async def test_leases_of_live_calls_are_renewed_and_no_others(kind: str, tmp_path: Path) -> None:
    """A lease ends when the worker says; calls that are over, and calls nobody knows, are left alone."""
    async with plane(kind, tmp_path) as found:
        story = CallStory()
        story.opened()
        story.add(CallAnswered)
        await found.control.record([*story.facts, *whole_call("over").facts])
        over = await found.lease("over")
        until = utc_now() + timedelta(seconds=77)
        await found.control.renew_leases(["call-1", "over", "nobody"], worker_id="w7", until=until)
        lease = await found.lease()
        assert abs((lease.lease_until - until).total_seconds()) < 2
        assert lease.worker_id == "w7"
        assert await found.lease("over") == over
        assert await found.lease("nobody") is None


@kinds
async def test_a_closed_control_plane_can_be_used_again(kind: str, tmp_path: Path) -> None:
    """Closing lets go of connections, and of nothing else."""
    async with plane(kind, tmp_path) as found:
        await found.control.record(whole_call().facts)
        await found.control.aclose()
        assert isinstance(await found.control.open_call(OFFER, budget_seconds=BUDGET), CallPlan)
        await found.control.record(whole_call("later").facts)
        assert (await found.detail("later") or {})["status"] == "ended"
