"""The store on real databases: each fact once, in whatever order; pages, shapes and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered, EventOccurred, Fact, UsageCounted, UsageLine
from agent_worker.errors import ControlPlaneError, SettingsError
from agent_worker.settings import Settings
from agent_worker.store import queries, tables
from agent_worker.store.call_lists import Filters, page
from agent_worker.store.engine import Database
from agent_worker.store.reports import call_report
from tests.call_facts import START, CallStory, whole_call
from tests.databases import fresh_database

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


@asynccontextmanager
async def control_on(kind: str, folder: Path, **options: Any) -> AsyncIterator[EmbeddedControlPlane]:
    with fresh_database(kind, folder) as url:
        control = EmbeddedControlPlane(Settings(data_dir=folder, database_url=url, **options))
        try:
            yield control
        finally:
            await control.aclose()


def of_the_calls(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return rows without what is about their delivery: when and in how many steps they came, what is yet to be done."""
    told = {name: found for name, found in rows.items() if name != "jobs"}
    for name, column in (("events", "created_at"), ("calls", "revision")):
        told[name] = [{**row, column: None} for row in told[name]]
    return told


async def rows_of(control: EmbeddedControlPlane) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without the one column that says when a fact arrived."""
    found = {}
    async with control.reading() as connection:
        for table in tables.metadata.sorted_tables:
            query = select(*[column for column in table.c if column.name != "lease_until"]).order_by(
                *table.primary_key.columns
            )
            found[table.name] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return found


@databases
async def test_a_whole_call_reads_back_in_the_contracts_shape(kind: str, tmp_path: Path) -> None:
    """What a journal says is what the API's shapes show."""
    async with control_on(kind, tmp_path) as control:
        story = whole_call()
        await control.record(story.facts)
        async with control.reading() as connection:
            detail = await queries.call_detail(connection, "call-1")
            events = await queries.call_events(connection, "call-1")
            recording = await queries.call_recording(connection, "call-1")
            missing = await queries.call_detail(connection, "nobody")
    assert detail is not None
    assert missing is None
    assert (detail["status"], detail["duration_seconds"], detail["kind"]) == ("ended", 10, "cascade")
    assert detail["created_at"] == "2026-03-02T09:30:00.000000Z"
    assert detail["metadata"] == {
        "customerId": "c1",
        "direction": "inbound",
        "from": "+12015550101",
        "to": "+12015550199",
        "disconnection_reason": "user_hangup",
    }
    assert [entry["text"] for entry in detail["transcript"]["entries"]] == [
        "Good morning.",
        "Hello, it's Maya.",
        "Hi Maya.",
    ]
    assert detail["transcript"]["entries"][1]["eou_ms"] == 310.0
    assert [event["event_type"] for event in events] == ["call.initiated", "call.answered", "call.hangup"]
    assert (detail["recording_status"], detail["recording_duration_ms"]) == ("ready", 9000)
    assert recording is not None
    assert recording["path"] == "recording.ogg"
    report = detail["report"]
    assert (report["outcome"], report["analysis_status"]) == ("message_taken", "heuristic")
    assert report["structured_data"] == {"message": {"name": "Maya"}}
    assert [line["quantity"] for line in report["cost_breakdown"]] == [9.5, 40.0, 10.0]
    assert {line["provider"] for line in report["metadata"]["unpriced"]} == {"deepgram", "cartesia", "sip"}


async def test_the_official_client_reads_our_calls(tmp_path: Path) -> None:
    """Detail, events and report pass the models of the client the contract comes from."""
    models = pytest.importorskip("spekoai.models", reason="the official client is not installed")
    async with control_on("sqlite", tmp_path) as control:
        await control.record(whole_call().facts)
        async with control.reading() as connection:
            detail = await queries.call_detail(connection, "call-1")
            events = await queries.call_events(connection, "call-1")
            report = await call_report(connection, "call-1")
    assert models.CallDetail.model_validate(detail).report.outcome == "message_taken"
    assert [models.CallEvent.model_validate(event).session_id for event in events] == ["call-1"] * 3
    assert models.CallReport.model_validate(report).cost_micro_usd == "0"


