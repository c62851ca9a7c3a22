"""The workers that are measured, and what they cost: processor time and memory of all their processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import ChildProcess
from agent_worker.testing.stack import LiveKitStack
from agent_worker.testing.worker_process import WorkerProcess, clean_environment
from bench.script import GREETING, INSTRUCTIONS

ROOT = Path(__file__).resolve().parents[1]

PRE_CALL_SECONDS = 0.3
"""How long the webhook of `asking` takes to answer."""


@dataclass(frozen=True)
class Contender:
    """A worker that answers a number."""

    name: str
    number: str
    pid: int


@asynccontextmanager
async def plain(stack: LiveKitStack, env: Mapping[str, str], folder: Path) -> AsyncIterator[Contender]:
    """Run the plain LiveKit Agents worker."""
    number = "+15550201"
    inbound = await stack.route_number([number], "plain")
    extra = {"BENCH_GREETING": GREETING, "BENCH_AGENT_NAME": "plain"}
    process = await ChildProcess.start(
        "plain",
        [sys.executable, "-m", "bench.plain_worker", "start"],
        log_dir=folder,
        env=clean_environment(stack.env | dict(env) | extra),
        cwd=ROOT,
    )
    try:
        await process.wait_logged("registered worker", 60)
        yield Contender("plain", number, process.pid)
    finally:
        await process.stop(term_seconds=15)
        await stack.forget_number(inbound)


@asynccontextmanager
async def ours(stack: LiveKitStack, env: Mapping[str, str], folder: Path, *, record: bool) -> AsyncIterator[Contender]:
    """Run this project's worker as its user does."""
    async with _worker(stack, env, folder, "ours", "+15550202", {"record": record}) as contender:
        yield contender


@asynccontextmanager
async def asking(
    stack: LiveKitStack, env: Mapping[str, str], folder: Path, *, record: bool
) -> AsyncIterator[Contender]:
    """Run the same worker with an agent that asks a webhook before each call."""
    async with HookReceiver() as hook:
        hook.answer_with(
            {"systemPrompt": INSTRUCTIONS, "metadata": {"customerId": "cus_1"}}, delay_ms=PRE_CALL_SECONDS * 1000
        )
        changes = {"record": record, "webhooks": {"preCall": {"url": hook.url}}}
        allow = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1"}
        async with _worker(stack, {**env, **allow}, folder, "asking", "+15550203", changes) as contender:
            yield contender


@asynccontextmanager
async def _worker(
    stack: LiveKitStack, env: Mapping[str, str], folder: Path, name: str, number: str, changes: Mapping[str, Any]
) -> AsyncIterator[Contender]:
    agent: dict[str, Any] = {
        "name": "front-desk",
        "systemPrompt": INSTRUCTIONS,
        "firstMessage": GREETING,
        "numbers": [number],
        **changes,
    }
    inbound = await stack.route_number([number], name)
    slots = {"AGENT_WORKER_CALL_SLOTS": str(max(12, (os.cpu_count() or 1) * 5))}
    worker = WorkerProcess(folder / name, stack.env | dict(env) | slots, [agent], agent_name=name)
    try:
        async with worker:
            yield Contender(name, number, worker.pid)
            await worker.terminate()
    finally:
        await stack.forget_number(inbound)


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all below it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@dataclass
class CpuMeter:
    """Adds up processor seconds of a tree whose processes come and go, by looking once a second."""

    pid: int
    seconds: float = 0.0
    _last: dict[int, float] = field(default_factory=dict)

    def sample(self, *, first: bool = False) -> None:
        """Look once; what a process used before the first look does not count."""
        for process in tree(self.pid):
            try:
                used = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            total = used.user + used.system
            before = self._last.get(process.pid)
            self._last[process.pid] = total
            if not first:
                self.seconds += total - (before or 0.0)

    async def run(self) -> None:
        """Look once a second until cancelled."""
        self.sample(first=True)
        while True:
            await asyncio.sleep(1.0)
            self.sample()


def call_memory_mib(pid: int) -> float | None:
    """Return the unique memory (USS) of the biggest job process: the one with the call."""
    biggest = 0.0
    for process in tree(pid):
        try:
            parent = process.parent()
            if parent is not None and any("forkserver" in word for word in parent.cmdline()):
                biggest = max(biggest, process.memory_full_info().uss / 2**20)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return biggest or None
