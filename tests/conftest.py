"""Keeps a developer's own environment out of every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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
