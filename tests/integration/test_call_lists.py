"""Lists of calls on real databases: whatever is filtered, the calls that pass, newest first, by indexes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from agent_worker.control.call_totals import CallTotals
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store import tables
from agent_worker.store.call_lists import BUSY, COMPLETED, FAILED, IN_PROGRESS, NO_ANSWER, Filters, count, page
from agent_worker.store.call_notes import delete_call, note_call
from agent_worker.store.call_search import count_found
from bench.calls_data import fill
from bench.calls_list import cases, known_of, plans, verdict
from tests.call_facts import START
from tests.databases import fresh_database
from tests.integration.made_calls import AGENTS, CAMPAIGNS, CUSTOMERS, OWN, made_calls, record

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
ALL = Filters("org_local")
RESULTS = {
    ("ended", "user_hangup"): COMPLETED,
    ("failed", "error"): FAILED,
    ("failed", "dial_no_answer"): NO_ANSWER,
    ("failed", "dial_busy"): BUSY,
}


@asynccontextmanager
async def control_on(kind: str, folder: Path) -> AsyncIterator[EmbeddedControlPlane]:
    with fresh_database(kind, folder) as url:
        control = EmbeddedControlPlane(Settings(data_dir=folder, database_url=url, analysis="off"))
        try:
            yield control
        finally:
            await control.aclose()


async def ids(control: EmbeddedControlPlane, filters: Filters, limit: int = 200, offset: int = 0) -> list[str]:
    async with control.reading() as connection:
        return [row["id"] for row in await page(connection, filters, limit, offset)]


def passes(row: dict[str, Any], filters: Filters) -> bool:
    """The filters once more, the simple way."""
    numbers = (row["caller_number"], row["dialed_number"])
    result = RESULTS.get((row["status"], row["disconnection_reason"]), IN_PROGRESS)
    return all(
        (
            filters.include_deleted or row["deleted_at"] is None,
            filters.agent_ids is None or row["agent_id"] in filters.agent_ids,
            filters.campaign_ids is None or row["campaign_id"] in filters.campaign_ids,
            filters.number is None or filters.number in numbers,
            filters.results is None or result in filters.results,
            filters.statuses is None or row["status"] in filters.statuses,
            filters.outbound is None or (row["direction"] == "outbound") is filters.outbound,
            filters.done is None or row["done"] is filters.done,
            filters.since is None or row["created_at"] >= filters.since,
            filters.until is None or row["created_at"] < filters.until,
            filters.before is None or row["created_at"] < filters.before,
        )
    )


def some_filters(chance: random.Random) -> Filters:
    """Any combination: each filter is there every second time."""

    def maybe(value: Any) -> Any:
        return value if chance.random() < 0.4 else None

    times = [START + timedelta(minutes=chance.randrange(80)) for _ in range(3)]
    return Filters(
        "org_local",
        agent_ids=maybe(frozenset(chance.sample(AGENTS, chance.randrange(4)))),
        campaign_ids=maybe(frozenset(chance.sample(CAMPAIGNS[1:], chance.randrange(1, 3)))),
        number=maybe(chance.choice((*CUSTOMERS, *OWN, "+1"))),
        results=maybe(frozenset(chance.sample(range(5), chance.randrange(1, 4)))),
        statuses=maybe(frozenset(chance.sample(["dialing", "connecting", "active", "ended", "failed"], 2))),
        outbound=maybe(chance.random() < 0.5),
        done=maybe(chance.random() < 0.5),
        include_deleted=chance.random() < 0.5,
        since=maybe(times[0]),
        until=maybe(times[1]),
        before=maybe(times[2]),
    )


@databases
async def test_every_combination_of_filters(kind: str, tmp_path: Path) -> None:
    """A list is what passes its filters, newest first; pages of it, and its total, are of the same list."""
    chance = random.Random(5)
    async with control_on(kind, tmp_path) as control:
        stories = made_calls(80)
        await record(control, stories)
        async with control.writing() as connection:
            for story in stories:
                if chance.random() < 0.4:
                    await note_call(connection, story.call_id, {"done": True})
                if chance.random() < 0.2:
                    await delete_call(connection, story.call_id, utc_now())
        async with control.reading() as connection:
            query = select(tables.calls).order_by(tables.calls.c.created_at.desc())
            rows = [dict(row) for row in (await connection.execute(query)).mappings()]
            for _ in range(120):
                filters = some_filters(chance)
                expected = [row["id"] for row in rows if passes(row, filters)]
                limit, offset = chance.randrange(1, 30), chance.randrange(20)
                found = [row["id"] for row in await page(connection, filters, limit, offset)]
                assert found == expected[offset : offset + limit], filters
                assert await count(connection, filters) == len(expected), filters


@databases
async def test_a_call_to_oneself_is_listed_once(kind: str, tmp_path: Path) -> None:
    """A number that is on both sides of a call does not make two of it."""
    async with control_on(kind, tmp_path) as control:
        stories = made_calls(9)
        for story in stories:
            opened = story.facts[0].model_copy(update={"caller_number": OWN[0], "dialed_number": OWN[0]})
            story.facts[0] = opened
        await record(control, stories)
        filters = replace(ALL, number=OWN[0])
        assert await ids(control, filters, 5) == [f"call-{index:03d}" for index in (8, 7, 6, 5, 4)]
        assert await ids(control, filters, 5, 5) == [f"call-{index:03d}" for index in (3, 2, 1, 0)]
        async with control.reading() as connection:
            assert await count(connection, filters) == 9


@databases
async def test_many_agents_are_merged_in_parts(kind: str, tmp_path: Path) -> None:
    """More ranges than one statement merges make the same list."""
    async with control_on(kind, tmp_path) as control:
        await record(control, made_calls(40))
        agents = frozenset({*AGENTS, *(f"agent-{index}" for index in range(40))})
        assert await ids(control, replace(ALL, agent_ids=agents)) == await ids(control, ALL)
        assert await ids(control, replace(ALL, agent_ids=agents, search="maya")) == await ids(
            control, replace(ALL, search="maya")
        )


@databases
async def test_what_is_searched_for_is_found(kind: str, tmp_path: Path) -> None:
    """By name, by number, by id, all words at once, and within the other filters."""
    async with control_on(kind, tmp_path) as control:
        stories = made_calls(60)
        await record(control, stories)
        over = stories[:-3]

        def named(story: Any, name: str) -> bool:
            return name in str(story.facts[-1])

        mayas = [story.call_id for story in reversed(over) if named(story, "Maya")]
        assert await ids(control, replace(ALL, search="maya meier")) == mayas
        assert await ids(control, replace(ALL, search="meier may")) == mayas
        assert await ids(control, replace(ALL, search="maya schulz")) == []
        assert await ids(control, replace(ALL, search="zoe")) == [s.call_id for s in reversed(over) if named(s, "Zoë")]
        germans = [
            s.call_id for s in reversed(stories) if CUSTOMERS[2] in (s.facts[0].caller_number, s.facts[0].dialed_number)
        ]
        for number in ("+49 151 1234", "0151 12345678", "345678", CUSTOMERS[2]):
            assert await ids(control, replace(ALL, search=number)) == germans, number
        assert await ids(control, replace(ALL, search="call-007")) == ["call-007"]
        both = replace(ALL, search="maya", agent_ids=frozenset({"front-desk"}))
        front = await ids(control, replace(ALL, agent_ids=frozenset({"front-desk"})))
        assert await ids(control, both) == [call_id for call_id in mayas if call_id in front]
        async with control.reading() as connection:
            assert await count_found(connection, replace(ALL, search="maya")) == len(mayas)


@databases
@pytest.mark.parametrize("search", ["'", '"', "*", "%", "NEAR(a b)", "a OR b", "' | 'x", "\x00", "𞤀𞤁", "ꭰ ꭱ", "﷽", "½"])
async def test_a_hostile_search_finds_nothing(kind: str, tmp_path: Path, search: str) -> None:
    """Whatever is typed is words to look for, and no language."""
    async with control_on(kind, tmp_path) as control:
        await record(control, made_calls(5))
        assert await ids(control, replace(ALL, search=search)) == []


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The URL of a database with so many calls that its planner prefers an index where there is one."""
    with fresh_database(request.param, tmp_path_factory.mktemp("many")) as url:
        fill(url, 6_000)
        yield url


