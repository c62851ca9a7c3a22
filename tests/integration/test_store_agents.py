"""Agents and numbers as rows, on real databases: what was said and what was not, and what tells a change."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, select, text

from agent_worker.config.agent_dump import dump_agent
from agent_worker.config.agent_files import read_agent_file
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import NumberConfig
from agent_worker.errors import ControlPlaneError
from agent_worker.store import migrate, tables
from agent_worker.store.agents import (
    config_version,
    delete_agent,
    delete_number,
    load_agents,
    load_numbers,
    save_agent,
    save_number,
)
from agent_worker.store.engine import Database, database_url
from tests.call_facts import START
from tests.databases import fresh_database
from tests.made_agents import JSON, NUMBERS, made_agents, said

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])

DESK = AgentConfig(name="desk", prompt="front-desk")
LATER = START + timedelta(minutes=1)


@asynccontextmanager
async def database_on(kind: str, folder: Path) -> AsyncIterator[Database]:
    with fresh_database(kind, folder) as url:
        await asyncio.to_thread(migrate.upgrade, url)
        database = Database(url)
        try:
            yield database
        finally:
            await database.aclose()


async def saved(database: Database, agent: AgentConfig, agent_id: str | None = None, org: str = "org") -> str:
    async with database.write() as connection:
        return await save_agent(connection, org, agent, agent_id=agent_id, now=START)


async def saved_number(database: Database, number: NumberConfig, number_id: str | None = None, org: str = "org") -> str:
    async with database.write() as connection:
        return await save_number(connection, org, number, number_id=number_id, now=START)


async def agents_of(database: Database, org: str = "org") -> dict[str, AgentConfig]:
    async with database.read() as connection:
        return await load_agents(connection, org)


async def numbers_of(database: Database, org: str = "org") -> dict[str, NumberConfig]:
    async with database.read() as connection:
        return await load_numbers(connection, org)


async def version_of(database: Database, org: str = "org") -> str:
    async with database.read() as connection:
        return await config_version(connection, org)


# a failing example is not shrunk: each try is a handful of transactions, and shrinking takes minutes
@databases
@effort(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(batch=st.lists(made_agents(), min_size=20, max_size=20))
def test_an_agent_survives_the_way_through_file_and_row(kind: str, tmp_path: Path, batch: list[AgentConfig]) -> None:
    """File -> agent -> row -> agent -> file -> agent: equal each time, and no key given that was not."""
    file = tmp_path / "agent.yaml"

    def read(agent: AgentConfig) -> AgentConfig:
        file.write_bytes(dump_agent(agent).encode())
        return read_agent_file(file).agent

    async def stored(agents: list[AgentConfig]) -> list[AgentConfig]:
        async with database_on(kind, tmp_path / uuid.uuid4().hex) as database:
            async with database.write() as connection:
                ids = [await save_agent(connection, "org", agent, agent_id=None, now=START) for agent in agents]
            found = await agents_of(database)
            return [found[agent_id] for agent_id in ids]

    from_files = [read(agent) for agent in batch]
    from_rows = asyncio.run(stored(from_files))
    from_files_again = [read(agent) for agent in from_rows]
    for agent, *others in zip(batch, from_files, from_rows, from_files_again, strict=True):
        assert others == [agent] * 3
        assert [said(other) for other in others] == [said(agent)] * 3


@databases
async def test_what_is_null_is_not_what_is_unsaid(kind: str, tmp_path: Path) -> None:
    """A row keeps an explicit null apart from a key that is not there."""
    async with database_on(kind, tmp_path) as database:
        silent = await saved(database, DESK)
        null = AgentConfig.model_validate({"name": "n", "voice": None, "ttsOptions": {"speed": None}, "tools": []})
        explicit = await saved(database, null)
        found = await agents_of(database)
    assert found[silent].model_fields_set == {"name", "prompt"}
    assert found[explicit].model_fields_set == {"name", "voice", "tts_options", "tools"}
    assert found[explicit].tts_options.model_fields_set == {"speed"}


@databases
async def test_a_saved_agent_is_one_row_with_the_keys_of_a_file(kind: str, tmp_path: Path) -> None:
    """A second save replaces the first, raises the version and keeps the time of making."""
    async with database_on(kind, tmp_path) as database:
        agent_id = await saved(database, AgentConfig(name="desk", first_message="Hi"))
        async with database.write() as connection:
            changed = DESK.model_copy(update={"max_duration_seconds": 60, "name": "front"})
            again = await save_agent(connection, "org", changed, agent_id=agent_id, now=LATER)
            rows = (await connection.execute(select(tables.agents))).mappings().all()
    assert again == agent_id
    assert agent_id.startswith("agent_")
    assert [dict(row) for row in rows] == [
        {
            "id": agent_id,
            "organization_id": "org",
            "name": "front",
            "config": {"name": "front", "prompt": "front-desk", "maxDurationSeconds": 60},
            "tool_times": None,
            "version": 2,
            "created_at": START,
            "updated_at": LATER,
        }
    ]


@databases
async def test_another_organization_neither_sees_nor_changes_rows(kind: str, tmp_path: Path) -> None:
    """An id is no key to somebody else's agent or number; the same number may be in both organizations."""
    number = NumberConfig(e164=NUMBERS[0])
    async with database_on(kind, tmp_path) as database:
        agent_id, number_id = await saved(database, DESK), await saved_number(database, number)
        with pytest.raises(ControlPlaneError, match="There is no") as agent_error:
            await saved(database, DESK, agent_id, org="other")
        with pytest.raises(ControlPlaneError) as number_error:
            await saved_number(database, number, number_id, org="other")
        async with database.write() as connection:
            assert not await delete_agent(connection, "other", agent_id, now=LATER)
            assert not await delete_number(connection, "other", number_id)
        assert (await agents_of(database, "other"), await numbers_of(database, "other")) == ({}, {})
        assert (await agents_of(database), await numbers_of(database)) == ({agent_id: DESK}, {number_id: number})
        assert await saved_number(database, number, org="other") != number_id
    codes = (agent_error.value.code, number_error.value.code)
    assert codes == ("agent_not_found", "number_not_found")
    assert not agent_error.value.retryable


