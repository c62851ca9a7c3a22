"""Keeps a developer's own environment out of every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# an example is slow where the machine is busy, which says nothing of the code
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

ROOT = Path(__file__).resolve().parent.parent

_PREFIXES = ("AGENT_WORKER_", "LIVEKIT_", "DEEPGRAM_", "OPENAI_", "CARTESIA_")
_KEPT = ("AGENT_WORKER_TEST_",)

for _name in list(os.environ):
    if _name.startswith(_PREFIXES) and not _name.startswith(_KEPT):
        del os.environ[_name]


@pytest.fixture
def root() -> Path:
    """The checkout's top folder."""
    return ROOT
