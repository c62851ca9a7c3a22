"""Worker and control plane run as their user runs them on one machine, `python -m agent_worker up`."""

from __future__ import annotations

from typing import Any, ClassVar

import psutil  # type: ignore[import-untyped]

from agent_worker.testing.processes import free_port
from agent_worker.testing.worker_process import WorkerProcess


class UpProcess(WorkerProcess):
    """One `up`: the supervisor's tree; enter it to start it and wait until its worker takes calls.

    Attributes:
        url: where its API is.
    """

    command: ClassVar[str] = "up"
    name: ClassVar[str] = "up"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.env = {"AGENT_WORKER_API_PORT": str(port), **self.env}

    def child(self, command: str) -> psutil.Process:
        """Return the process that runs `start` or `serve`."""
        [found] = [each for each in psutil.Process(self.pid).children() if each.cmdline()[-1] == command]
        return found
