"""`python -m bench`: measures this worker beside a plain LiveKit Agents worker and prints a table."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent_worker.testing.stack import StackBinaries
from bench.run import Plan, run
from bench.summary import Results, as_json, rows

ROOT = Path(__file__).resolve().parents[1]


def stack_binaries() -> StackBinaries:
    """Return the LiveKit programs, built where `make e2e` builds them."""
    spec = importlib.util.spec_from_file_location("stack_build", ROOT / "tests" / "e2e" / "stack" / "build.py")
    assert spec is not None and spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder: Path = build.stack_folder()
    build.build(folder)
    return StackBinaries.in_folder(folder)


def show(results: Results, console: Console) -> None:
    """Print the table."""
    machine = results.machine
    table = Table(title=f"At the phone's ear, {machine['cores']} cores, {machine['system']}", title_justify="left")
    table.add_column("p50 / p95", no_wrap=True)
    for worker in results.workers:
        table.add_column(worker, justify="right", no_wrap=True)
    for label, cells in rows(results):
        table.add_row(label, *cells)
    console.print(table)
    for call in results.calls:
        if not call.complete:
            console.print(f"incomplete: {call.worker}, {call.at_once} at once: {call.failure}", highlight=False)


def main() -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=["plain", "ours"], help="measure one of the two")
    parser.add_argument(
        "--pre-call", action="store_true", help="this worker with and without a webhook that answers in 300 ms"
    )
    parser.add_argument("--greeting-only", action="store_true", help="hang up after the greeting; many calls, quickly")
    parser.add_argument("--calls", type=int, default=10, help="single calls per worker (default 10)")
    parser.add_argument("--at-once", type=int, nargs="*", default=[5, 10], help="loads besides single calls")
    parser.add_argument("--record", action="store_true", help="let this worker record; the plain one cannot")
    parser.add_argument("--json", type=Path, help="write everything measured to a file")
    parser.add_argument("--logs", type=Path, help="keep the logs of every process in a folder")
    given = parser.parse_args()
    workers = ["ours", "asking"] if given.pre_call else [given.only] if given.only else ["plain", "ours"]
    console = Console()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        plan = Plan(
            workers=workers,
            calls=given.calls,
            at_once=given.at_once,
            record=given.record,
            greeting_only=given.greeting_only,
            folder=given.logs or Path(scratch),
            machine={
                "cores": os.cpu_count(),
                "system": platform.platform(),
                "python": sys.version.split()[0],
            },
        )
        results = asyncio.run(run(plan, stack_binaries(), console))
    show(results, console)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(as_json(results), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
