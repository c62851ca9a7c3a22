"""`doctor` at the terminal: what is asked, what is shown while it works, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

from rich.console import Console
from rich.text import Text

from agent_worker.cli_check import run_check
from agent_worker.config.catalog import AgentCatalog
from agent_worker.control.make import is_remote, make_catalog
from agent_worker.doctor.checks import checks
from agent_worker.doctor.examination import Check, Examination, examine
from agent_worker.doctor.finding import Finding, Status
from agent_worker.errors import AgentWorkerError, SettingsError
from agent_worker.settings import Settings, read_settings

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.SKIPPED: "dim"}
_NAMES = tuple(check.name for check in checks(call=True))


def run_doctor(*, call: bool, number: str | None, as_json: bool, skip: Sequence[str]) -> int:
    """Make every check, print what it found as it comes, and return the exit code: 0 healthy, 1 otherwise.

    Args:
        call: whether to place a call; naming a number does so too.
        skip: names of checks to leave out.

    Raises:
        SettingsError: there is no check of a name to leave out.
    """
    wanted = [name.strip() for names in skip for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in _NAMES:
            raise SettingsError("check_unknown", f"There is no check {name!r}.", remedy=f"Use: {', '.join(_NAMES)}.")
    # plugins, the media engine and the event loop tell their own troubles there; the findings say what they mean
    logging.disable(logging.CRITICAL)
    try:
        warnings.simplefilter("ignore")
        exam = _examination(number)
        # progress goes to stderr, so that what is piped away is the report
        progress = Console(stderr=True, highlight=False)
        asyncio.run(_run(exam, progress, call=call or number is not None, quiet=as_json, skip=wanted))
    finally:
        logging.disable(logging.NOTSET)
    if as_json:
        findings = [finding.as_json() for finding in exam.findings]
        print_line(json.dumps({"healthy": exam.healthy, "findings": findings}, indent=2, ensure_ascii=False))
    else:
        _print_end(exam)
    return 0 if exam.healthy else 1


def _examination(number: str | None) -> Examination:
    settings: Settings | None = None
    catalog: AgentCatalog | None = None
    with contextlib.suppress(AgentWorkerError):  # `check` says what is wrong
        settings = read_settings()
        known = make_catalog(settings)
        catalog = known.current() if known.files or known.is_known else None
    return Examination(
        problems=partial(_problems, settings), env=os.environ, settings=settings, catalog=catalog, number=number
    )


def _problems(settings: Settings | None) -> list[AgentWorkerError]:
    """Return what `check` says; files are of no account where the agents come from another host."""
    found = run_check().problems
    remote = settings is not None and is_remote(settings)
    return [problem for problem in found if not remote or isinstance(problem, SettingsError)]


async def _run(exam: Examination, progress: Console, *, call: bool, quiet: bool, skip: Sequence[str]) -> None:
    with _status(progress) as shown:

        def starting(check: Check) -> None:
            shown.update(f"checking {check.title} …")

        def tell(finding: Finding) -> None:
            shown.stop()
            if not quiet:
                print_finding(finding)
            shown.start()

        exam.tell = tell
        await examine(exam, checks(call=call), skip=skip, starting=starting)


class _Shown:
    """The line that says what is being done, where somebody is looking."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("starting …") if console.is_terminal else None

    def update(self, text: str) -> None:
        """Say something else."""
        if self._status is not None:
            self._status.update(text)

    def start(self) -> None:
        """Show the line."""
        if self._status is not None:
            self._status.start()

    def stop(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()


@contextlib.contextmanager
def _status(console: Console) -> Iterator[_Shown]:
    shown = _Shown(console)
    shown.start()
    try:
        yield shown
    finally:
        shown.stop()


def print_finding(finding: Finding) -> None:
    """Print a finding on one line, and its remedy on the next."""
    console = Console(highlight=False, soft_wrap=True)
    line = Text()
    line.append(f"{finding.status.value:<8}", style=_STYLES[finding.status])
    line.append(f" {finding.check:<13} ", style="bold" if finding.status is Status.FAILED else "")
    line.append(finding.message, style="dim" if finding.status is Status.SKIPPED else "")
    console.print(line)
    if finding.remedy:
        console.print(Text(f"{'':<23}→ {finding.remedy}", style="cyan"))


def print_line(text: str) -> None:
    """Print text as it is."""
    Console(highlight=False, soft_wrap=True, color_system=None).print(text, markup=False)


def _print_end(exam: Examination) -> None:
    failed = sum(finding.status is Status.FAILED for finding in exam.findings)
    warned = sum(finding.status is Status.WARNING for finding in exam.findings)
    warnings = f"{warned} {'warning' if warned == 1 else 'warnings'}"
    if failed:
        few = "failure" if failed == 1 else "failures"
        also = f" and {warnings}" if warned else ""
        print_line(f"{failed} {few}{also}. Mend the first one first: later ones may follow from it.")
    else:
        print_line(f"Healthy, with {warnings}." if warned else "Healthy.")
