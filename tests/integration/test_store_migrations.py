"""Migrations: from nothing to the tables of this version, once, however many processes start together."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, inspect, text

from agent_worker.errors import ControlPlaneError
from agent_worker.store import migrate, tables
from agent_worker.store.engine import database_url
from tests.databases import fresh_database

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])


def _engine(url: str) -> Engine:
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        parsed = parsed.set(drivername="sqlite")
    return create_engine(parsed, poolclass=NullPool)


def _is_described(_object: object, name: str | None, *_more: object) -> bool:
    """The databases' own full-text indexes have no common description; searching tests them."""
    full_text = ("call_search_words", "ix_call_search_lexemes", "lexemes")
    return not (name or "").startswith(full_text)


@databases
def test_the_migrations_make_exactly_the_tables_of_the_code(kind: str, tmp_path: Path) -> None:
    """After all migrations the database differs from the code's tables in nothing."""
    with fresh_database(kind, tmp_path) as url:
        migrate.upgrade(url)
        with _engine(url).connect() as connection:
            options = {"compare_type": True, "include_object": _is_described}
            context = MigrationContext.configure(connection, opts=options)
            assert compare_metadata(context, tables.metadata) == []


@databases
def test_an_upgrade_of_a_current_database_changes_nothing(kind: str, tmp_path: Path) -> None:
    """A second start finds nothing to do and keeps what is there."""
    with fresh_database(kind, tmp_path) as url:
        migrate.upgrade(url)
        row = (
            "INSERT INTO agents (id, organization_id, name, config, version, created_at, updated_at) "
            "VALUES ('a', 'o', 'n', '{}', 1, '2026-03-02 09:30:00.000000', '2026-03-02 09:30:00.000000')"
        )
        with _engine(url).begin() as connection:
            connection.execute(text(row))
        migrate.upgrade(url)
        with _engine(url).connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM agents")).scalar_one() == 1


@databases
def test_processes_that_start_at_once_migrate_once(kind: str, tmp_path: Path, root: Path) -> None:
    """Six processes upgrade the same empty database at the same time; all succeed, and the tables are there."""
    program = "import sys; from agent_worker.store.migrate import upgrade; upgrade(sys.argv[1])"
    with fresh_database(kind, tmp_path / "not" / "there" / "yet") as url:
        started = [
            subprocess.Popen([sys.executable, "-c", program, url], cwd=root, stderr=subprocess.PIPE) for _ in range(6)
        ]
        problems = [process.communicate(timeout=120)[1].decode() for process in started]
        assert [(process.returncode, problem) for process, problem in zip(started, problems, strict=True)] == [
            (0, "")
        ] * 6
        with _engine(url).connect() as connection:
            assert set(tables.metadata.tables) <= set(inspect(connection).get_table_names())
            assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


@databases
def test_a_database_of_another_version_is_left_alone_and_tried_again(kind: str, tmp_path: Path) -> None:
    """Facts wait in their journals until somebody has put the right version in place."""
    with fresh_database(kind, tmp_path) as url:
        migrate.upgrade(url)
        with _engine(url).begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(ControlPlaneError) as error:
            migrate.upgrade(url)
        assert error.value.retryable
        assert error.value.code == "database_newer"


def test_the_newest_revision_is_the_one_the_fast_check_knows() -> None:
    """The constant that spares a current database the whole of Alembic is the head of the history."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


@databases
def test_the_history_can_be_walked_back(kind: str, tmp_path: Path) -> None:
    """Every migration's way back works: nothing of ours is left at the bottom."""
    with fresh_database(kind, tmp_path) as url:
        migrate.upgrade(url)
        config = Config()
        config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
        with _engine(url).begin() as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        with _engine(url).connect() as connection:
            assert set(inspect(connection).get_table_names()) <= {"alembic_version"}


def test_a_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    """A data folder that is not there yet, say a disk not mounted, is no reason to give up facts."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ControlPlaneError) as error:
        migrate.upgrade(f"sqlite:///{tmp_path / 'file' / 'test.db'}")
    assert error.value.retryable


def test_a_half_done_migration_is_no_migration(tmp_path: Path) -> None:
    """SQLite too makes all tables or none: one that is in the way leaves the database as it was."""
    file = tmp_path / "test.db"
    with _engine(f"sqlite:///{file}").begin() as connection:
        connection.execute(text("CREATE TABLE deliveries (id TEXT)"))
    with pytest.raises(ControlPlaneError):
        migrate.upgrade(f"sqlite:///{file}")
    with _engine(f"sqlite:///{file}").connect() as connection:
        assert inspect(connection).get_table_names() == ["deliveries"]


def test_a_lock_held_too_long_is_said(tmp_path: Path) -> None:
    """A process that waits for another's migration gives up with a retryable error, after a bounded time."""
    held = os.open(tmp_path / "test.db.migrate.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ControlPlaneError, match="still migrating") as error:
        migrate.upgrade(f"sqlite:///{tmp_path / 'test.db'}", lock_seconds=0.2)
    os.close(held)
    assert error.value.retryable
