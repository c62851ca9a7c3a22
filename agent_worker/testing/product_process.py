"""A command of the product run as its user runs it, `python -m agent_worker …`, with its own folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from aiohttp import ClientError, ClientSession, ClientTimeout

from agent_worker.testing.processes import ChildProcess, free_port

_CHECKOUT = Path(__file__).resolve().parents[2]
_OWN_PREFIXES = ("AGENT_WORKER_", "LIVEKIT_", "DEEPGRAM_", "OPENAI_", "CARTESIA_")


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without anybody's LiveKit or provider settings, and with `extra`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN_PREFIXES)}
    return kept | dict(extra)


class ProductProcess:
    """One command that runs until it is stopped; enter it to start it and wait until it is ready.

    Args:
        folder: where agent files, data and logs go; a second one on it continues what the first left.
        agents: agent files by their content; the keys of `agents/*.yaml`.

    Attributes:
        env: its variables; each command adds its own.
        port: where it answers `GET /readyz`.
    """

    command: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, folder: Path, agents: Sequence[Mapping[str, Any]], *, ready_seconds: float) -> None:
        self.folder = folder
        self.agents_dir = folder / "agents"
        self.data_dir = folder / "data"
        self.port = free_port()
        self._ready_seconds = ready_seconds
        self._process: ChildProcess | None = None
        self.agents_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(exist_ok=True)
        for agent in agents:
            # JSON is YAML.
            (self.agents_dir / f"{agent['name']}.yaml").write_text(json.dumps(agent, indent=2, ensure_ascii=False))
        self.env = {
            "AGENT_WORKER_AGENTS_DIR": str(self.agents_dir),
            "AGENT_WORKER_PROMPTS_DIR": str(_CHECKOUT / "prompts"),
            "AGENT_WORKER_DATA_DIR": str(self.data_dir),
        }

    async def __aenter__(self) -> Self:
        """Start and wait until ready."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop at once."""
        if self._process is not None and self._process.exit_code is None:
            await self.kill()

    async def start(self, *, wait: bool = True) -> None:
        """Start, and wait until `GET /readyz` answers 200.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        command = [sys.executable, "-m", "agent_worker", self.command]
        self._process = await ChildProcess.start(
            self.name, command, log_dir=self.folder, env=clean_environment(self.env), cwd=_CHECKOUT
        )
        if wait:
            await self.wait_ready()

    @property
    def process(self) -> ChildProcess:
        """The process, the parent where it has children."""
        assert self._process is not None, "start it first"
        return self._process

    def log(self) -> str:
        """Return everything it logged."""
        return self.process.log.read_text(errors="replace")

    @property
    def api_key(self) -> str:
        """The first key of its API, as it was printed."""
        [line] = [line for line in self.log().splitlines() if line.startswith("API key: ")]
        return line.removeprefix("API key: ")

    async def health(self) -> dict[str, Any] | None:
        """Return what `GET /readyz` says, with `http_status`; None when nothing answers."""
        url = f"http://127.0.0.1:{self.port}/readyz"
        try:
            async with ClientSession(timeout=ClientTimeout(total=2)) as client, client.get(url) as answer:
                body: dict[str, Any] = await answer.json()
                return body | {"http_status": answer.status}
        except (ClientError, TimeoutError, ValueError):
            return None

    async def wait_ready(self) -> None:
        """Wait until it takes what it is there for.

        Raises:
            RuntimeError: it ended, or is not ready in time; with the end of its log.
        """
        deadline = asyncio.get_running_loop().time() + self._ready_seconds
        while self.process.exit_code is None and asyncio.get_running_loop().time() < deadline:
            health = await self.health()
            if health is not None and health["http_status"] == 200:
                return
            await asyncio.sleep(0.05)
        raise RuntimeError(f"{self.name} is not ready (exit code {self.process.exit_code}):\n{self.process.tail()}")

    async def terminate(self, timeout: float = 60.0) -> int:
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
