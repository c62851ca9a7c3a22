"""Purging: after it no row says what anybody said or who they were, whatever arrives later; and by age."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.purge import purge_call
from agent_worker.control.retention import AT_ONCE, Retention
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered, DataCollected, EventOccurred, RecordingChanged, TransferChanged
from agent_worker.domain.transfer import TransferKind, TransferStatus
from agent_worker.settings import Settings
from agent_worker.store import tables
from agent_worker.store.upsert import storable
from tests.call_facts import START, CallStory, whole_call
from tests.databases import fresh_database
from tests.integration.api_client import served

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
SECRET = "Rumpelstiltskin"
NUMBER = "+4915112345678"
OWN = "+12015550199"
NOW = START + timedelta(days=40)


@asynccontextmanager
async def control_on(kind: str, folder: Path, **options: Any) -> AsyncIterator[EmbeddedControlPlane]:
    with fresh_database(kind, folder) as url:
        control = EmbeddedControlPlane(Settings(data_dir=folder, database_url=url, analysis="off", **options))
        try:
            yield control
        finally:
            await control.aclose()


def telling_call(call_id: str = "call-1") -> CallStory:
    """A call that says the secret and the number wherever a call can."""
    story = CallStory(call_id)
    story.opened(
        caller_number=NUMBER,
        dialed_number=OWN,
        room_name=f"call-_{NUMBER}",
        pipeline_config={"systemPrompt": f"You speak with {SECRET}."},
        metadata={"customer": SECRET, "campaignId": "spring"},
    )
    story.add(EventOccurred, event_type="call.initiated", payload={"from": NUMBER})
    story.add(CallAnswered)
    story.said(0, "user", f"I am {SECRET}.", metadata={"heard": SECRET})
    story.add(DataCollected, structured_data={"name": SECRET})
    story.add(RecordingChanged, status="ready", path=f"/elsewhere/{call_id}.ogg", duration_ms=9_000, detail=SECRET)
    story.add(
        TransferChanged,
        transfer_id=f"tr_of_{call_id}",
        transfer_kind=TransferKind.WARM,
        status=TransferStatus.COMPLETED,
        transfer_to=NUMBER,
        summary=SECRET,
        metadata={"consultation": [{"source": "user", "text": SECRET}]},
        created_at=START,
    )
    story.add(
        TransferChanged,
        transfer_id=f"tr_cancelled_of_{call_id}",
        transfer_kind=TransferKind.WARM,
        status=TransferStatus.CANCELLED,
        transfer_to=NUMBER,
        screening_prompt=f"Ask for {SECRET}.",
        failure_cause=f"{SECRET} is away",
        created_at=START,
    )
    story.add(EventOccurred, event_type="transfer.cancelled", failure_cause=f"{SECRET} is away")
    story.add(EventOccurred, event_type="call.hangup", payload={"said": SECRET})
    story.ended(structured_data={"message": {"name": SECRET, "number": NUMBER}})
    return story


async def surround(control: EmbeddedControlPlane, call_id: str) -> None:
    """Write the rows about a call that facts do not make: a transfer, an analysis, a delivery, a callback, a note."""
    common = {"organization_id": "org_local", "created_at": START, "updated_at": START}
    rows: list[tuple[Any, dict[str, Any]]] = [
        (
            tables.transfers,
            common
            | {"id": f"tr-{call_id}", "call_id": call_id, "kind": "warm", "status": "completed", "transfer_to": NUMBER}
            | {"caller_participant_identity": f"sip_{NUMBER}", "summary": SECRET, "metadata": {"label": SECRET}},
        ),
        (
            tables.deliveries,
            {"id": f"dlv-{call_id}", "event_id": "evt", "endpoint_id": "whe", "organization_id": "org_local"}
            | {"event": "call.report", "call_id": call_id, "status": "pending", "attempt_count": 1, "durable": True}
            | {"payload": {"said": SECRET}, "webhook_tags": {"who": SECRET}, "occurred_at": START}
            | {"next_attempt_at": START, "expires_at": START, "created_at": START},
        ),
        (
            tables.attempts,
            {"id": f"att-{call_id}", "delivery_id": f"dlv-{call_id}", "attempt_number": 1, "trigger": "automatic"}
            | {"request_url": "https://example.com", "request_headers": {"x": SECRET}, "created_at": START}
            | {"response_body": SECRET},
        ),
        (
            tables.callbacks,
            common
            | {"id": f"cb-{call_id}", "source_session_id": call_id, "to_number": NUMBER, "scheduled_at": NOW}
            | {"status": "scheduled", "reason": SECRET, "metadata": {"who": SECRET}},
        ),
        (
            tables.jobs,
            common
            | {"id": f"analysis:{call_id}", "kind": "analysis", "call_id": call_id, "status": "pending", "due_at": NOW}
            | {"payload": {"about": SECRET}},
        ),
    ]
    async with control.writing() as connection:
        for table, row in rows:
            values = {name: value for name, value in row.items() if name in table.c}
            await connection.execute(table.insert().values(storable(values)))
        note = {"note": SECRET, "employee": "Kim", "done": True}
        await connection.execute(tables.calls.update().where(tables.calls.c.id == call_id).values(note))
        report = {"customer_name": SECRET, "customer_request": SECRET, "score_reason": SECRET, "final_score": 7}
        report |= {"analysis_error": SECRET, "custom_data": {"name": SECRET}, "general_success": True}
        await connection.execute(tables.reports.update().where(tables.reports.c.call_id == call_id).values(report))


async def everything(control: EmbeddedControlPlane) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, the job that erases files apart."""
    found = {}
    async with control.reading() as connection:
        for table in tables.metadata.sorted_tables:
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [dict(row) for row in (await connection.execute(query)).mappings()]
    return found


