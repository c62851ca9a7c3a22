"""What `provision` takes for the configuration: asked for each time, whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.cli_provision import check_prune, read_configuration
from agent_worker.domain.call import utc_now
from agent_worker.domain.number import NumberConfig
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store.agents import save_number
from agent_worker.store.engine import Database
from agent_worker.store.migrate import upgrade
from agent_worker.testing.serve_process import TOKEN
from tests.databases import fresh_database
from tests.integration.serving import DESK, NUMBER, serve_settings, serving
from tests.integration.test_store import databases

STORED = "+12015550177"


async def store_number(url: str) -> None:
    upgrade(url)
    database = Database(url)
    async with database.write() as connection:
        await save_number(connection, "org_local", NumberConfig(e164=STORED), number_id=None, now=utc_now())
    await database.aclose()


def worker(folder: Path, url: str) -> Settings:
    """Return the settings of a host without files, whose control plane is at this URL."""
    return Settings(
        data_dir=folder / "worker",
        agents_dir=folder / "none",
        control_url=url,
        control_token=TOKEN,
        telephony_file=None,
    )


@databases
async def test_rows_are_read_without_any_copy_of_them(tmp_path: Path, kind: str) -> None:
    """Beside the files' numbers; the worker's copy is not made in its place."""
    with fresh_database(kind, tmp_path) as url:
        settings = serve_settings(tmp_path, database_url=url)
        await store_number(url)

        found = await read_configuration(settings)

    assert set(found.catalog.numbers) == {NUMBER, STORED}
    assert found.is_certain
    assert not settings.cache_dir.exists()


async def test_no_numbers_anywhere_is_believed_of_a_database(tmp_path: Path) -> None:
    """It was read, so --prune may remove everything; files without it, and without telephony.yaml, are not enough."""
    agent = DESK | {"numbers": []}
    with fresh_database("sqlite", tmp_path) as url:
        upgrade(url)
        found = await read_configuration(serve_settings(tmp_path, agent, database_url=url, telephony_file=None))
    assert not found.catalog.numbers
    check_prune(found)

    files = await read_configuration(serve_settings(tmp_path, agent, telephony_file=None))
    assert not files.is_certain
    assert not (tmp_path / "serve").exists()


async def test_another_hosts_rows_are_asked_for(tmp_path: Path) -> None:
    """Files and rows of the other host, none of this one."""
    with fresh_database("sqlite", tmp_path) as database:
        await store_number(database)
        async with serving(serve_settings(tmp_path, database_url=database)) as url:
            found = await read_configuration(worker(tmp_path, url))

    assert set(found.catalog.numbers) == {NUMBER, STORED}
    assert found.is_certain
    assert not (tmp_path / "worker").exists()


async def test_a_control_plane_without_its_database_is_not_believed(tmp_path: Path) -> None:
    """It answers with the numbers of its files, and that is not all there is."""
    broken = tmp_path / "broken.db"
    broken.write_text("no database at all, but a file of some length " * 100)
    async with serving(serve_settings(tmp_path, database_url=f"sqlite:///{broken}")) as url:
        with pytest.raises(ControlPlaneError, match=r"answered HTTP 503. Nothing was changed: .*GET /readyz"):
            await read_configuration(worker(tmp_path, url))
