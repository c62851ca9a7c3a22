"""Runs worker and control plane on one machine: two processes, each started again if it dies, stopped together."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agent_worker.errors import SettingsError
from agent_worker.logging_setup import PROCESS_VARIABLE, configure_logging
from agent_worker.settings import Settings
from agent_worker.stop_signals import on_stop_signals

logger = logging.getLogger("agent_worker.up")

EXIT_ERROR = 1
EXIT_CONFIGURATION = 2
SERVE_STOP_SECONDS = 30.0
"""Longer than `serve` takes to finish the requests in flight."""

DRAIN_MARGIN_SECONDS = 60.0
"""What a worker may take beyond its drain timeout to hang up, write and deliver."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Program:
    """One program that is to run all the time.

    Attributes:
        env: variables that differ from ours.
        stop_seconds: how long it may take to stop before it is killed.
    """

    name: str
    command: Sequence[str]
    stop_seconds: float
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pauses:
    """How long to wait before a program that died is started again: doubling, until it has run for a while.

    Attributes:
        steady_seconds: a program that ran this long is well; what it did before is forgotten.
        loop_ends: so many ends without being well in between are told as an error.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 30.0
    steady_seconds: float = 60.0
    loop_ends: int = 5

    def after(self, ends: int) -> float:
        """Return the pause after so many ends in a row, s."""
        return float(min(self.longest_seconds, self.first_seconds * 2.0 ** min(ends - 1, 30)))


class Child:
    """Keeps one program running until told to stop."""

    def __init__(self, program: Program, pauses: Pauses) -> None:
        self.name = program.name
        self._program = program
        self._pauses = pauses
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self.ended = asyncio.create_task(self._run(), name=program.name)

    async def _run(self) -> int:
        """Start it, and start it again when it ends; returns its last exit code.

        It returns by itself only where the program says at its first start that its configuration is wrong.
        """
        loop = asyncio.get_running_loop()
        ends = 0
        while True:
            started = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return 0 if code == -signal.SIGTERM else code  # it was asked before it knew how to stop
            well = loop.time() - started >= self._pauses.steady_seconds
            if code == EXIT_CONFIGURATION and ends == 0 and not well:
                return code
            ends = 1 if well else ends + 1
            pause = self._pauses.after(ends)
            self._tell(code, ends, pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                    return 0

    async def stop(self) -> int:
        """Ask it to stop, and wait; one that takes longer than it may is killed. Returns its exit code."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=self._program.stop_seconds)
        if not self.ended.done():
            logger.error("killed: it did not stop in time", extra={"program": self.name})
            self._signal(signal.SIGKILL)
        return await self.ended

    def kill(self) -> None:
        """End it at once, and do not start it again."""
        self._stopping.set()
        self._signal(signal.SIGKILL)

    async def _run_once(self) -> int:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._program.command,
                stdin=asyncio.subprocess.DEVNULL,
                env=os.environ | dict(self._program.env),
                # Ctrl-C reaches the whole foreground group: in a group of its own it is stopped by us, in order
                process_group=0,
                preexec_fn=_stop_with(os.getpid()),
            )
        except OSError as error:
            logger.error("cannot be started", extra={"program": self.name, "problem": str(error)})
            return EXIT_ERROR
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        logger.info("started", extra={"program": self.name, "pid": self._process.pid})
        return await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def _tell(self, code: int, ends: int, pause: float) -> None:
        about = {"program": self.name, "exit_code": code, "again_in_seconds": pause}
        if ends < self._pauses.loop_ends:
            logger.warning("ended by itself, starting it again", extra=about)
        else:
            logger.error(
                "ends again and again; what it says before it ends is above", extra=about | {"ends_in_a_row": ends}
            )


class Supervisor:
    """Runs programs together.

    Args:
        programs: in the order in which they are started; they are stopped in the opposite one.
    """

    def __init__(self, programs: Sequence[Program], pauses: Pauses | None = None) -> None:
        self._programs = programs
        self._pauses = pauses or Pauses()
        self._children: list[Child] = []
        self._stopping = asyncio.Event()
        self._forced = False

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, then stop all in order; a second signal kills them. Returns the exit code.

        0 where every program stopped well, 2 where one's configuration is wrong, else 1.
        """
        on_stop_signals(self._stop, self._stop_at_once)
        self._children = [Child(program, self._pauses) for program in self._programs]
        stopping = asyncio.create_task(self._stopping.wait())
        ended = [child.ended for child in self._children]
        await asyncio.wait({stopping, *ended}, return_when=asyncio.FIRST_COMPLETED)
        gave_up = [child.name for child in self._children if child.ended.done() and not self._stopping.is_set()]
        if gave_up:
            logger.error("does not start with this configuration: stopping", extra={"program": gave_up[0]})
            self._stopping.set()
        codes = [await child.stop() for child in reversed(self._children)]
        await stopping
        logger.info("stopped")
        if gave_up:
            return EXIT_CONFIGURATION
        return EXIT_ERROR if self._forced or any(codes) else 0

    def _stop(self) -> None:
        logger.info("stopping")
        self._stopping.set()

    def _stop_at_once(self) -> None:
        logger.warning("second signal: stopping at once")
        self._forced = True
        for child in self._children:
            child.kill()


def run_up(settings: Settings) -> int:
    """Run worker and control plane until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        SettingsError: the settings send the worker to another host's control plane.
    """
    if settings.control_url:
        raise SettingsError(
            "control_plane_elsewhere",
            "AGENT_WORKER_CONTROL_URL is set, and `up` runs the control plane here.",
            remedy="Unset it, or run `start` for a worker alone.",
        )
    text = sys.stderr.isatty()
    configure_logging(settings, text=text, process="up")
    return asyncio.run(_supervise(programs(settings, text=text)))


async def _supervise(all_programs: Sequence[Program]) -> int:
    return await Supervisor(all_programs).run()


def programs(settings: Settings, *, text: bool) -> list[Program]:
    """Return the two programs: the control plane is there before the first call, and after the last one's facts."""
    form = {"AGENT_WORKER_LOG_FORMAT": "text"} if text else {}
    command = [sys.executable, "-m", "agent_worker"]
    drain_seconds = settings.drain_timeout_seconds + DRAIN_MARGIN_SECONDS
    return [
        Program("serve", [*command, "serve"], SERVE_STOP_SECONDS, {PROCESS_VARIABLE: "serve", **form}),
        Program("worker", [*command, "start"], drain_seconds, {PROCESS_VARIABLE: "worker", **form}),
    ]


def _stop_with(parent: int) -> Callable[[], None]:
    """Return what a child does before its program begins: it stops when we are gone, even by `kill -9`."""
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(EXIT_ERROR)

    return ask