@databases
async def test_a_number_reads_back_and_may_name_an_agent_that_is_a_file(kind: str, tmp_path: Path) -> None:
    """Every key of a number, and a number that says the least."""
    whole = NumberConfig(
        e164=NUMBERS[0],
        direction="inbound",
        agent_id="front-desk",
        dispatch_metadata_template={"voice": None, "n": [1, {"é": "{{callerNumber}}"}]},
        label="Desk",
        sip_connection="carrier",
    )
    least, empty = NumberConfig(e164=NUMBERS[1]), NumberConfig(e164=NUMBERS[2], dispatch_metadata_template={})
    async with database_on(kind, tmp_path) as database:
        ids = [await saved_number(database, number) for number in (whole, least, empty)]
        assert await numbers_of(database) == dict(zip(ids, (whole, least, empty), strict=True))
        assert await saved_number(database, NumberConfig(e164=NUMBERS[0], direction="outbound"), ids[0]) == ids[0]
        assert (await numbers_of(database))[ids[0]] == NumberConfig(e164=NUMBERS[0], direction="outbound")
    assert all(number_id.startswith("pn_") for number_id in ids)


@databases
async def test_a_number_is_there_once(kind: str, tmp_path: Path) -> None:
    """The same number under a second id is refused for good, not as a database that is down."""
    async with database_on(kind, tmp_path) as database:
        first = await saved_number(database, NumberConfig(e164=NUMBERS[0]))
        second = await saved_number(database, NumberConfig(e164=NUMBERS[1]))
        for number_id in (None, second):
            with pytest.raises(ControlPlaneError) as error:
                await saved_number(database, NumberConfig(e164=NUMBERS[0]), number_id)
            assert (error.value.code, error.value.retryable) == ("number_exists", False)
        assert list(await numbers_of(database)) == sorted([first, second])


