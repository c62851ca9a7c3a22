"""The analysis of a call that is over: what it writes, once, and what it does without an answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from agent_worker.control.analysis import ATTEMPTS, USELESS_ATTEMPTS
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import DisconnectionReason
from agent_worker.errors import ControlPlaneError
from agent_worker.providers.openai import make_llm
from agent_worker.providers.plugin_model import PluginModel
from agent_worker.providers.structured import NoAnswer, Question
from agent_worker.providers.vendor import BuildContext, ProviderLabel, Wishes
from agent_worker.store import tables
from tests.integration.analysing import CONFIG, FORM, SAID, Desk, claimed_job, desk, jobs_left, spoken_call


@pytest.fixture
async def found(tmp_path: Path, database_url: str) -> AsyncIterator[Desk]:
    async with desk(tmp_path, database_url) as made:
        yield made


async def test_the_analysis_reaches_the_report(found: Desk) -> None:
    """Every part of the form is where the contract has it, and the job is done."""
    job = await claimed_job(found, structured_data={"Item": "x", "order": {"number": 7}})
    before = await found.report()
    assert (before["analysis_status"], before["custom_data"]) == ("heuristic", {"urgent": None, "topic": None})
    await found.analyst().run(job)
    report = await found.report()
    assert (report["analysis_status"], report["analysis_error"]) == ("completed", None)
    assert (report["analysis_provider"], report["analysis_model"]) == ("openai", "stand-in")
    assert (report["summary"], report["outcome"]) == (FORM["summary"], "callback_scheduled")
    assert (report["customer_name"], report["final_score"]) == ("Maya", 9)
    assert report["custom_data"] == {"urgent": False, "topic": "repair"}
    assert report["structured_data"] == {"item": "bicycle", "Item": "x", "order": {"number": 7}}
    assert report["scheduled_callback"]["scheduled_at"] == "2026-03-03T15:00:00+01:00"
    assert report["analysis_completed_at"] == report["updated_at"]
    assert await jobs_left(found) == 0


async def test_the_request_holds_the_model_to_the_form(found: Desk) -> None:
    """A strict schema, the key, the model of the agent; the words are in the second message only."""
    await found.analyst().run(await claimed_job(found))
    (request,) = found.model.requests
    assert request["model"] == "stand-in"
    assert request["response_format"]["json_schema"]["strict"] is True
    system, user = request["messages"]
    assert SAID[1][1] in user["content"]
    assert SAID[1][1] not in system["content"]


async def test_what_the_analysis_took_is_on_the_bill(found: Desk) -> None:
    """Its tokens are lines of the report's cost, and stay there when facts arrive later."""
    await found.analyst().run(await claimed_job(found))
    lines = {line["metric"]: line["quantity"] for line in (await found.report())["cost_breakdown"]}
    assert lines["llm_input_tokens"] > 100
    assert lines["llm_output_tokens"] > 10
    assert {line["provider"] for line in (await found.report())["unpriced"]} == {"openai", "sip"}
    late = spoken_call()
    late.said(3, "agent", "Goodbye.")
    await found.control.record(late.facts)
    report = await found.report()
    assert (report["summary"], len(report["transcript"]["entries"])) == (FORM["summary"], 4)
    assert {line["metric"] for line in report["cost_breakdown"]} >= set(lines)


async def test_a_callback_is_scheduled_on_the_callers_number(found: Desk) -> None:
    """Whoever asked is called back, at the number they called from and no other, however often it is analysed."""
    job = await claimed_job(found)
    await found.analyst().run(job)
    (callback,) = await found.callbacks()
    assert (callback["status"], callback["to_number"], callback["from_number"]) == (
        "scheduled",
        "+12015550101",
        "+12015550199",
    )
    assert callback["scheduled_at"] == "2026-03-03T14:00:00.000000Z"
    assert callback["source_session_id"] == "call-1"
    assert (await found.report())["scheduled_callback"]["id"] == callback["id"]


async def test_a_caller_without_a_number_is_not_called_back(found: Desk) -> None:
    """The wish is in the report; there is nothing to dial."""
    story = spoken_call()
    facts = [
        fact.model_copy(update={"caller_number": None}) if number == 0 else fact
        for number, fact in enumerate(story.facts)
    ]
    await found.control.record(facts)
    (job,) = await found.claim()
    await found.analyst().run(job)
    assert await found.callbacks() == []
    assert (await found.report())["scheduled_callback"]["id"] is None


async def test_a_fact_stands_against_the_model(found: Desk) -> None:
    """What a model says of a call that failed does not make it a success."""
    job = await claimed_job(found, reason=DisconnectionReason.LLM_ERROR)
    found.model.form = lambda _schema: FORM | {"outcome": "completed"}
    await found.analyst().run(job)
    report = await found.report()
    assert (report["analysis_status"], report["outcome"]) == ("completed", "failed")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_in_trouble_is_asked_again(found: Desk, status: int) -> None:
    """The first try gives the job back, the second one completes the report."""
    job = await claimed_job(found, attempts=USELESS_ATTEMPTS)
    found.model.statuses = [status]
    with pytest.raises(ControlPlaneError, match=f"openai:stand-in: http_{status}"):
        await found.analyst().run(job)
    assert (await found.report())["analysis_status"] == "heuristic"
    (again,) = await found.claim()
    assert again.attempts == USELESS_ATTEMPTS + 1
    await found.analyst().run(again)
    assert (await found.report())["analysis_status"] == "completed"


