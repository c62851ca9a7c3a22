"""The control plane run as its user runs it, `python -m agent_worker serve`, with its own folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from agent_worker.testing.product_process import ProductProcess

TOKEN = "a-token-of-the-tests-0123456789"


class ServeProcess(ProductProcess):
    """One `serve`; enter it to start it and wait until it is ready.

    Args:
        folder: where agent files, data and logs go; a second one on it continues its database.
        env: any variables that differ.
        agents: agent files by their content; the keys of `agents/*.yaml`.
    """

    command: ClassVar[str] = "serve"
    name: ClassVar[str] = "serve"

    def __init__(
        self,
        folder: Path,
        agents: Sequence[Mapping[str, Any]],
        *,
        env: Mapping[str, str] | None = None,
        token: str = TOKEN,
        ready_seconds: float = 60.0,
    ) -> None:
        super().__init__(folder, agents, ready_seconds=ready_seconds)
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = token
        self.env |= {
            "AGENT_WORKER_API_PORT": str(self.port),
            "AGENT_WORKER_CONTROL_TOKEN": token,
            **(env or {}),
        }

    @property
    def worker_env(self) -> dict[str, str]:
        """What a worker needs to be told to use it."""
        return {"AGENT_WORKER_CONTROL_URL": self.url, "AGENT_WORKER_CONTROL_TOKEN": self.token}
