"""A worker run as its user runs it, `python -m agent_worker start`, with its own folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]
from aiohttp import ClientError, ClientSession, ClientTimeout

from agent_worker.testing.processes import ChildProcess, free_port

_CHECKOUT = Path(__file__).resolve().parents[2]
_OWN_PREFIXES = ("AGENT_WORKER_", "LIVEKIT_", "DEEPGRAM_", "OPENAI_", "CARTESIA_")


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without anybody's LiveKit or provider settings, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIXES)}
    return kept | dict(extra)


class WorkerProcess:
    """One worker process tree; enter it to start it and wait until it is ready.

    Args:
        folder: where agent files, data and logs go; a second worker on it continues its journals.
        env: LiveKit's and the providers' variables, and any `AGENT_WORKER_*` that differ.
        agents: agent files by their content; the keys of `agents/*.yaml`.
        agent_name: what LiveKit dispatches to.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        agents: Sequence[Mapping[str, Any]],
        *,
        agent_name: str,
        ready_seconds: float = 60.0,
    ) -> None:
        self.folder = folder
        self.agent_name = agent_name
        self.health_port = free_port()
        self._ready_seconds = ready_seconds
        self._process: ChildProcess | None = None
        self.agents_dir = folder / "agents"
        self.data_dir = folder / "data"
        self.agents_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        for agent in agents:
            # JSON is YAML.
            (self.agents_dir / f"{agent['name']}.yaml").write_text(json.dumps(agent, indent=2, ensure_ascii=False))
        self.env = {
            "AGENT_WORKER_AGENT_NAME": agent_name,
            "AGENT_WORKER_AGENTS_DIR": str(self.agents_dir),
            "AGENT_WORKER_PROMPTS_DIR": str(_CHECKOUT / "prompts"),
            "AGENT_WORKER_TOOLS_DIR": str(_CHECKOUT / "tools"),
            "AGENT_WORKER_DATA_DIR": str(self.data_dir),
            "AGENT_WORKER_HEALTH_PORT": str(self.health_port),
            **env,
        }

    async def __aenter__(self) -> Self:
        """Start and wait until ready."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once, with all its processes."""
        if self._process is not None and self._process.exit_code is None:
            await self.kill_all()

    async def start(self) -> None:
        """Start, and wait until `GET /readyz` answers 200.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        command = [sys.executable, "-m", "agent_worker", "start"]
        self._process = await ChildProcess.start(
            "worker", command, log_dir=self.folder, env=clean_environment(self.env), cwd=_CHECKOUT
        )
        await self.wait_ready()

    @property
    def process(self) -> ChildProcess:
        """The parent process."""
        assert self._process is not None, "start the worker first"
        return self._process

    @property
    def pid(self) -> int:
        """The parent's process id."""
        return self.process.pid

    def log(self) -> str:
        """Return everything it logged."""
        return self.process.log.read_text(errors="replace")

    async def health(self) -> dict[str, Any] | None:
        """Return what `GET /readyz` says, with `http_status`; None when nothing answers."""
        url = f"http://127.0.0.1:{self.health_port}/readyz"
        try:
            async with ClientSession(timeout=ClientTimeout(total=2)) as client, client.get(url) as answer:
                body: dict[str, Any] = await answer.json()
                return body | {"http_status": answer.status}
        except (ClientError, TimeoutError, ValueError):
            return None

    async def wait_ready(self) -> None:
        """Wait until it takes calls.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        deadline = asyncio.get_running_loop().time() + self._ready_seconds
        while self.process.exit_code is None and asyncio.get_running_loop().time() < deadline:
            health = await self.health()
            if health is not None and health["http_status"] == 200:
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"the worker is not ready (exit code {self.process.exit_code}):\n{self.process.tail()}")

    async def terminate(self, timeout: float = 60.0) -> int:
        """Send TERM and return the exit code, as an orderly stop.

        Raises:
            TimeoutError: it still runs.
        """
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait(timeout)

    def tree(self) -> list[psutil.Process]:
        """Return the parent and all its processes."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def job_processes(self) -> list[psutil.Process]:
        """Return the processes of calls, busy or waiting for one."""
        return [process for process in self.tree() if _is_job(process)]

    async def kill_parent(self) -> None:
        """Kill the parent only, as the kernel would for want of memory."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait(10)

    async def kill_all(self) -> None:
        """Kill every process at once, as a machine that loses power."""
        tree = self.tree()
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        await self.process.wait(10)
        await asyncio.to_thread(psutil.wait_procs, tree[1:], 5)


def _is_job(process: psutil.Process) -> bool:
    # Job processes are forked from the fork server: its children, not the worker's.
    try:
        parent = process.parent()
        return parent is not None and any("forkserver" in word for word in parent.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