async def test_an_answer_that_cannot_be_used_is_asked_for_again(found: Desk) -> None:
    """A model may do better the next time."""
    job = await claimed_job(found)
    good, found.model.form = found.model.form, lambda _schema: "no form"
    with pytest.raises(ControlPlaneError, match="answer_not_json"):
        await found.analyst().run(job)
    found.model.form = good
    (again,) = await found.claim()
    await found.analyst().run(again)
    assert (await found.report())["analysis_status"] == "completed"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("not JSON at all", "answer_not_json"),
        ({"summary": "only this"}, "answer_not_the_form"),
        (None, "refused"),
        ("", "answer_empty"),
    ],
)
async def test_without_an_answer_the_heuristic_report_stays(found: Desk, answer: Any, code: str) -> None:
    """The last try leaves text and outcome as they were, says why in a code, and gives the job up for good."""
    job = await claimed_job(found, attempts=USELESS_ATTEMPTS)
    before = await found.report()
    found.model.form = lambda _schema: answer
    await found.analyst().run(job)
    report = await found.report()
    assert (report["analysis_status"], report["analysis_error"]) == ("failed", f"openai:stand-in: {code}")
    assert (report["summary"], report["outcome"]) == (before["summary"], before["outcome"])
    assert await jobs_left(found) == 0
    late = spoken_call()
    late.said(3, "agent", "Goodbye.")
    await found.control.record(late.facts)
    assert (await found.report())["analysis_status"] == "failed"


async def test_no_error_quotes_anybody(found: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """What a caller said, or a model answered, is in no log and in no error."""
    caplog.set_level(logging.DEBUG, "agent_worker")
    job = await claimed_job(found, attempts=ATTEMPTS)
    found.model.form = lambda _schema: "Maya wants her bicycle back"
    await found.analyst().run(job)
    written = (
        caplog.text
        + str([record.__dict__ for record in caplog.records])
        + str((await found.report())["analysis_error"])
    )
    assert "Maya" not in written
    assert "bicycle" not in written


async def test_a_model_that_hangs_is_given_up_in_time(found: Desk) -> None:
    """The deadline is each model's own."""
    job = await claimed_job(found, attempts=ATTEMPTS)
    await found.model.set_fault("hang")
    await asyncio.wait_for(found.analyst(analysis_timeout_seconds=1).run(job), 10)
    assert (await found.report())["analysis_error"] == "openai:stand-in: timeout"


async def test_a_server_that_is_away_is_no_answer(found: Desk) -> None:
    """A refused connection is told by a code too."""
    job = await claimed_job(found, attempts=ATTEMPTS)
    await found.model.set_fault("refuse")
    await found.analyst().run(job)
    assert (await found.report())["analysis_error"] == "openai:stand-in: unreachable"


async def test_the_next_model_is_asked_when_one_fails(found: Desk) -> None:
    """As in a call: what the first cannot do, the next in the agent's list does."""
    job = await claimed_job(found)
    found.model.statuses = [500]
    found.env |= {"SPARE_BASE_URL": found.model.base_url}
    async with found.control.writing() as connection:
        chain = CONFIG | {"stackPreferences": {"allowedProviders": {"llm": ["openai:stand-in", "spare:second"]}}}
        await connection.execute(update(tables.calls).values(pipeline_config=chain))
    await found.analyst().run(job)
    report = await found.report()
    assert (report["analysis_provider"], report["analysis_model"]) == ("spare", "second")


async def test_a_server_that_knows_no_schemas_gets_it_in_words(found: Desk) -> None:
    """The same form comes of it, checked here instead of there."""
    job = await claimed_job(found)
    found.model.knows_schemas = False
    found.model.default_reply = json.dumps(FORM)
    await found.analyst().run(job)
    assert (await found.report())["analysis_status"] == "completed"
    assert '"final_score"' in found.model.requests[-1]["messages"][0]["content"]


async def test_a_model_behind_a_plugin_alone_is_asked_as_well(found: Desk) -> None:
    """A vendor that only LiveKit's plugin speaks to answers the same question."""
    context = BuildContext(Wishes.of(AgentConfig(name="desk")), "stand-in", found.env)
    model = PluginModel(ProviderLabel("other", "stand-in"), lambda: make_llm("openai", context))
    found.model.default_reply = '{"answer": "yes"}'
    answer = await model.ask(Question("Say yes.", "Well?", {"type": "object"}, "form"))
    assert answer.text == '{"answer": "yes"}'
    assert answer.output_tokens > 0
    assert "JSON schema" in found.model.requests[-1]["messages"][0]["content"]
    found.model.statuses = [401]
    with pytest.raises(NoAnswer, match="http_401"):
        await model.ask(Question("Say yes.", "Well?", {"type": "object"}, "form"))


async def test_the_operator_names_another_model(found: Desk) -> None:
    """`AGENT_WORKER_ANALYSIS` stands above the agent's own list."""
    job = await claimed_job(found)
    found.env |= {"SPARE_BASE_URL": found.model.base_url}
    await found.analyst(analysis="spare:reader").run(job)
    assert (await found.report())["analysis_model"] == "reader"


async def test_a_model_without_a_key_is_told_as_such(found: Desk) -> None:
    """An operator reads what is missing; the key may be there at the next try."""
    job = await claimed_job(found, attempts=ATTEMPTS)
    found.env.clear()
    await found.analyst().run(job)
    assert (await found.report())["analysis_error"] == "provider_key_missing"


@pytest.mark.parametrize("said", [(("agent", "Hello?"),), (("agent", "Hello?"), ("user", "  "))])
async def test_where_nobody_spoke_nobody_is_asked(found: Desk, said: Any) -> None:
    """A transcript without the person's words has nothing in it for a model."""
    await found.control.record(spoken_call("call-1", *said).facts)
    assert await found.claim() == []
    assert (await found.report())["analysis_status"] == "heuristic"
