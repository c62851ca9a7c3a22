"""The embedded control plane: who takes a call, the outbox, and what a database that is away does not cost."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.sweeper import ExpiredLease, closing_facts
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, Direction, DisconnectionReason, utc_now
from agent_worker.domain.fact import CallAnswered
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import queries, tables
from agent_worker.store.call_lists import Filters, page
from agent_worker.store.engine import Database
from agent_worker.store.reports import call_report
from tests.call_facts import CallStory, whole_call
from tests.integration.test_store import control_on, databases

OFFER = CallOffer(call_id="call-1", direction=Direction.INBOUND, room_name="room-1", dialed_number="+12015550199")


async def _add_endpoint(control: EmbeddedControlPlane, **fields: Any) -> None:
    row = {
        "id": "wh_1",
        "organization_id": "org_local",
        "name": "CRM",
        "url": "https://crm.example/hook",
        "events": ["call.report", "call.status", "call.answered"],
        "all_agents": True,
        "agent_ids": [],
        "filter_tags": {},
        "headers": {},
        "auth_headers": [],
        "extraction_fields": [],
        "created_at": utc_now(),
        "updated_at": utc_now(),
        **fields,
    }
    async with control.reading():
        pass  # makes the tables
    database = Database(control._settings.database)
    async with database.write() as connection:
        await connection.execute(insert(tables.webhook_endpoints), [row])
    await database.aclose()


async def _deliveries(control: EmbeddedControlPlane) -> list[dict[str, Any]]:
    table = tables.deliveries
    async with control.reading() as connection:
        query = select(table).order_by(table.c.event, table.c.event_id, table.c.endpoint_id)
        return [dict(row) for row in (await connection.execute(query)).mappings()]


async def test_a_call_is_opened_with_the_database_out_of_reach(tmp_path: Path) -> None:
    """Answering needs agents and nothing else: no file of a database is made or asked for."""
    (tmp_path / "file").write_text("in the way")
    agent = AgentConfig(name="front-desk", system_prompt="You help.", numbers=["+12015550199"])
    settings = Settings(data_dir=tmp_path / "file" / "no-folder")
    control = EmbeddedControlPlane(settings, AgentCatalog.of([agent]))
    plan = await control.open_call(OFFER, budget_seconds=4)
    assert isinstance(plan, CallPlan)
    assert plan.agent_id == "front-desk"
    refusal = await control.open_call(OFFER.model_copy(update={"dialed_number": "+12015550100"}), budget_seconds=4)
    assert isinstance(refusal, CallRefusal)
    assert refusal.reason is DisconnectionReason.UNKNOWN_NUMBER
    await control.aclose()


async def test_agents_are_read_from_the_settings_folders(tmp_path: Path) -> None:
    """Without a catalog the files of the settings' folders are used; a mistake in them is said."""
    agents = tmp_path / "agents"
    agents.mkdir()
    file = agents / "desk.yaml"
    file.write_text('name: desk\nsystemPrompt: You help.\nnumbers: ["+12015550199"]\n')
    settings = Settings(data_dir=tmp_path, agents_dir=agents, prompts_dir=tmp_path)
    plan = await EmbeddedControlPlane(settings).open_call(OFFER, budget_seconds=4)
    assert isinstance(plan, CallPlan)
    file.write_text("nmae: desk\n")
    with pytest.raises(ControlPlaneError, match=r"desk\.yaml") as error:
        await EmbeddedControlPlane(settings).open_call(OFFER, budget_seconds=4)
    assert not error.value.retryable


