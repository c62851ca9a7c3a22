"""A throw-away PostgreSQL of this test process: started by the first test that asks, gone with the process."""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from agent_worker.testing.processes import free_port

INSTALLED = Path("/usr/lib/postgresql")
"""Where Debian puts the server's programs, a folder for each version and none of them in PATH."""

UNPRIVILEGED = ("postgres", "nobody")
START_SECONDS = 60.0
TRIES = 3
_PR_SET_PDEATHSIG = 1

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    # nothing here outlives the tests, so nothing needs to reach the disk
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


@functools.cache
def server_url() -> str | None:
    """Return the URL of this process's server, started where it does not run yet; None where none is installed.

    Raises:
        RuntimeError: it is installed and does not start; with its log.
    """
    programs = find_programs()
    if programs is None:
        return None
    server = _start(programs)
    atexit.register(_stop, server)
    return server.url


def find_programs() -> Path | None:
    """Return the newest folder that has both `initdb` and `postgres`."""
    versions = INSTALLED.glob("*/bin") if INSTALLED.is_dir() else []
    newest_first = sorted(versions, key=lambda folder: float(folder.parent.name), reverse=True)
    in_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    for folder in [*newest_first, *in_path]:
        if all((folder / name).is_file() for name in ("initdb", "postgres")):
            return folder
    return None


@dataclass
class _Server:
    process: subprocess.Popen[bytes]
    folder: Path
    url: str


def _start(programs: Path) -> _Server:
    folder = Path(tempfile.mkdtemp(prefix="agent-worker-postgres-"))
    owner = _owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    identity: dict[str, Any] = (
        {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    )
    identity |= {"cwd": folder, "env": {"PATH": os.defpath, "HOME": str(folder), "LC_ALL": "C"}}
    data = folder / "data"
    command = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
    made = subprocess.run(
        [*command, "--locale=C", "--no-sync"], **identity, check=False, capture_output=True, timeout=START_SECONDS
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"initdb failed:\n{made.stderr.decode(errors='replace')}")
    for _ in range(TRIES):
        server = _run(programs / "postgres", data, folder, identity)
        if _answers(server):
            return server
        server.process.kill()
        server.process.wait()
    log = (folder / "log").read_text(errors="replace")
    shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError(f"PostgreSQL is installed in {programs} and does not start:\n{log}")


def _owner() -> pwd.struct_passwd | None:
    """Return whom the server runs as where that is not us: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError(f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)}.")


def _run(program: Path, data: Path, folder: Path, identity: dict[str, Any]) -> _Server:
    port = free_port()
    options = OPTIONS | {"port": str(port), "unix_socket_directories": str(folder)}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(program), "-D", str(data), *(word for item in options.items() for word in ("-c", "=".join(item)))],
            **identity,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the tests; they stop it when they are done
            preexec_fn=_quit_with_parent,
        )
    return _Server(process, folder, f"postgresql://postgres@127.0.0.1:{port}/postgres")


def _quit_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _answers(server: _Server) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(server.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return True
    return False


def _stop(server: _Server) -> None:
    server.process.send_signal(signal.SIGQUIT)
    try:
        server.process.wait(10)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    shutil.rmtree(server.folder, ignore_errors=True)
