"""The build machine's last line: the sum of several pytest runs, in pytest's own form."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "closing_line.py"


def summed(*texts: str) -> str:
    spec = importlib.util.spec_from_file_location("closing_line", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.closing_line(list(texts)))


def test_counts_and_seconds_are_added() -> None:
    """Passed, failed, skipped and warnings of all runs are one line."""
    first = "....\n===== 2 failed, 300 passed, 1 skipped, 1 warning in 61.50s (0:01:01) =====\n"
    second = "= 20 passed, 2 errors in 100.25s =\nmake: *** [e2e] Error 1\n"

    assert summed(first, second) == "===== 2 failed, 320 passed, 1 skipped, 1 warning, 2 errors in 161.75s ====="


def test_a_quiet_run_counts_too() -> None:
    """`pytest -q` closes without the frame."""
    assert summed("....\n4 passed in 0.10s\n", "1 passed in 0.20s") == "===== 5 passed in 0.30s ====="


def test_a_run_without_a_closing_line_is_an_error(tmp_path: Path) -> None:
    """A run that was cut, or never began, cannot look like a success."""
    assert summed("1 passed in 0.20s", "collecting ...") == "===== 1 passed, 1 error in 0.20s ====="

    shown = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "nothing")], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "===== 1 error in 0.00s =====\n"