@databases
async def test_the_numbers_of_a_deleted_agent_stay_and_are_unlinked(kind: str, tmp_path: Path) -> None:
    """Only its own numbers lose the agent; deleting it once more finds nothing."""
    async with database_on(kind, tmp_path) as database:
        agent_id = await saved(database, DESK)
        linked = await saved_number(database, NumberConfig(e164=NUMBERS[0], agent_id=agent_id))
        other = await saved_number(database, NumberConfig(e164=NUMBERS[1], agent_id="desk"))
        async with database.write() as connection:
            assert await delete_agent(connection, "org", agent_id, now=LATER)
            assert not await delete_agent(connection, "org", agent_id, now=LATER)
        found = await numbers_of(database)
    assert (found[linked].agent_id, found[other].agent_id) == (None, "desk")


@databases
async def test_every_change_changes_the_version(kind: str, tmp_path: Path) -> None:
    """Saving, replacing and deleting each change the mark, also within one moment; reading does not."""
    async with database_on(kind, tmp_path) as database:
        seen = [await version_of(database)]

        async def changed() -> None:
            version = await version_of(database)
            assert version != seen[-1]
            assert version == await version_of(database)
            seen.append(version)

        agent_id = await saved(database, DESK)
        await changed()
        await saved(database, DESK, agent_id)
        await changed()
        number_id = await saved_number(database, NumberConfig(e164=NUMBERS[0], agent_id=agent_id))
        await changed()
        await saved_number(database, NumberConfig(e164=NUMBERS[0]), number_id)
        await changed()
        await saved(database, DESK, org="other")
        assert await version_of(database) == seen[-1]
        async with database.write() as connection:
            await delete_number(connection, "org", number_id)
        await changed()
        async with database.write() as connection:
            await delete_agent(connection, "org", agent_id, now=START)
        await changed()


@databases
async def test_one_row_for_another_changes_the_version_though_a_clock_is_behind(kind: str, tmp_path: Path) -> None:
    """As many rows, as many saves and the same latest time: the mark still differs."""
    async with database_on(kind, tmp_path) as database:
        gone = await saved_number(database, NumberConfig(e164=NUMBERS[0]))
        async with database.write() as connection:
            await save_number(connection, "org", NumberConfig(e164=NUMBERS[1]), number_id=None, now=LATER)
        before = await version_of(database)
        async with database.write() as connection:
            await delete_number(connection, "org", gone)
            behind = LATER - timedelta(seconds=5)
            await save_number(connection, "org", NumberConfig(e164=NUMBERS[2]), number_id=None, now=behind)
        assert await version_of(database) != before


async def test_the_version_is_read_from_indexes_alone(tmp_path: Path) -> None:
    """Large agents cost nothing where nothing has changed."""
    async with database_on("sqlite", tmp_path) as database:
        await saved(database, DESK)
        async with database.read() as connection:
            for table in ("agents", "numbers"):
                query = (
                    "EXPLAIN QUERY PLAN SELECT count(*), sum(version), max(updated_at), sum(strftime('%s', updated_at)) "
                    f"FROM {table} WHERE organization_id = 'org'"
                )
                plan = (await connection.execute(text(query))).mappings().all()
                assert [f"COVERING INDEX ix_{table}_state" in row["detail"] for row in plan] == [True]