def test_a_job_process_loads_no_database_code(root: Path) -> None:
    """Opening a call leaves SQLAlchemy and Alembic out of the process's memory."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_worker.settings import Settings\n"
        "from agent_worker.config.catalog import AgentCatalog\n"
        "from agent_worker.control.embedded import EmbeddedControlPlane\n"
        "from agent_worker.domain.call import CallOffer\n"
        "offer = CallOffer(call_id='c', direction='inbound', room_name='r')\n"
        "control = EmbeddedControlPlane(Settings(), AgentCatalog.of([]))\n"
        "print(type(asyncio.run(control.open_call(offer, budget_seconds=4))).__name__)\n"
        "print(sorted(name for name in ('sqlalchemy', 'alembic', 'aiosqlite') if name in sys.modules))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines() == ["CallRefusal", "[]"]


@databases
async def test_the_end_of_a_call_writes_its_deliveries_once(kind: str, tmp_path: Path) -> None:
    """Row, report and outbox come together; finishing again, and again recording all, adds nothing."""
    async with control_on(kind, tmp_path) as control:
        await _add_endpoint(control)
        await _add_endpoint(control, id="wh_2", all_agents=False, agent_ids=["sales"])
        await _add_endpoint(control, id="wh_3", content_mode="metadata_only", events=["call.report"])
        await _add_endpoint(control, id="wh_4", deleted_at=utc_now())
        story = whole_call()
        await control.record(story.facts[:-1])
        assert "call.report" not in {row["event"] for row in await _deliveries(control)}
        ended = story.facts[-1]
        assert ended.kind == "call_ended"
        await control.finish_call(ended)
        first = await _deliveries(control)
        await control.finish_call(ended)
        await control.record(story.facts)
        assert await _deliveries(control) == first
        async with control.reading() as connection:
            report = await call_report(connection, "call-1")
    told = [(row["event"], row["endpoint_id"], row["durable"]) for row in first]
    assert sorted(told) == [
        ("call.answered", "wh_1", False),
        ("call.report", "wh_1", True),
        ("call.report", "wh_3", True),
        ("call.status", "wh_1", False),
        ("call.status", "wh_1", False),
        ("call.status", "wh_1", False),
    ]
    assert all(row["status"] == "pending" and row["next_attempt_at"] for row in first)
    full, short = (
        next(row["payload"] for row in first if row["event"] == "call.report" and row["endpoint_id"] == endpoint)
        for endpoint in ("wh_1", "wh_3")
    )
    assert (full["type"], full["outcome"], full["metadata"]["from"]) == (
        "call.report",
        "message_taken",
        "+12015550101",
    )
    assert len(full["transcript"]["entries"]) == 3
    assert "transcript" not in short
    assert report is not None
    assert {row["endpointId"] for row in report["webhook_deliveries"]} == {"wh_1", "wh_3"}


@databases
async def test_an_unsent_delivery_carries_the_report_as_it_is_now(kind: str, tmp_path: Path) -> None:
    """A late transcript line reaches a delivery nobody was sent; one that was attempted stays byte for byte."""
    async with control_on(kind, tmp_path) as control:
        await _add_endpoint(control, events=["call.report"])
        await _add_endpoint(control, id="wh_2", events=["call.report"])
        story = CallStory()
        story.opened()
        story.add(CallAnswered)
        await control.record([*story.facts, story.ended()])
        database = Database(control._settings.database)
        async with database.write() as connection:
            sent = tables.deliveries.update().where(tables.deliveries.c.endpoint_id == "wh_2")
            await connection.execute(sent.values(attempt_count=1))
        await database.aclose()
        await control.record([story.said(0, "user", "Hello?")])
        rows = {row["endpoint_id"]: row["payload"] for row in await _deliveries(control)}
    assert [len(rows[name]["transcript"]["entries"]) for name in ("wh_1", "wh_2")] == [1, 0]


@databases
async def test_a_call_given_up_too_early_is_told_again_as_it_really_ended(kind: str, tmp_path: Path) -> None:
    """The sweeper's verdict gives way to the call's journal, and endpoints get the corrected report."""
    async with control_on(kind, tmp_path) as control:
        await _add_endpoint(control, events=["call.report"])
        story = CallStory()
        opened = story.opened()
        await control.record([opened])
        await control.record(closing_facts(ExpiredLease("call-1", "room", opened.at)))
        story.said(0, "user", "Hello?")
        ended = story.ended()
        await control.record(story.facts)
        await control.finish_call(ended)
        outcomes = [row["payload"]["outcome"] for row in await _deliveries(control)]
        async with control.reading() as connection:
            detail = await queries.call_detail(connection, "call-1")
    assert sorted(outcomes) == ["completed", "failed"]
    assert detail is not None
    assert (detail["status"], detail["report"]["outcome"]) == ("ended", "completed")


async def test_prices_reach_the_report_and_a_broken_table_costs_no_report(tmp_path: Path) -> None:
    """The bill follows the operator's table; one that cannot be read leaves everything marked unpriced."""
    prices = tmp_path / "prices.yaml"
    prices.write_text('deepgram: {"*": {stt_seconds: 100}}\nsip: {inbound: {telephony_seconds: 10}}\n')
    reports = []
    for name in ("good", "broken"):
        (tmp_path / name).mkdir()
        async with control_on("sqlite", tmp_path / name, prices_file=prices) as control:
            await control.record(whole_call().facts)
            async with control.reading() as connection:
                reports.append(await call_report(connection, "call-1"))
        prices.write_text("deepgram: [\n")
    good, broken = reports
    assert good is not None
    assert broken is not None
    assert good["cost_micro_usd"] == "1050"
    assert [line["provider"] for line in good["metadata"]["unpriced"]] == ["cartesia"]
    assert broken["cost_micro_usd"] == "0"
    assert len(broken["metadata"]["unpriced"]) == 3


