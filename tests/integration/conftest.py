"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_worker.egress.client import EgressClient
from agent_worker.testing.hook_receiver import HookReceiver
from tests.integration.egress import LOOPBACK
from tests.integration.shipping import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
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