@databases
async def test_a_row_that_is_no_agent_any_more_leaves_the_others(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged by its id and its wrong key, without a value; the rest is served."""
    async with database_on(kind, tmp_path) as database:
        good, bad, list_ = [await saved(database, DESK) for _ in range(3)]
        fine, wrong = [await saved_number(database, NumberConfig(e164=e164)) for e164 in NUMBERS[:2]]
        async with database.write() as connection:
            for row_id, config in ((bad, {"name": "x", "voice": ["+12015550177"]}), (list_, [1])):
                await connection.execute(
                    tables.agents.update().where(tables.agents.c.id == row_id).values(config=config)
                )
            await connection.execute(
                tables.numbers.update().where(tables.numbers.c.id == wrong).values(direction="sideways")
            )
        with caplog.at_level(logging.ERROR, "agent_worker.store"):
            assert list(await agents_of(database)) == [good]
            assert list(await numbers_of(database)) == [fine]
    told = [vars(record) for record in caplog.records]
    assert {record.get("agent_id") or record.get("number_id") for record in told} == {bad, list_, wrong}
    assert [record["keys"] for record in told if record.get("agent_id") == bad] == [["voice"]]
    assert "+1201555" not in json.dumps([str(record) for record in told])


async def test_json_that_is_none_leaves_the_other_rows(tmp_path: Path) -> None:
    """SQLite keeps any text in a JSON column; one row edited by hand does not fail the whole query."""
    async with database_on("sqlite", tmp_path) as database:
        good, bad = await saved(database, DESK), await saved(database, DESK)
        fine, wrong = [
            await saved_number(database, NumberConfig(e164=e164, dispatch_metadata_template={"a": 1}))
            for e164 in NUMBERS[:2]
        ]
        async with database.write() as connection:
            await connection.execute(text("UPDATE agents SET config = '{' WHERE id = :id"), {"id": bad})
            broken = "UPDATE numbers SET dispatch_metadata_template = '{' WHERE id = :id"
            await connection.execute(text(broken), {"id": wrong})
        assert list(await agents_of(database)) == [good]
        assert list(await numbers_of(database)) == [fine]


@databases
async def test_an_agent_that_would_not_read_back_is_refused(kind: str, tmp_path: Path) -> None:
    """No database holds U+0000; what is left without it must still be an agent, or nothing is written."""
    async with database_on(kind, tmp_path) as database:
        with pytest.raises(ControlPlaneError) as error:
            await saved(database, AgentConfig(name="\x00"))
        kept = await saved(database, AgentConfig(name="a\x00b"))
        found: dict[str, Any] = await agents_of(database)
    assert error.value.code == "value_not_storable"
    assert {agent_id: agent.name for agent_id, agent in found.items()} == {kept: "ab"}


@databases
@effort(max_examples=3, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(templates=st.lists(st.none() | st.dictionaries(st.just("k"), JSON), min_size=15, max_size=15))
def test_a_template_reads_back(kind: str, tmp_path: Path, templates: list[dict[str, Any] | None]) -> None:
    """Any JSON object, or none at all."""

    async def stored() -> list[dict[str, Any] | None]:
        async with database_on(kind, tmp_path / uuid.uuid4().hex) as database:
            ids = [
                await saved_number(
                    database, NumberConfig(e164=f"+1201555{index:04}", dispatch_metadata_template=template)
                )
                for index, template in enumerate(templates)
            ]
            found = await numbers_of(database)
            return [found[number_id].dispatch_metadata_template for number_id in ids]

    assert asyncio.run(stored()) == templates


@databases
def test_numbers_survive_the_migration_and_its_way_back(kind: str, tmp_path: Path) -> None:
    """Rows written before it are kept; on the way back a number loses an agent that is only a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    time = "'2026-03-02 09:30:00.000000', '2026-03-02 09:30:00.000000'"
    columns = "organization_id, created_at, updated_at, id"
    with fresh_database(kind, tmp_path) as url:
        engine = create_engine(
            database_url(url) if kind == "postgresql" else url, poolclass=NullPool
        )  # the synchronous driver of SQLite is its default
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.execute(
                text(
                    f"INSERT INTO agents ({columns}, name, config, version) VALUES ('o', {time}, 'a1', 'n', '{{}}', 1)"
                )
            )
            number = f"INSERT INTO numbers ({columns}, e164, source, direction, agent_id) VALUES ('o', {time}, "
            connection.execute(text(f"{number} 'pn_1', '{NUMBERS[0]}', 'sip_trunk', 'both', 'a1')"))
            command.upgrade(config, "head")
            connection.execute(text(f"{number} 'pn_2', '{NUMBERS[1]}', 'sip_trunk', 'both', 'front-desk')"))
            new = connection.execute(text("SELECT id, agent_id, version, sip_connection FROM numbers ORDER BY id"))
            assert [tuple(row) for row in new] == [("pn_1", "a1", 1, None), ("pn_2", "front-desk", 1, None)]
            command.downgrade(config, "0001")
            old = connection.execute(text("SELECT id, e164, agent_id FROM numbers ORDER BY id"))
            assert [tuple(row) for row in old] == [("pn_1", NUMBERS[0], "a1"), ("pn_2", NUMBERS[1], None)]
        engine.dispose()