async def test_every_list_uses_an_index(many: str, tmp_path: Path) -> None:
    """No statement of a page reads a whole table, whatever it is filtered by."""
    control = EmbeddedControlPlane(Settings(data_dir=tmp_path, database_url=many))
    try:
        async with control.reading() as connection:
            known = await known_of(connection)
            for case in cases():
                lines = await plans(connection, case.make(random.Random(1), known), case.offset)
                # what a call has one row of may be read whole where there are few, as a planner sees fit
                read = verdict(lines).removeprefix("READS ALL OF ")
                assert not {"calls", "call_search"} & set(read.split(", ")), case.name + "\n" + "\n".join(lines)
                assert "ix_calls_" in "\n".join(lines), case.name
    finally:
        await control.aclose()


async def test_both_ways_of_searching_find_the_same(many: str, tmp_path: Path) -> None:
    """What the newest calls and what the full-text index say is one list, wherever it is read on."""
    control = EmbeddedControlPlane(Settings(data_dir=tmp_path, database_url=many))
    try:
        for word in ("caller", "xylophone", "call", "maya", "maya invoice", "+1201", "invoice caller", "1302", "ba"):
            async with control.reading() as connection:
                filters = replace(ALL, search=word)
                whole = [row["id"] for row in await page(connection, filters, 1_500)]
                assert len(set(whole)) == len(whole)
                for offset in (0, 40, 700):
                    found = [row["id"] for row in await page(connection, filters, 20, offset)]
                    assert found == whole[offset : offset + 20], word
                total = await CallTotals().total(connection, filters)
                assert total.calls == min(len(whole), 300), word
                assert total.is_exact is (len(whole) <= 300), word
    finally:
        await control.aclose()


@databases
async def test_a_large_total_is_counted_every_so_often(kind: str, tmp_path: Path) -> None:
    """A small total is counted at once, a large one is as old as it says."""
    now = [0.0]
    async with control_on(kind, tmp_path) as control:
        await record(control, made_calls(30))
        small, large = CallTotals(lambda: now[0]), CallTotals(lambda: now[0], many=30)
        async with control.reading() as connection:
            assert [(await totals.total(connection, ALL)).calls for totals in (small, large)] == [30, 30]
        await record(control, made_calls(35))
        async with control.reading() as connection:
            assert [(await totals.total(connection, ALL)).calls for totals in (small, large)] == [35, 30]
            now[0] += 31
            assert (await large.total(connection, ALL)).calls == 35
