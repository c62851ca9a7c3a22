"""Builds livekit-server and livekit-sip from the two pinned Go modules beside it; does nothing when they are there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("AGENT_WORKER_STACK_CACHE") or HERE.parents[2] / ".cache" / "stack")
PROGRAMS = {
    "livekit-server": ("server", "github.com/livekit/livekit-server/cmd/server"),
    "livekit-sip": ("sip", "github.com/livekit/sip/cmd/livekit-sip"),
}


def go_version() -> str:
    """Return what `go version` prints, or exit with a sentence when there is no Go."""
    if shutil.which("go") is None:
        sys.exit("The telephony test stack needs Go (1.26 or newer) to build livekit-server and livekit-sip.")
    return subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout.strip()


def stack_folder() -> Path:
    """Return where the programs for this checkout and this Go belong."""
    digest = hashlib.sha256(go_version().encode())
    for module, _ in PROGRAMS.values():
        for name in ("go.mod", "go.sum"):
            digest.update((HERE / module / name).read_bytes())
    return CACHE / digest.hexdigest()[:16]


def build(folder: Path) -> None:
    """Build what is missing, with one line before and after each program (a cold build takes about seven minutes)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (program, (module, package)) in enumerate(PROGRAMS.items(), start=1):
        target = folder / program
        if target.is_file():
            continue
        print(
            f"[{number}/{len(PROGRAMS)}] building {program} (some minutes when nothing is cached) ...",
            flush=True,
        )
        started = time.monotonic()
        # Built under another name first: an interrupted build leaves no program that looks complete.
        partial = folder / f"{program}.{os.getpid()}.partial"
        command = [
            "go",
            "-C",
            str(HERE / module),
            "build",
            "-trimpath",
            "-ldflags=-s -w",
            "-o",
            str(partial),
            package,
        ]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            sys.exit(f"Building {program} failed (exit code {done.returncode}).")
        partial.replace(target)
        print(f"[{number}/{len(PROGRAMS)}] {program} built in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    destination = stack_folder()
    build(destination)
    print(destination)
