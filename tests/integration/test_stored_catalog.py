"""Agents and numbers of the database: calls follow them within seconds, and never wait for the database."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_worker.control.catalog_keeper import CatalogKeeper
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog, make_control, make_keeper
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallPlan, CallRefusal, utc_now
from agent_worker.domain.number import NumberConfig
from agent_worker.settings import Settings
from agent_worker.store.agents import delete_agent, save_agent, save_number
from agent_worker.store.engine import Database
from tests.databases import fresh_database
from tests.integration.serving import DESK, NUMBER, OFFER, serve_settings
from tests.integration.test_store import databases

STORED = "+12015550177"


class Host:
    """A worker's parent, which keeps the copy fresh, and what a job process of it sees."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        catalog = make_catalog(settings)
        self.control = make_control(settings, catalog)
        self.keeper: CatalogKeeper = make_keeper(self.control, catalog)
        self.job = make_control(settings, make_catalog(settings))

    async def save(self, agent_id: str, **agent: Any) -> None:
        values = {"name": "stored", "systemPrompt": "You sell.", "numbers": [STORED], **agent}
        database = Database(self.settings.database)
        async with database.write() as connection:
            await save_agent(
                connection, "org_local", AgentConfig.model_validate(values), agent_id=agent_id, now=utc_now()
            )
        await database.aclose()

    async def plan(self, dialed: str = STORED) -> CallPlan | CallRefusal:
        return await self.job.open_call(OFFER.model_copy(update={"dialed_number": dialed}), budget_seconds=4)


@asynccontextmanager
async def host(folder: Path, kind: str = "sqlite", **changes: Any) -> AsyncIterator[Host]:
    with fresh_database(kind, folder) as url:
        made = Host(serve_settings(folder, database_url=url, control_token="", **changes))
        await made.keeper.refresh()
        try:
            yield made
        finally:
            await made.control.aclose()
            await made.job.aclose()


@databases
async def test_a_stored_agent_takes_calls_beside_those_of_files(kind: str, tmp_path: Path) -> None:
    """Saved, changed and deleted: the next look at the copy follows, without this process asking the database."""
    async with host(tmp_path, kind) as found:
        assert isinstance(await found.plan(), CallRefusal)
        await found.save("agent_1", voice="maya", webhooks={"status": {"url": "https://crm.example/x"}})
        await found.keeper.refresh()
        plan = await found.plan()
        assert isinstance(plan, CallPlan)
        assert (plan.agent_id, plan.agent.voice) == ("agent_1", "maya")
        await found.save("agent_1", voice="zoe")
        await found.keeper.refresh()
        plan = await found.plan()
        assert isinstance(plan, CallPlan)
        assert plan.agent.voice == "zoe"
        assert isinstance(await found.plan(NUMBER), CallPlan)
        database = Database(found.settings.database)
        async with database.write() as connection:
            assert await delete_agent(connection, "org_local", "agent_1", now=utc_now())
        await database.aclose()
        await found.keeper.refresh()
        assert isinstance(await found.plan(), CallRefusal)
        assert isinstance(found.job, EmbeddedControlPlane)
        assert found.job._database is None


async def test_the_copy_is_written_only_when_something_changed_and_for_no_one_else(tmp_path: Path) -> None:
    """It holds secrets, so it is this user's alone; a look that finds nothing new leaves it as it is."""
    async with host(tmp_path) as found:
        path = found.settings.cache_dir / "catalog.json"
        before = path.stat()
        await found.keeper.refresh()
        assert path.stat().st_ino == before.st_ino
        await found.save("agent_1", toolSecrets={"crm": "secret-of-tools"})
        await found.keeper.refresh()
        assert path.stat().st_ino != before.st_ino
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert sorted(entry.name for entry in path.parent.iterdir()) == ["catalog.json"]


async def test_stored_agents_take_calls_with_the_database_down(tmp_path: Path) -> None:
    """Also after a restart: the copy is what is asked."""
    async with host(tmp_path) as found:
        await found.save("agent_1")
        await found.keeper.refresh()
        holder = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        again = Host(found.settings)
        plan = await again.plan()
        assert isinstance(plan, CallPlan)
        assert plan.agent_id == "agent_1"
        holder.execute("COMMIT")
        holder.close()


async def test_a_file_counts_where_both_claim_a_number(tmp_path: Path) -> None:
    """What stands in a file is what `check` and `explain` show, so it is what happens."""
    async with host(tmp_path) as found:
        await found.save("agent_1", numbers=[NUMBER, STORED])
        await found.keeper.refresh()
        by_file, stored = await found.plan(NUMBER), await found.plan()
    assert isinstance(by_file, CallPlan)
    assert isinstance(stored, CallPlan)
    assert (by_file.agent_id, stored.agent_id) == ("desk", "agent_1")


async def test_a_stored_number_may_lead_to_a_files_agent(tmp_path: Path) -> None:
    """Numbers of the database and agents of files are one configuration."""
    async with host(tmp_path) as found:
        database = Database(found.settings.database)
        async with database.write() as connection:
            number = NumberConfig(e164="+12015550188", agent_id="desk", label="branch")
            number_id = await save_number(connection, "org_local", number, number_id=None, now=utc_now())
        await database.aclose()
        await found.keeper.refresh()
        plan = await found.plan("+12015550188")
    assert isinstance(plan, CallPlan)
    assert plan.agent_id == "desk"
    assert plan.metadata["phone_number_id"] == number_id


async def test_a_stored_agent_may_name_a_prompt_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its text is what the model reads; a name nobody has leaves the text the row has, and is logged."""
    async with host(tmp_path) as found:
        (found.settings.prompts_dir / "sales.md").write_text("You sell boats.")
        await found.save("agent_1", prompt="sales", systemPrompt="")
        await found.keeper.refresh()
        plan = await found.plan()
        assert isinstance(plan, CallPlan)
        assert "boats" in plan.agent.system_prompt
        await found.save("agent_1", prompt="nobody", systemPrompt="You wait.")
        await found.keeper.refresh()
        plan = await found.plan()
        assert isinstance(plan, CallPlan)
        assert plan.agent.system_prompt == "You wait."
    assert "prompt not usable" in caplog.text


async def test_the_copy_of_another_database_is_not_used(tmp_path: Path) -> None:
    """A worker that is given another database starts with its files."""
    async with host(tmp_path) as found:
        await found.save("agent_1")
        await found.keeper.refresh()
        elsewhere = Host(found.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/other.db"}))
        assert isinstance(await elsewhere.plan(), CallRefusal)


async def test_a_disk_that_takes_no_copy_is_said_and_nothing_else_breaks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files still answer; the state and the log say why stored agents do not."""
    settings = serve_settings(tmp_path, DESK)
    settings.data_dir.mkdir()
    settings.cache_dir.write_text("in the way")
    found = Host(settings)
    await found.keeper.refresh()
    assert found.keeper.state == "cache_not_writable"
    assert isinstance(await found.plan(NUMBER), CallPlan)
    assert "cannot be written" in str([record.__dict__.get("problem") for record in caplog.records])
    await found.control.aclose()
