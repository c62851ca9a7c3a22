"""Reports over the API: read and made anew by the official client, sync and async, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from spekoai.errors import SpekoApiError

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.store.engine import Database
from agent_worker.store.tables import webhook_endpoints
from agent_worker.testing.stand_ins.openai import OpenAIStandIn
from tests.call_facts import whole_call
from tests.databases import KINDS
from tests.integration.analysing import CONFIG, FORM, spoken_call
from tests.integration.api_client import Served, served

OFFLINE = CONFIG | {"stackPreferences": {"allowedProviders": {"llm": ["embedded"]}}}
both = pytest.mark.parametrize("kind", KINDS)


async def _record(found: Served, facts: list[Any]) -> None:
    control = EmbeddedControlPlane(found.settings)
    try:
        await control.record(facts)
    finally:
        await control.aclose()


async def _analysed(found: Served, call_id: str = "call-1") -> dict[str, Any]:
    for _ in range(200):
        report: dict[str, Any] = (await found.http.get(f"/v1/calls/{call_id}/report")).json()
        if report["analysis_status"] != "heuristic":
            return report
        await asyncio.sleep(0.05)
    raise AssertionError("no analysis in time")


@both
async def test_the_official_client_reads_a_report(tmp_path: Path, kind: str) -> None:
    """Sync and async: the report of facts, with transcript, cost and what was collected."""
    async with served(tmp_path, kind) as found:
        await _record(found, whole_call().facts)
        report = await found.sync(lambda client: client.calls.report("call-1"))
        again = await found.later(lambda client: client.calls.report("call-1"))
    assert report == again
    assert (report.session_id, report.outcome, report.analysis_status) == ("call-1", "message_taken", "heuristic")
    assert [entry.text for entry in report.transcript.entries] == ["Good morning.", "Hello, it's Maya.", "Hi Maya."]
    assert {line.metric: line.key_source for line in report.cost_breakdown} == {
        "stt_seconds": "BYOK",
        "tts_characters": "BYOK",
        "telephony_seconds": "BYOK",
    }


async def test_a_report_says_more_than_the_client_reads(tmp_path: Path) -> None:
    """Additive fields: why it ended, latencies under both names, what has no price, how the webhooks stand."""
    async with served(tmp_path) as found:
        await _record(found, whole_call().facts)
        report = (await found.http.get("/v1/calls/call-1/report")).json()
    assert report["disconnection_reason"] == "user_hangup"
    assert report["latency"]["conversational_latency_ms"] == {
        "average": 1200.0,
        "p50": 1200.0,
        "p95": 1200.0,
        "turns": 1,
    }
    assert (report["average_transcriber_latency"], report["average_agent_latency"]) == (310.0, 350.0)
    assert {line["provider"] for line in report["unpriced"]} == {"deepgram", "cartesia", "sip"}
    assert report["post_call_webhook_status"] == "not_configured"
    assert report["final_score"] is None


@both
async def test_serve_analyses_a_call_by_itself_without_any_key(tmp_path: Path, kind: str) -> None:
    """Offline the rules answer: the report is completed and the callback is there, for the official client too."""
    async with served(tmp_path, kind, analysis="agent") as found:
        await _record(found, spoken_call(config=OFFLINE).facts)
        report = await _analysed(found)
        read = await found.sync(lambda client: client.calls.report("call-1"))
        (callback,) = await found.sync(lambda client: client.callbacks.list(source_session_id="call-1"))
    assert (report["analysis_status"], report["analysis_provider"]) == ("completed", "embedded")
    assert (report["outcome"], report["customer_name"]) == ("callback_scheduled", "Maya")
    assert report["general_success"] is True
    assert [line["provider"] for line in report["unpriced"]] == ["sip"]
    assert read.custom_data == {"urgent": None, "topic": None}
    assert (callback.status, callback.scheduled_at) == ("scheduled", "2026-03-03T14:00:00.000000Z")


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIStandIn]:
    async with OpenAIStandIn(delay_ms=0) as running:
        running.form = lambda _schema: FORM
        monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
        yield running


@both
async def test_finalize_forces_another_analysis(tmp_path: Path, kind: str, model: OpenAIStandIn) -> None:
    """The answer says that one is under way; afterwards the report is what the model says now."""
    async with served(tmp_path, kind, analysis="agent") as found:
        await _record(found, spoken_call().facts)
        assert (await _analysed(found))["summary"] == FORM["summary"]
        model.form = lambda _schema: FORM | {"summary": "Read once more."}
        result = await found.sync(lambda client: client.calls.finalize_report("call-1", {"force_analysis": True}))
        assert (result.session_id, result.cost_micro_usd) == ("call-1", "0")
        for _ in range(200):
            report = (await found.http.get("/v1/calls/call-1/report")).json()
            if report["summary"] == "Read once more.":
                break
            await asyncio.sleep(0.05)
        assert report["summary"] == "Read once more."
        plain = (await found.http.post("/v1/calls/call-1/report/finalize", json={})).json()
    assert (plain["summary"], plain["analysis_status"]) == ("Read once more.", "completed")
    assert plain["analysis_pending"] is False
    assert plain["webhook"] == {
        "status": "not_configured",
        "attempts": 0,
        "next_retry_at": None,
        "delivered_at": None,
        "error": None,
    }


@both
async def test_finalize_makes_the_report_of_a_call_that_goes_on(tmp_path: Path, kind: str) -> None:
    """What is known so far, by sync and async client; at the end the report is made of everything."""
    story = whole_call()
    async with served(tmp_path, kind) as found:
        await _record(found, story.facts[:8])
        assert (await found.http.get("/v1/calls/call-1/report")).status_code == 404
        first = await found.sync(lambda client: client.calls.finalize_report("call-1"))
        second = await found.later(lambda client: client.calls.finalize_report("call-1", {}))
        assert first == second
        assert first.outcome == "unknown"
        before = await found.sync(lambda client: client.calls.report("call-1"))
        assert len(before.transcript.entries) == 2
        await _record(found, story.facts)
        after = await found.sync(lambda client: client.calls.report("call-1"))
    assert (after.outcome, len(after.transcript.entries)) == ("message_taken", 3)


@both
async def test_finalize_sends_the_report_again(tmp_path: Path, kind: str) -> None:
    """A delivery that failed is to be sent once more; an endpoint of after the call is told as well."""
    async with served(tmp_path, kind) as found:
        await _record(found, whole_call().facts)
        database = Database(found.settings.database)
        now = utc_now()
        row = {
            "id": "whe_late",
            "organization_id": found.settings.organization_id,
            "name": "crm",
            "url": "https://127.0.0.1:1/hook",
            "events": ["call.report"],
            "created_at": now,
            "updated_at": now,
        }
        async with database.write() as connection:
            await connection.execute(webhook_endpoints.insert().values(row))
        await database.aclose()
        nothing = await found.sync(lambda client: client.calls.finalize_report("call-1"))
        assert nothing.webhook_deliveries == []
        result = await found.sync(lambda client: client.calls.finalize_report("call-1", {"retry_webhook": True}))
        assert [delivery.endpoint_id for delivery in result.webhook_deliveries] == ["whe_late"]
        again = await found.sync(lambda client: client.calls.finalize_report("call-1", {"retry_webhook": True}))
    assert [d.delivery_id for d in again.webhook_deliveries] == [d.delivery_id for d in result.webhook_deliveries]


async def test_analysis_that_is_off_cannot_be_forced(tmp_path: Path) -> None:
    """The operator's word stands; the answer names it."""
    async with served(tmp_path) as found:
        await _record(found, whole_call().facts)
        answer = await found.http.post("/v1/calls/call-1/report/finalize", json={"forceAnalysis": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "ANALYSIS_OFF")
    assert "AGENT_WORKER_ANALYSIS" in answer.json()["error"]


async def test_who_may_not_see_a_call_sees_no_report(tmp_path: Path) -> None:
    """Unknown, another agent's, too little scope: nothing is told and nothing is changed."""
    async with served(tmp_path) as found:
        await _record(found, whole_call().facts)
        with pytest.raises(SpekoApiError) as error:
            await found.sync(lambda client: client.calls.report("unknown"))
        assert error.value.code == "NOT_FOUND"
        async with await found.with_key(agent_ids=["somebody-else"]) as other:
            assert (await other.get("/v1/calls/call-1/report")).status_code == 404
            assert (await other.post("/v1/calls/call-1/report/finalize")).status_code == 404
        async with await found.with_key(scope="read") as reader:
            assert (await reader.get("/v1/calls/call-1/report")).status_code == 200
            assert (await reader.post("/v1/calls/call-1/report/finalize")).status_code == 403
        wrong = await found.http.post("/v1/calls/call-1/report/finalize", json={"forceAnalysis": "perhaps"})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "VALIDATION_ERROR")
