"""Fresh databases for tests: an SQLite file always, a PostgreSQL schema where a server is installed or named."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

from agent_worker.store.engine import database_url
from tests.postgres import server_url

POSTGRES_VARIABLE = "AGENT_WORKER_TEST_POSTGRES_URL"
"""Names a server to use; else one is started for the tests."""

KINDS = ("sqlite", "postgresql")


@contextmanager
def fresh_database(kind: str, folder: Path) -> Iterator[str]:
    """Yield the URL of an empty database that is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'test.db'}"
        return
    server = os.environ.get(POSTGRES_VARIABLE) or server_url()
    if not server:
        pytest.skip(f"PostgreSQL is not installed (apt-get install postgresql) and {POSTGRES_VARIABLE} is not set")
    schema = f"test_{uuid.uuid4().hex}"
    url = database_url(server)
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        yield url.update_query_dict({"options": f"-csearch_path={schema}"}).render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@asynccontextmanager
async def held(url: str) -> AsyncIterator[None]:
    """Keep everybody else from writing calls, as a migration or a stuck transaction does.

    Others in this process may be writing, and go on until they have done so.
    """
    holder = _held(url)
    await asyncio.to_thread(holder.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(holder.__exit__, None, None, None)


@contextmanager
def _held(url: str) -> Iterator[None]:
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        holder = sqlite3.connect(parsed.database or "", isolation_level=None, timeout=30, check_same_thread=False)
        holder.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            holder.execute("COMMIT")
            holder.close()
        return
    engine = create_engine(parsed, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE calls IN ACCESS EXCLUSIVE MODE"))
        yield
    engine.dispose()