def _deliveries(facts: Sequence[Fact]) -> st.SearchStrategy[list[list[Fact]]]:
    """Every way to deliver these facts: in any order, some more than once, in batches of any size."""
    extra = st.lists(st.sampled_from(list(facts)), max_size=8)
    shuffled = extra.flatmap(lambda more: st.permutations([*facts, *more]))
    sizes = st.lists(st.integers(1, 6), min_size=1, max_size=30)

    def cut(order: list[Fact], lengths: list[int]) -> list[list[Fact]]:
        batches, at = [], 0
        for length in [*lengths, len(order)]:
            if order[at : at + length]:
                batches.append(order[at : at + length])
            at += length
        return batches

    return st.builds(cut, shuffled, sizes)


# a failing example is not shrunk: each try is a database of its own, and shrinking takes minutes
@effort(
    max_examples=30,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_order_and_repetition_change_nothing(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Facts of two calls, delivered in any order, in any batches and more than once, leave the same rows."""
    second = whole_call("call-2", start=START + timedelta(hours=1))
    facts = [*whole_call().facts, *second.facts]
    batches = data.draw(_deliveries(facts))

    async def rows(deliveries: list[list[Fact]]) -> dict[str, list[dict[str, Any]]]:
        async with control_on("sqlite", tmp_path_factory.mktemp("db")) as control:
            for batch in deliveries:
                await control.record(batch)
            return of_the_calls(await rows_of(control))

    assert asyncio.run(rows(batches)) == asyncio.run(rows([facts]))


@databases
async def test_a_second_delivery_of_everything_changes_nothing(kind: str, tmp_path: Path) -> None:
    """The whole call again, backwards, one fact at a time: not a row differs."""
    async with control_on(kind, tmp_path) as control:
        facts = whole_call().facts
        await control.record(facts)
        before = await rows_of(control)
        for fact in reversed(facts):
            await control.record([fact])
        assert await rows_of(control) == before


@databases
async def test_a_late_fact_refreshes_the_report(kind: str, tmp_path: Path) -> None:
    """A transcript line and usage that arrive after the end are in the heuristic report."""
    async with control_on(kind, tmp_path) as control:
        story = CallStory()
        story.opened()
        story.add(CallAnswered)
        await control.record([*story.facts, story.ended()])
        async with control.reading() as connection:
            early = await call_report(connection, "call-1")
        late = story.said(0, "user", "Hello?")
        usage = story.add(UsageCounted, lines=[UsageLine(provider="p", metric="tts_characters", quantity=5)])
        await control.record([late, usage])
        async with control.reading() as connection:
            report = await call_report(connection, "call-1")
    assert early is not None
    assert report is not None
    assert (early["outcome"], report["outcome"]) == ("abandoned", "completed")
    assert report["cost_breakdown"][0]["metric"] == "tts_characters"
    assert report["created_at"] == early["created_at"]


@databases
async def test_an_analysed_report_is_left_alone(kind: str, tmp_path: Path) -> None:
    """Once an analysis has rewritten the report, late facts still apply, and its text stays."""
    async with control_on(kind, tmp_path) as control:
        story = CallStory()
        story.opened()
        await control.record([*story.facts, story.ended()])
        with_url = control._settings.database
        database = Database(with_url)
        async with database.write() as connection:
            await connection.execute(tables.reports.update().values(analysis_status="completed", summary="Analysed."))
        await database.aclose()
        await control.record([story.said(0, "user", "Hello?")])
        async with control.reading() as connection:
            report = await call_report(connection, "call-1")
    assert report is not None
    assert report["summary"] == "Analysed."
    assert len(report["transcript"]["entries"]) == 1


@databases
async def test_calls_of_one_microsecond_are_told_apart_and_paged_without_loss(kind: str, tmp_path: Path) -> None:
    """A cursor is a time: calls that open at the same moment get times of their own, and paging misses none."""
    async with control_on(kind, tmp_path) as control:
        for number in range(7):
            await control.record([CallStory(f"call-{number}").opened()])
        seen: list[str] = []
        filters = Filters("org_local")
        async with control.reading() as connection:
            while rows := await page(connection, filters, 3):
                seen += [row["id"] for row in rows]
                filters = replace(filters, before=rows[-1]["created_at"])
            nobodys = await page(connection, Filters("org_local", agent_ids=frozenset({"nobody"})), 3)
            recent = await page(connection, Filters("org_local", since=START + timedelta(microseconds=5)), 3)
    assert sorted(seen) == [f"call-{number}" for number in range(7)]
    assert seen == sorted(seen, reverse=True)
    assert nobodys == []
    assert len(recent) == 2


@databases
async def test_text_no_database_can_hold_costs_no_fact(kind: str, tmp_path: Path) -> None:
    """The character U+0000, in text or in an object, is dropped and the rest is kept."""
    async with control_on(kind, tmp_path) as control:
        story = CallStory()
        story.opened(metadata={"no\x00te": "a\x00b"})
        story.said(0, "user", "a\x00b")
        story.add(EventOccurred, event_type="odd", payload={"list": ["\x00x"]})
        await control.record(story.facts)
        async with control.reading() as connection:
            detail = await queries.call_detail(connection, "call-1")
            events = await queries.call_events(connection, "call-1")
    assert detail is not None
    assert detail["transcript"]["entries"][0]["text"] == "ab"
    assert detail["metadata"]["note"] == "ab"
    assert events[0]["payload"] == {"list": ["x"]}


@databases
async def test_leases_run_out_unless_renewed(kind: str, tmp_path: Path) -> None:
    """A live call is found once its lease is over, not after it was renewed, and not once it ended."""
    async with control_on(kind, tmp_path, lease_seconds=5) as control:
        stories = [CallStory(f"call-{number}", start=START + timedelta(hours=number)) for number in range(3)]
        for story in stories:
            await control.record([story.opened()])
        await control.finish_call(stories[2].ended())
        later = utc_now() + timedelta(seconds=60)
        await control.renew_leases(["call-1", "call-2", "unknown"], worker_id="w2", until=later)
        soon = await control.expired_leases(utc_now() + timedelta(seconds=10))
        assert [(lease.call_id, lease.room_name) for lease in soon] == [("call-0", "room-call-0")]
        assert await control.expired_leases(utc_now()) == []
        assert len(await control.expired_leases(later + timedelta(seconds=1))) == 2


@databases
async def test_writers_of_one_call_at_once_lose_nothing(kind: str, tmp_path: Path) -> None:
    """Parts of a call that arrive over several connections at the same time are all there."""
    async with control_on(kind, tmp_path) as control:
        facts = whole_call().facts
        await asyncio.gather(*(control.record(facts[part::4]) for part in range(4)))
        together = await rows_of(control)
        for fact in facts:
            await control.record([fact])
        assert await rows_of(control) == together
    assert len(together["transcript_entries"]) == 3
    assert together["calls"][0]["status"] == "ended"


@databases
async def test_a_value_no_column_can_hold_is_refused_for_good(kind: str, tmp_path: Path) -> None:
    """Sending it again cannot help, and the error says so; nothing of the batch was applied."""
    async with control_on(kind, tmp_path) as control:
        story = CallStory()
        story.opened()
        story.add(EventOccurred, event_type="odd", sip_status_code=2**80)
        with pytest.raises(ControlPlaneError) as error:
            await control.record(story.facts)
        assert not error.value.retryable
        async with control.reading() as connection:
            assert await queries.call_detail(connection, "call-1") is None


@pytest.mark.parametrize("url", ["no url", "mysql://host/db"])
def test_a_database_we_do_not_speak_is_an_error_of_the_settings(url: str) -> None:
    """The error names the variable and what to write."""
    with pytest.raises(SettingsError, match="AGENT_WORKER_DATABASE_URL"):
        Database(url)
