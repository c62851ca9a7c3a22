"""`up`: two programs kept running, stopped in order, and none of them left behind; with small real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from agent_worker.stop_signals import SAME_SECONDS
from agent_worker.testing.processes import ChildProcess, free_port
from agent_worker.testing.product_process import clean_environment

PROGRAM = """
import os, signal, sys, time
name, folder, ending, seconds = sys.argv[1:5]
def note(word):
    with open(f"{folder}/said", "a") as said:
        said.write(f"{name} {word} {os.getpid()}\\n")
def stop(number, frame):
    note("told")
    time.sleep(float(seconds))
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop if ending != "deaf" else signal.SIG_IGN)
note("started")
if ending.isdigit():
    sys.exit(int(ending))
while True:
    time.sleep(0.05)
"""

SUPERVISOR = """
import asyncio, json, sys
from agent_worker.cli_up import Pauses, Program, Supervisor
from agent_worker.logging_setup import configure_logging
from agent_worker.settings import Settings

async def main(about):
    programs = [Program(each["name"], each["command"], each["stop_seconds"]) for each in about["programs"]]
    return await Supervisor(programs, Pauses(0.05, 0.2, about["steady_seconds"], loop_ends=3)).run()

configure_logging(Settings())
sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
"""


class Supervised:
    """A supervisor in a process of its own, and what its programs said."""

    def __init__(self, folder: Path, process: ChildProcess) -> None:
        self.folder = folder
        self.process = process

    def said(self) -> list[tuple[str, str, int]]:
        """Who said what, with its process id, in order."""
        file = self.folder / "said"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(name, word, int(pid)) for name, word, pid in (line.split() for line in lines if line.count(" ") == 2)]

    def words(self, *left_out: str) -> list[str]:
        return [f"{name} {word}" for name, word, _ in self.said() if word not in left_out]

    def pids(self, name: str) -> list[int]:
        return [pid for who, word, pid in self.said() if who == name and word == "started"]

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.process.logged().splitlines() if line.startswith("{")]

    async def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - other processes write the file
                await asyncio.sleep(0.02)

    async def both_started(self) -> None:
        await self.until(lambda: self.pids("serve") and self.pids("worker"))


@asynccontextmanager
async def supervised(
    folder: Path,
    root: Path,
    *,
    serve: str = "well",
    worker: str = "well",
    worker_seconds: float = 0.0,
    stop_seconds: float = 20.0,
    steady_seconds: float = 60.0,
) -> AsyncIterator[Supervised]:
    """Run two programs: `well` ones run until told, `deaf` ones do not listen, a number is an exit code at once."""
    about = {
        "programs": [
            {
                "name": name,
                "command": [sys.executable, "-c", PROGRAM, name, str(folder), ending, str(seconds)],
                "stop_seconds": stop_seconds,
            }
            for name, ending, seconds in (("serve", serve, 0.0), ("worker", worker, worker_seconds))
        ],
        "steady_seconds": steady_seconds,
    }
    command = [sys.executable, "-c", SUPERVISOR, json.dumps(about)]
    process = await ChildProcess.start("up", command, log_dir=folder, env=clean_environment({}), cwd=root)
    made = Supervised(folder, process)
    try:
        yield made
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait(10)
        for _, _, pid in made.said():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_signal_stops_both_the_worker_first(tmp_path: Path, root: Path, number: signal.Signals) -> None:
    """The control plane is told to stop only once the worker has drained; the exit code is 0."""
    async with supervised(tmp_path, root, worker_seconds=0.5) as up:
        await up.both_started()
        up.process.send_signal(number)
        assert await up.process.wait(20) == 0
        stopping = [word for word in up.words() if "started" not in word]
        assert stopping == ["worker told", "worker stopped", "serve told", "serve stopped"]


async def test_ctrl_c_in_a_terminal_reaches_the_supervisor_alone(tmp_path: Path, root: Path) -> None:
    """A signal to the foreground process group must not stop the control plane before the worker."""
    async with supervised(tmp_path, root) as up:
        await up.both_started()
        group = os.getpgid(up.process.pid)
        assert {os.getpgid(pid) for _, _, pid in up.said()}.isdisjoint({group})


async def test_a_program_that_dies_is_started_again_and_the_other_goes_on(tmp_path: Path, root: Path) -> None:
    """`kill -9` of either: a new process of that name, the same one of the other."""
    async with supervised(tmp_path, root) as up:
        await up.both_started()
        for name, other in (("serve", "worker"), ("worker", "serve")):
            before, others = up.pids(name), up.pids(other)
            os.kill(before[-1], signal.SIGKILL)
            await up.until(lambda name=name, before=before: up.pids(name) != before)
            assert up.pids(other) == others
            assert alive(others[-1])
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait(20) == 0
    ended = [entry for entry in up.logged() if entry["message"] == "ended by itself, starting it again"]
    assert [(entry["program"], entry["exit_code"]) for entry in ended] == [("serve", -9), ("worker", -9)]


async def test_a_crash_loop_is_told_and_tried_on_with_longer_pauses(tmp_path: Path, root: Path) -> None:
    """A program that always ends is an error in the log with its exit code; the other is not touched."""
    async with supervised(tmp_path, root, worker="7") as up:
        await up.until(lambda: len(up.pids("worker")) >= 5)
        assert len(up.pids("serve")) == 1
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait(20) == 0
    told = [entry for entry in up.logged() if entry.get("program") == "worker" and "exit_code" in entry]
    assert [entry["again_in_seconds"] for entry in told[:4]] == [0.05, 0.1, 0.2, 0.2]
    assert [entry["level"] for entry in told[:4]] == ["WARNING", "WARNING", "ERROR", "ERROR"]
    assert {entry["exit_code"] for entry in told} == {7}
    assert told[3]["ends_in_a_row"] == 4


async def test_a_program_that_ran_for_a_while_starts_from_the_shortest_pause(tmp_path: Path, root: Path) -> None:
    """What it did before it was well is forgotten."""
    async with supervised(tmp_path, root, steady_seconds=0.0) as up:
        await up.both_started()
        for count in (1, 2, 3):
            os.kill(up.pids("worker")[-1], signal.SIGKILL)
            await up.until(lambda count=count: len(up.pids("worker")) > count)
    told = [entry for entry in up.logged() if "again_in_seconds" in entry]
    assert [entry["again_in_seconds"] for entry in told] == [0.05] * 3


async def test_a_wrong_configuration_at_the_first_start_stops_both(tmp_path: Path, root: Path) -> None:
    """Exit code 2 is not tried again: it is passed on, and the other program is stopped well."""
    async with supervised(tmp_path, root, worker="2") as up:
        assert await up.process.wait(20) == 2
        assert len(up.pids("worker")) == 1
        assert not any(alive(pid) for pid in up.pids("serve"))


async def test_a_second_signal_stops_at_once(tmp_path: Path, root: Path) -> None:
    """A worker that is draining is cut off; nothing of it stays, and the exit code says so."""
    async with supervised(tmp_path, root, worker_seconds=600) as up:
        await up.both_started()
        up.process.send_signal(signal.SIGTERM)
        await up.until(lambda: "worker told" in up.words())
        await asyncio.sleep(SAME_SECONDS)
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait(20) == 1
        assert not any(alive(pid) for _, _, pid in up.said())


async def test_two_signals_at_the_same_moment_are_one(tmp_path: Path, root: Path) -> None:
    """As when a terminal's Ctrl-C and its sender's TERM meet: everything is stopped in order."""
    async with supervised(tmp_path, root, worker_seconds=0.5) as up:
        await up.both_started()
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait(20) == 0
        assert "worker stopped" in up.words()


async def test_a_program_that_does_not_stop_in_time_is_killed(tmp_path: Path, root: Path) -> None:
    """One that does not listen does not keep the other, nor the supervisor, from stopping."""
    async with supervised(tmp_path, root, worker="deaf", stop_seconds=0.5) as up:
        await up.both_started()
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait(20) == 1
        assert up.words("started") == ["serve told", "serve stopped"]
        assert not any(alive(pid) for _, _, pid in up.said())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux only")
async def test_a_killed_supervisor_leaves_nobody_behind(tmp_path: Path, root: Path) -> None:
    """After `kill -9` both programs are told to stop as by a signal, and are gone."""
    async with supervised(tmp_path, root) as up:
        await up.both_started()
        up.process.send_signal(signal.SIGKILL)
        await up.process.wait(10)
        await up.until(lambda: not any(alive(pid) for _, _, pid in up.said()))
        assert {"worker stopped", "serve stopped"} <= set(up.words())


# --- the command itself


def up_env(folder: Path, root: Path, **changes: str) -> dict[str, str]:
    return clean_environment(
        {
            "LIVEKIT_URL": "ws://127.0.0.1:9",
            "LIVEKIT_API_KEY": "key",
            "LIVEKIT_API_SECRET": "a-secret-of-thirty-two-characters",
            "AGENT_WORKER_DATA_DIR": str(folder / "data"),
            "AGENT_WORKER_AGENTS_DIR": str(root / "agent_worker" / "simulation" / "agents"),
            "AGENT_WORKER_API_PORT": str(free_port()),
            "AGENT_WORKER_HEALTH_PORT": str(free_port()),
        }
        | changes
    )


@asynccontextmanager
async def running_up(folder: Path, root: Path, **changes: str) -> AsyncIterator[tuple[ChildProcess, dict[str, str]]]:
    env = up_env(folder, root, **changes)
    command = [sys.executable, "-m", "agent_worker", "up"]
    process = await ChildProcess.start("up", command, log_dir=folder, env=env, cwd=root)
    try:
        yield process, env
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait(10)


async def answers(process: ChildProcess, url: str, *statuses: int) -> None:
    async with asyncio.timeout(90), httpx.AsyncClient() as client:
        while process.exit_code is None:
            try:
                if (await client.get(url, timeout=2)).status_code in statuses:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError(process.tail())


async def test_up_runs_both_processes_and_stops_them(tmp_path: Path, root: Path) -> None:
    """API and worker answer while LiveKit is away, also after the API was killed; TERM ends all with 0."""
    async with running_up(tmp_path, root) as (process, env):
        api = f"http://127.0.0.1:{env['AGENT_WORKER_API_PORT']}/readyz"
        health = f"http://127.0.0.1:{env['AGENT_WORKER_HEALTH_PORT']}/readyz"
        await answers(process, api, 200)
        await answers(process, health, 200, 503)
        async with httpx.AsyncClient(trust_env=False) as prometheus, asyncio.timeout(30):
            told = ""
            while "agent_worker_control_plane_up 1.0" not in told:
                told = (await prometheus.get(health.replace("/readyz", "/metrics"))).text
                await asyncio.sleep(0.1)
        assert "agent_worker_calls_live 0.0" in told
        children = psutil.Process(process.pid).children()
        [serve] = [child for child in children if child.cmdline()[-1] == "serve"]
        serve.kill()
        await process.wait_logged("ended by itself", 30)
        await answers(process, api, 200)
        everybody = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        assert await process.wait(60) == 0
        async with asyncio.timeout(20):
            while any(alive(child.pid) for child in everybody):  # noqa: ASYNC110 - they are not our children
                await asyncio.sleep(0.1)
    lines = [json.loads(line) for line in process.logged().splitlines() if line.startswith("{")]
    assert {line["process"] for line in lines} == {"up", "serve", "worker"}


async def test_up_refuses_what_it_cannot_run(tmp_path: Path, root: Path) -> None:
    """A mistake in an agent file ends it with 2 and the mistake; so does another host's control plane."""
    broken = tmp_path / "agents"
    broken.mkdir()
    (broken / "desk.yaml").write_text("nmae: desk\n")
    async with running_up(tmp_path, root, AGENT_WORKER_AGENTS_DIR=str(broken)) as (process, _):
        assert await process.wait(60) == 2
        assert "desk.yaml" in process.logged()
    async with running_up(tmp_path, root, AGENT_WORKER_CONTROL_URL="https://control.example") as (process, _):
        assert await process.wait(60) == 2
        assert "AGENT_WORKER_CONTROL_URL is set" in process.logged()
