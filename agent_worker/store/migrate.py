"""Brings a database to the tables of this version; safe when several processes start at once."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, create_engine, inspect, text

from agent_worker.errors import ControlPlaneError
from agent_worker.store.engine import BUSY_SECONDS, database_errors, database_url, set_up_sqlite, sqlite_file

HEAD = "0003"
"""The newest revision in `migrations/versions`."""

LOCK_SECONDS = 60.0
_ADVISORY_LOCK = 7_308_604_756  # any number, the same in all our processes


def upgrade(url: str, *, lock_seconds: float = LOCK_SECONDS) -> None:
    """Create or alter the tables; returns at once where nothing is to do. Blocks: call it in a thread.

    Args:
        lock_seconds: how long another process's migration is waited for.

    Raises:
        SettingsError: the URL cannot be used.
        ControlPlaneError: retryable; the database is locked or down, or was written by a newer version.
    """
    parsed = database_url(url)
    file = sqlite_file(parsed)
    if file is not None:
        engine = create_engine(parsed.set(drivername="sqlite"), poolclass=NullPool)
        set_up_sqlite(engine)
    else:
        timeout = {"connect_timeout": round(BUSY_SECONDS)}
        engine = create_engine(parsed, poolclass=NullPool, connect_args=timeout)
    try:
        with database_errors():
            if file is None:
                _upgrade_postgresql(engine)
            elif not (file.exists() and _is_current(engine)):
                _upgrade_sqlite(engine, file, lock_seconds)
    finally:
        engine.dispose()


def _is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) == HEAD


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade_sqlite(engine: Engine, file: Path, lock_seconds: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file.with_name(file.name + ".migrate.lock"), lock_seconds):
        raw = engine.raw_connection()
        try:
            # the switch to WAL needs the whole file and does not wait for others: hence the lock
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
        with engine.execution_options(agent_worker_writes=True).begin() as connection:
            _run(connection)


def _upgrade_postgresql(engine: Engine) -> None:
    if _is_current(engine):
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _run(connection)


def _run(connection: Connection) -> None:
    if _revision(connection) == HEAD:
        return
    # imported here: a process whose database is current, which is nearly every process, does without it
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    scripts = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ControlPlaneError(
            "database_newer",
            "The database was written by another version of this product and cannot be upgraded from here.",
            retryable=True,
        ) from error


@contextmanager
def _locked(path: Path, seconds: float) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ControlPlaneError(
                        "database_migrating",
                        "Another process is still migrating the database.",
                        retryable=True,
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(file)
