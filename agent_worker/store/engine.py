"""One database, SQLite or PostgreSQL by URL: writes in one transaction, errors in our words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from agent_worker.errors import ControlPlaneError, SettingsError

BUSY_SECONDS = 5.0
"""How long a write waits for SQLite's one write lock, and anybody for PostgreSQL to answer."""

_POSTGRESQL_PATIENCE = {
    "connect_timeout": round(BUSY_SECONDS),
    # a host that vanishes is noticed within 25 s, whether we wait for it to take a request or to answer one
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

_WRITES = "agent_worker_writes"


def database_url(url: str) -> URL:
    """Return the URL with the driver this product uses.

    Raises:
        SettingsError: it is no URL, or names a database that is neither SQLite nor PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingsError(
            "database_url_invalid",
            "AGENT_WORKER_DATABASE_URL is not a database URL.",
            remedy="Write sqlite:///path/to/file.db or postgresql://user:password@host/name.",
        ) from error
    match parsed.get_backend_name():
        case "sqlite":
            return parsed.set(drivername="sqlite+aiosqlite")
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise SettingsError(
                "database_unsupported",
                f"AGENT_WORKER_DATABASE_URL names {other}, which is not supported.",
                remedy="Use SQLite or PostgreSQL.",
            )


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite URL, None for any other database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    return Path(url.database)


def set_up_postgresql(engine: Engine) -> None:
    """Give every connection our patience: a lock that somebody keeps is an error to try again, not a wait for ever."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET lock_timeout = {round(BUSY_SECONDS * 1000)}")
        cursor.close()
        connection.commit()


def set_up_sqlite(engine: Engine) -> None:
    """Give every connection our pragmas, and let writers queue at `BEGIN` instead of failing later."""

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin transactions of its own, without IMMEDIATE
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(BUSY_SECONDS * 1000)}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what a driver raises into `ControlPlaneError`: retryable unless a value itself is refused."""
    try:
        yield
    except DataError as error:
        raise ControlPlaneError("database_refused_value", "The database refuses a value.", retryable=False) from error
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        raise ControlPlaneError(
            "database_unavailable", f"The database did not answer ({_kind(error)}).", retryable=True
        ) from error
    except (StatementError, OverflowError) as error:
        raise ControlPlaneError("value_not_storable", "A value cannot be stored.", retryable=False) from error


def _kind(error: Exception) -> str:
    # The driver's text may quote values of the statement, so only the kind of the error is passed on.
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}" if "locked" in str(cause) else type(cause).__name__


class Database:
    """A pool of connections to one database.

    Raises:
        SettingsError: the URL cannot be used, or the driver for it is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = database_url(url)
        options: dict[str, Any] = {"pool_timeout": BUSY_SECONDS}
        file = sqlite_file(self.url)
        postgresql = self.url.get_backend_name() == "postgresql"
        if postgresql:
            options |= {"pool_pre_ping": True, "connect_args": _POSTGRESQL_PATIENCE}
        try:
            self._engine = create_async_engine(self.url, **options)
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise SettingsError(
                "database_driver_missing",
                "The driver for this database is not installed.",
                remedy="pip install 'agent-worker[postgres]'",
            ) from error
        if file is not None:
            set_up_sqlite(self._engine.sync_engine)
        if postgresql:
            set_up_postgresql(self._engine.sync_engine)
        self._writer = self._engine.execution_options(**{_WRITES: True})

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that commits when the block ends without an error.

        Raises:
            ControlPlaneError: locked, absent or down (retryable), or a value is refused (not retryable).
        """
        with database_errors():
            async with self._writer.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that only reads, so that all its queries see one moment.

        Raises:
            ControlPlaneError: as for `write`.
        """
        with database_errors():
            async with self._engine.begin() as connection:
                yield connection

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.dispose()