async def purge(control: EmbeddedControlPlane, call_id: str = "call-1") -> Any:
    async with control.writing() as connection:
        return await purge_call(connection, call_id, NOW)


def words_in(rows: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The tables that still say the secret, the number or its digits."""
    told = {name: json.dumps(found, default=str) for name, found in rows.items()}
    secrets = (SECRET, SECRET.casefold(), NUMBER, NUMBER[1:], NUMBER[:0:-1])
    return [name for name, text in told.items() if any(secret in text for secret in secrets)]


@databases
async def test_nothing_anybody_said_is_left(kind: str, tmp_path: Path) -> None:
    """Not a word, a name or a number is in any row; what a call was and cost, and how well it went, is."""
    async with control_on(kind, tmp_path) as control:
        await control.record(telling_call().facts)
        await surround(control, "call-1")
        before = await everything(control)
        assert set(words_in(before)) >= {"calls", "events", "transcript_entries", "reports", "call_search", "callbacks"}
        assert (await purge(control)).anew
        after = await everything(control)
    assert words_in(after) == []
    [call], [report] = after["calls"], after["reports"]
    assert call["purged_at"] == NOW
    kept = ("status", "created_at", "ended_at", "duration_seconds", "agent_id", "campaign_id", "done", "employee")
    assert {name: call[name] for name in kept} == {name: before["calls"][0][name] for name in kept}
    kept = ("outcome", "final_score", "general_success", "cost_micro_usd", "cost_breakdown")
    assert {name: report[name] for name in kept} == {name: before["reports"][0][name] for name in kept}
    happened = {event["event_type"] for event in after["events"]}
    assert happened == {"call.initiated", "transfer.cancelled", "call.hangup"}
    assert {row["status"] for row in after["transfers"]} == {"completed", "cancelled"}
    assert [(row["status"], row["next_attempt_at"]) for row in after["deliveries"]] == [("cancelled", None)]
    assert [row["status"] for row in after["callbacks"]] == ["cancelled"]
    assert (after["recordings"][0]["status"], after["recordings"][0]["path"]) == ("suppressed", None)
    [job] = after["jobs"]
    assert (job["kind"], job["call_id"], job["payload"]["path"]) == ("erase_recording", None, "/elsewhere/call-1.ogg")


@databases
async def test_what_arrives_later_brings_nothing_back(kind: str, tmp_path: Path) -> None:
    """All facts once more, and new ones: the purged call says nothing, and no report is made of it."""
    async with control_on(kind, tmp_path) as control:
        story = telling_call()
        await control.record(story.facts)
        await purge(control)
        before = await everything(control)
        late = story.add(EventOccurred, event_type="call.late", payload={"said": SECRET})
        story.add(EventOccurred, event_type="transfer.cancelled", failure_cause=f"{SECRET} left")
        story.said(1, "user", f"{SECRET}, I said.")
        story.add(DataCollected, structured_data={"name": SECRET})
        for fact in story.facts:
            await control.record([fact])
        after = await everything(control)
    assert words_in(after) == []
    assert after["reports"] == before["reports"]
    assert after["transcript_entries"] == []
    assert {row["id"]: row["payload"] for row in after["events"]}[late.id] == {}
    call, known = after["calls"][0], before["calls"][0]
    assert {name: value for name, value in call.items() if value != known[name]}.keys() <= {"revision", "updated_at"}


@databases
async def test_a_recording_that_arrives_later_is_erased(kind: str, tmp_path: Path) -> None:
    """A file that is reported only after its call was purged is deleted, not kept."""
    async with control_on(kind, tmp_path) as control:
        story = whole_call()
        recordings = [fact for fact in story.facts if isinstance(fact, RecordingChanged)]
        await control.record([fact for fact in story.facts if fact not in recordings])
        await purge(control)
        file = tmp_path / "recordings" / "call-1.ogg"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"voices")
        late = recordings[-1].model_copy(update={"path": str(file)})
        await control.record([late])
        jobs = (await everything(control))["jobs"]
    assert [(job["kind"], job["payload"]["path"]) for job in jobs] == [("erase_recording", str(file))]


@databases
async def test_purging_again_changes_nothing(kind: str, tmp_path: Path) -> None:
    """A second purge leaves the time of the first."""
    async with control_on(kind, tmp_path) as control:
        await control.record(telling_call().facts)
        first = await purge(control)
        before = await everything(control)
        async with control.writing() as connection:
            second = await purge_call(connection, "call-1", NOW + timedelta(days=1))
        after = await everything(control)
    assert (first.anew, second.anew, second.at) == (True, False, NOW)
    for rows in (before, after):
        for name, moving in (("calls", "revision"), ("recordings", "updated_at"), ("callbacks", "updated_at")):
            rows[name] = [{**row, moving: None} for row in rows[name]]
    assert after == before


async def test_purging_over_http(tmp_path: Path) -> None:
    """A live call is refused; a deleted one can be purged; reads of a purged call say so."""
    async with served(tmp_path, "sqlite", {"name": "front-desk", "systemPrompt": "x"}, analysis="off") as server:
        control = EmbeddedControlPlane(server.settings)
        live = CallStory("live")
        live.opened()
        await control.record([*telling_call().facts, *live.facts])
        await control.aclose()
        refused = await server.http.post("/v1/calls/live/purge")
        await server.http.delete("/v1/calls/call-1")
        answers = [(await server.http.post("/v1/calls/call-1/purge")).json() for _ in range(2)]
        listed = (await server.http.get("/v1/calls?include_deleted=true&status=ended")).json()["calls"]
        by_name = (await server.http.get(f"/v1/calls?include_deleted=true&search={SECRET}")).json()["calls"]
    assert (refused.status_code, refused.json()["code"]) == (409, "CALL_LIVE")
    assert answers[0] == answers[1]
    assert answers[0]["is_purged"] is True
    [call] = listed
    assert (call["id"], call["is_purged"], call["from"], call["to"], call["recording_status"]) == (
        *("call-1", True, None, None),
        "suppressed",
    )
    assert by_name == []


@databases
async def test_what_is_too_old_goes_by_itself(kind: str, tmp_path: Path) -> None:
    """Calls past their days are purged and recordings past theirs erased, a few at a time; the rest stays."""
    options = {"retention_days": 30, "recording_retention_days": 10}
    async with control_on(kind, tmp_path, **options) as control:
        old = [whole_call(f"old-{index}", start=START + timedelta(minutes=index)) for index in range(AT_ONCE + 2)]
        recent = whole_call("recent", start=NOW - timedelta(days=20))
        young = whole_call("young", start=NOW - timedelta(days=2))
        forgotten = CallStory("forgotten", start=START - timedelta(days=1))  # nobody has ended it
        forgotten.opened()
        for story in (*old, recent, young, forgotten):
            await control.record(story.facts)
        await age_recordings(control)
        retention = Retention(control, Settings(**options))
        touched = []
        while not touched or touched[-1]:
            touched.append(await retention.sweep(NOW))
        rows = await everything(control)
    assert touched[-1] == 0
    assert len(touched) > 2
    purged = {row["id"] for row in rows["calls"] if row["purged_at"]}
    assert purged == {story.call_id for story in old}
    kept = {row["call_id"] for row in rows["recordings"] if row["status"] == "ready"}
    assert kept == {"young"}
    assert {row["call_id"] for row in rows["transcript_entries"]} == {"recent", "young"}


async def age_recordings(control: EmbeddedControlPlane) -> None:
    """Have each recording be as old as its call."""
    async with control.writing() as connection:
        rows = (await connection.execute(select(tables.calls.c.id, tables.calls.c.ended_at))).all()
        for call_id, ended_at in rows:
            mine = tables.recordings.c.call_id == call_id
            values = {"updated_at": ended_at or utc_now(), "status": "ready", "path": f"/elsewhere/{call_id}.ogg"}
            await connection.execute(tables.recordings.update().where(mine).values(values))


async def test_two_processes_do_not_purge_the_same(tmp_path: Path) -> None:
    """What one has taken the other leaves: together they touch each call once."""
    async with control_on("postgresql", tmp_path, retention_days=30) as control:
        for index in range(AT_ONCE + 5):
            await control.record(whole_call(f"call-{index}", start=START + timedelta(minutes=index)).facts)
        first, second = (Retention(control, Settings(retention_days=30)) for _ in range(2))

        together = await asyncio.gather(first.sweep(NOW), second.sweep(NOW))
        rest = await first.sweep(NOW)
    assert sum(together) + rest == AT_ONCE + 5


async def test_without_days_everything_is_kept(tmp_path: Path) -> None:
    """Nothing is done away with unless an operator says so."""
    async with control_on("sqlite", tmp_path) as control:
        await control.record(whole_call().facts)
        assert await Retention(control, Settings()).sweep(NOW) == 0
