"""A worker run as its user runs it, `python -m agent_worker start`, with its own folder."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil  # type: ignore[import-untyped]

from agent_worker.testing.product_process import ProductProcess, clean_environment

__all__ = ["WorkerProcess", "clean_environment"]

_CHECKOUT = Path(__file__).resolve().parents[2]


class WorkerProcess(ProductProcess):
    """One worker process tree; enter it to start it and wait until it is ready.

    Args:
        folder: where agent files, data and logs go; a second worker on it continues its journals.
        env: LiveKit's and the providers' variables, and any `AGENT_WORKER_*` that differ.
        agents: agent files by their content; the keys of `agents/*.yaml`.
        agent_name: what LiveKit dispatches to.
    """

    command: ClassVar[str] = "start"
    name: ClassVar[str] = "worker"

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        agents: Sequence[Mapping[str, Any]],
        *,
        agent_name: str,
        ready_seconds: float = 60.0,
    ) -> None:
        super().__init__(folder, agents, ready_seconds=ready_seconds)
        self.agent_name = agent_name
        self.health_port = self.port
        self.env |= {
            "AGENT_WORKER_AGENT_NAME": agent_name,
            "AGENT_WORKER_TOOLS_DIR": str(_CHECKOUT / "tools"),
            "AGENT_WORKER_HEALTH_PORT": str(self.health_port),
            **env,
        }

    @property
    def pid(self) -> int:
        """The parent's process id."""
        return self.process.pid

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
        await super().kill()

    async def kill(self) -> None:
        """Kill every process at once."""
        await self.kill_all()

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
