"""The control plane run as its user runs it, `python -m agent_worker serve`, with its own folder."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout

from agent_worker.testing.processes import ChildProcess, free_port
from agent_worker.testing.worker_process import clean_environment

_CHECKOUT = Path(__file__).resolve().parents[2]

TOKEN = "a-token-of-the-tests-0123456789"


class ServeProcess:
    """One `serve`; enter it to start it and wait until it is ready.

    Args:
        folder: where agent files, data and logs go; a second one on it continues its database.
        env: any variables that differ.
        agents: agent files by their content; the keys of `agents/*.yaml`.
    """

    def __init__(
        self,
        folder: Path,
        agents: Sequence[Mapping[str, Any]],
        *,
        env: Mapping[str, str] | None = None,
        token: str = TOKEN,
        ready_seconds: float = 60.0,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = token
        self._ready_seconds = ready_seconds
        self._process: ChildProcess | None = None
        agents_dir = folder / "agents"
        agents_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        for agent in agents:
            # JSON is YAML.
            (agents_dir / f"{agent['name']}.yaml").write_text(json.dumps(agent, indent=2, ensure_ascii=False))
        self.env = {
            "AGENT_WORKER_AGENTS_DIR": str(agents_dir),
            "AGENT_WORKER_PROMPTS_DIR": str(_CHECKOUT / "prompts"),
            "AGENT_WORKER_DATA_DIR": str(self.data_dir),
            "AGENT_WORKER_API_PORT": str(self.port),
            "AGENT_WORKER_CONTROL_TOKEN": token,
            **(env or {}),
        }

    @property
    def worker_env(self) -> dict[str, str]:
        """What a worker needs to be told to use it."""
        return {"AGENT_WORKER_CONTROL_URL": self.url, "AGENT_WORKER_CONTROL_TOKEN": self.token}

    async def __aenter__(self) -> Self:
        """Start and wait until ready."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once."""
        await self.kill()

    async def start(self, *, wait: bool = True) -> None:
        """Start, and wait until `GET /readyz` answers 200.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        command = [sys.executable, "-m", "agent_worker", "serve"]
        self._process = await ChildProcess.start(
            "serve", command, log_dir=self.folder, env=clean_environment(self.env), cwd=_CHECKOUT
        )
        if wait:
            await self.wait_ready()

    @property
    def process(self) -> ChildProcess:
        """The process."""
        assert self._process is not None, "start it first"
        return self._process

    def log(self) -> str:
        """Return everything it logged."""
        return self.process.log.read_text(errors="replace")

    async def readiness(self) -> dict[str, Any] | None:
        """Return what `GET /readyz` says, with `http_status`; None when nothing answers."""
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=2)) as client,
                client.get(f"{self.url}/readyz") as answer,
            ):
                body: dict[str, Any] = await answer.json()
                return body | {"http_status": answer.status}
        except (ClientError, TimeoutError, ValueError):
            return None

    async def wait_ready(self) -> None:
        """Wait until it takes facts.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        deadline = asyncio.get_running_loop().time() + self._ready_seconds
        while self.process.exit_code is None and asyncio.get_running_loop().time() < deadline:
            said = await self.readiness()
            if said is not None and said["http_status"] == 200:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"serve is not ready (exit code {self.process.exit_code}):\n{self.process.tail()}")

    async def terminate(self, timeout: float = 30.0) -> int:
        """Send TERM and return the exit code, as an orderly stop.

        Raises:
            TimeoutError: it still runs.
        """
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait(timeout)

    async def kill(self) -> None:
        """Kill it, as a machine that loses power."""
        if self._process is not None and self._process.exit_code is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait(10)
