"""Starts LiveKit and the stand-ins once for all telephony tests; skips them, saying why, where they cannot run."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from agent_worker.call.speech_cache import bundled
from agent_worker.testing.audio import speech_segments
from agent_worker.testing.stack import LiveKitStack, StackBinaries
from agent_worker.testing.stand_ins import ProviderStandIns
from agent_worker.testing.voice import render
from tests.e2e.examining import CLIP_RATE
from tests.e2e.rig import GREETING, Rig

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every test of this folder on the loop its stack lives on."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def binaries() -> StackBinaries:
    """The LiveKit programs."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    path = HERE / "stack" / "build.py"
    spec = importlib.util.spec_from_file_location("stack_build", path)
    assert spec is not None and spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    try:
        return StackBinaries.in_folder(build.stack_folder())
    except (FileNotFoundError, SystemExit) as missing:
        pytest.skip(str(missing))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_rig(binaries: StackBinaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """LiveKit and the stand-ins, for the whole test session."""
    folder = tmp_path_factory.mktemp("stack")
    async with LiveKitStack(binaries, folder) as stack, ProviderStandIns() as providers:
        yield Rig(stack, providers, folder)


@pytest_asyncio.fixture(loop_scope="session")
async def rig(session_rig: Rig) -> AsyncIterator[Rig]:
    """The rig with its stand-ins well and taught; afterwards every room must be gone."""
    await session_rig.providers.heal()
    session_rig.script()
    yield session_rig
    await session_rig.providers.heal()
    try:
        await session_rig.stack.wait_no_rooms()
    finally:
        for room in await session_rig.stack.rooms():
            await session_rig.stack.delete_room(room)


@pytest.fixture
def heard(rig: Rig) -> Rig:
    """The rig, with a recogniser that knows the sentences the doctor has it hear."""
    clip = np.frombuffer(bytes(bundled("hold").data), dtype=np.int16)
    for part in speech_segments(clip, CLIP_RATE, max_gap=0.1):
        spoken = clip[int(part.start * CLIP_RATE) : int(part.end * CLIP_RATE)]
        rig.providers.deepgram.register_clip("One moment.", spoken, CLIP_RATE)
    rig.providers.deepgram.register_clip(GREETING, render(GREETING, CLIP_RATE), CLIP_RATE)
    return rig
