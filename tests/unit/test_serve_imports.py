"""An idle `serve` is small because it loads no more than it needs; a bar that `bench.idle` measures starts here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("livekit", "numpy", "av", "onnxruntime", "openai", "alembic", "opentelemetry.sdk", "pandas", "grpc")


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """The modules an application has loaded before its first request."""
    program = (
        "import sys, tempfile; from pathlib import Path\n"
        "import agent_worker.cli_serve\n"
        "from agent_worker.app import create_app; from agent_worker.settings import Settings\n"
        "create_app(Settings(data_dir=Path(tempfile.mkdtemp())))\n"
        "print(*sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", HEAVY)
def test_serve_starts_without(loaded: set[str], name: str) -> None:
    """What only a call, a migration, a bucket or a collector needs is loaded by those who need it."""
    assert name not in loaded
