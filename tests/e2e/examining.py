"""The doctor at a real LiveKit: its command, its findings, and desks to examine."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from agent_worker.config.catalog import load_catalog
from agent_worker.doctor.checks import checks
from agent_worker.doctor.examination import Check, Examination, examine
from agent_worker.doctor.finding import Finding, Status
from agent_worker.settings import Settings
from agent_worker.testing.stack import Inbound
from agent_worker.testing.worker_process import WorkerProcess, clean_environment
from tests.e2e.rig import Rig

ROOT = Path(__file__).resolve().parents[2]
CLIP_RATE = 16_000
OK, WARNING, FAILED, SKIPPED = Status.OK, Status.WARNING, Status.FAILED, Status.SKIPPED
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def environment(rig: Rig, worker: WorkerProcess, **changes: str) -> dict[str, str]:
    """What a doctor on the worker's machine has in its environment."""
    host, port = rig.stack.sip_address
    return clean_environment(worker.env | {"AGENT_WORKER_SIP_ADDRESS": f"{host}:{port}"} | changes)


async def command(env: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run the doctor the way a person does; returns exit code, stdout and stderr."""
    process = await start(env, *arguments)
    async with asyncio.timeout(180):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def start(env: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent_worker",
        "doctor",
        *arguments,
        env=dict(env),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def found(env: Mapping[str, str], *names: str, number: str | None = None) -> list[Finding]:
    """Make some checks in this process, and those they need, and return what they found."""
    settings = settings_of(env)
    exam = Examination(lambda: [], env=env, settings=settings, catalog=load_catalog(settings), number=number)
    everything = checks(call=True)
    await examine(exam, [check for check in everything if check.name in needed(everything, names)])
    return exam.findings


def needed(everything: Sequence[Check], names: Sequence[str]) -> set[str]:
    wanted = set(names)
    while more := {need for check in everything if check.name in wanted for need in check.needs} - wanted:
        wanted |= more
    # the lists of trunks and rules come with the check of the bridge
    return wanted | ({"bridge"} if "numbers" in wanted else set())


def settings_of(env: Mapping[str, str]) -> Settings:
    own = {key.removeprefix("AGENT_WORKER_").lower(): value for key, value in env.items() if key.startswith("AGENT_")}
    livekit = {key: value for key, value in env.items() if key.startswith("LIVEKIT_")}
    return Settings(**own, **livekit)  # type: ignore[arg-type]


def of(findings: Sequence[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def only(findings: Sequence[Finding], check: str) -> Finding:
    [finding] = of(findings, check)
    return finding


@asynccontextmanager
async def desk(rig: Rig, folder: Path, *, numbers: Sequence[str] = (), **agent: Any) -> AsyncIterator[WorkerProcess]:
    """An installation whose worker does not run: its files, its environment, its name."""
    name = f"desk-{rig.next_number()[1:]}"
    content = rig.agent(numbers=list(numbers), **agent)
    yield WorkerProcess(folder, rig.stack.env | rig.providers.env, [content], agent_name=name)


@asynccontextmanager
async def routed(rig: Rig, numbers: Sequence[str], agent: str, **options: Any) -> AsyncIterator[Inbound]:
    inbound = await rig.stack.route_number(numbers, agent, **options)
    try:
        yield inbound
    finally:
        await rig.stack.forget_number(inbound)


@asynccontextmanager
async def served(handler: Any) -> AsyncIterator[str]:
    """Serve every path with one handler on a free port; the URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