async def test_a_locked_database_is_tried_again_and_then_takes_the_facts(tmp_path: Path) -> None:
    """While somebody holds the file the error is retryable; afterwards the same facts apply."""
    async with control_on("sqlite", tmp_path) as control:
        story = whole_call()
        await control.record(story.facts[:3])
        holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ControlPlaneError, match="locked") as error:
            await control.record(story.facts)
        assert error.value.retryable
        holder.execute("COMMIT")
        holder.close()
        await control.record(story.facts)
        async with control.reading() as connection:
            detail = await queries.call_detail(connection, "call-1")
    assert detail is not None
    assert detail["status"] == "ended"


async def test_the_event_loop_turns_while_the_database_is_locked(tmp_path: Path) -> None:
    """Waiting for a locked file blocks the task that waits, not the process."""
    async with control_on("sqlite", tmp_path) as control:
        await control.record([CallStory().opened()])
        holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        waiting = asyncio.create_task(control.record(whole_call().facts))
        turns = 0
        while turns < 50:
            await asyncio.sleep(0.001)
            turns += 1
        assert not waiting.done()
        holder.execute("COMMIT")
        holder.close()
        await waiting


PROGRAM = """
import asyncio, sys
from pathlib import Path
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.settings import Settings
from agent_worker.errors import ControlPlaneError
from tests.call_facts import whole_call

async def main(folder, first, count):
    control = EmbeddedControlPlane(Settings(data_dir=Path(folder)))
    for number in range(first, first + count):
        facts = whole_call(f"call-{number}").facts
        for batch in (facts[:5], facts[5:-1]):
            await retried(lambda: control.record(batch))
        await retried(lambda: control.finish_call(facts[-1]))
    await control.aclose()

async def retried(verb):
    while True:
        try:
            return await verb()
        except ControlPlaneError as error:
            if not error.retryable:
                raise

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def _run_at_once(folder: Path, root: Path, processes: int, calls: int) -> list[str]:
    """Let each process finish so many calls; returns what they wrote to stderr."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), str(first), str(calls)],
            cwd=root,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in range(0, processes * calls, calls)
    ]
    return [process.communicate(timeout=300)[1] for process in running]


async def test_twenty_processes_finish_calls_in_one_file(tmp_path: Path, root: Path) -> None:
    """Twenty processes write one SQLite file at once, from before it exists: every call and line is there."""
    started = time.monotonic()
    problems = await asyncio.to_thread(_run_at_once, tmp_path, root, 20, 2)
    print(f"20 processes, 40 calls: {time.monotonic() - started:.1f} s")  # noqa: T201 - for whoever asks with -s
    assert "".join(problems) == ""
    control = EmbeddedControlPlane(Settings(data_dir=tmp_path))
    async with control.reading() as connection:
        listed = await page(connection, Filters("org_local"), 100)
        details = [await queries.call_detail(connection, call["id"]) for call in listed]
        events = [len(await queries.call_events(connection, call["id"])) for call in listed]
    await control.aclose()
    assert {detail["id"] for detail in details if detail} == {f"call-{number}" for number in range(40)}
    assert {detail["status"] for detail in details if detail} == {"ended"}
    assert {len(detail["transcript"]["entries"]) for detail in details if detail} == {3}
    assert {detail["report"]["outcome"] for detail in details if detail} == {"message_taken"}
    assert set(events) == {3}
    assert len({detail["created_at"] for detail in details if detail}) == 40
