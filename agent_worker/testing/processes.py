"""Child processes of a test: started with a log file, stopped by pid, gone when the test process dies."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """Return a port nobody listens on now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def free_port_both(host: str = "127.0.0.1") -> int:
    """Return a port that is free for TCP and UDP.

    Raises:
        OSError: none was found in 50 tries.
    """
    for _ in range(50):
        port = free_port(socket.SOCK_STREAM, host)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError("no port free for both TCP and UDP")


def _open_log(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    return log.open("ab")


class ChildProcess:
    """A running program whose output goes to one log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, log_start: int) -> None:
        self.name = name
        self.log = log
        self._process = process
        # What an earlier process of this name wrote is not this one's.
        self._log_start = log_start

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log_dir: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> ChildProcess:
        """Start a program.

        Raises:
            OSError: it cannot be started.
        """
        log = log_dir / f"{name}.log"
        with _open_log(log) as sink:
            log_start = sink.tell()
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                preexec_fn=_die_with_parent,
            )
        return cls(name, process, log, log_start)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when it is gone."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self, timeout: float) -> int:
        """Wait for its end and return the exit code.

        Raises:
            TimeoutError: it still runs.
        """
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def stop(self, *, term_seconds: float = 5.0, then: signal.Signals = signal.SIGKILL) -> int:
        """Send TERM, after `term_seconds` the harder signal, then KILL; return the exit code."""
        for number, patience in ((signal.SIGTERM, term_seconds), (then, 2.0), (signal.SIGKILL, 10.0)):
            self.send_signal(number)
            try:
                return await self.wait(patience)
            except TimeoutError:
                continue
        raise RuntimeError(f"{self.name} (pid {self.pid}) does not die")

    async def wait_logged(self, text: str, timeout: float) -> None:
        """Wait until its log holds a text.

        Raises:
            RuntimeError: it ended, or the text does not come; with the end of its log.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while self.exit_code is None and asyncio.get_running_loop().time() < deadline:
            if text in self.logged():
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{self.name} did not log {text!r} (exit code {self.exit_code}):\n{self.tail()}")

    def logged(self) -> str:
        """Return what it has written so far."""
        with self.log.open("rb") as source:
            source.seek(self._log_start)
            return source.read().decode(errors="replace")

    def tail(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.logged().splitlines()[-lines:])


async def wait_until_listening(
    port: int, process: ChildProcess, *, timeout: float = 15.0, host: str = "127.0.0.1"
) -> None:
    """Wait until a TCP connection is accepted.

    Raises:
        RuntimeError: the process ended, or does not listen in time; with the end of its log.
    """
    try:
        async with asyncio.timeout(timeout):
            while process.exit_code is None:
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return
    except TimeoutError:
        pass
    raise RuntimeError(f"{process.name} does not listen on {port} (exit code {process.exit_code}):\n{process.tail()}")
