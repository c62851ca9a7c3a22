"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent_worker.egress.client import EgressClient
from agent_worker.testing.hook_receiver import HookReceiver
from tests.databases import KINDS, fresh_database
from tests.integration.egress import LOOPBACK
from tests.integration.shipping import Rig
from tests.webhooks import Outbox, outbox_on


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Run the test on a fresh database of each kind."""
    with fresh_database(request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def rig(tmp_path: Path, database_url: str) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, database_url)
    async with made.control.reading():
        pass  # makes the tables, which takes longer than anything a test waits for
    yield made
    await made.control.aclose()


@pytest.fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    async with HookReceiver() as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    made = EgressClient(LOOPBACK)
    yield made
    await made.aclose()


@pytest.fixture
async def outbox(tmp_path: Path, database_url: str) -> AsyncIterator[Outbox]:
    async with outbox_on(tmp_path, database_url) as found:
        yield found


@pytest.fixture
async def file_outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    """One on SQLite, for what no database decides."""
    async with outbox_on(tmp_path) as found:
        yield found
