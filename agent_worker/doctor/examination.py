"""One run of `doctor`: what it was asked, what its checks have learned so far, and what they report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent_worker.config.catalog import AgentCatalog
from agent_worker.doctor.finding import Finding, Status
from agent_worker.errors import AgentWorkerError
from agent_worker.settings import Settings

if TYPE_CHECKING:
    from livekit import api

    from agent_worker.telephony.matching import Verdict
    from agent_worker.telephony.probe import WorkerState


@dataclass
class Examination:
    """What the checks share.

    Attributes:
        problems: returns what `check` says is wrong.
        number: the number the loopback call goes to; None picks one that should work.
        settings: None where the environment is wrong.
        catalog: None where the files are wrong.
        trunks: None until LiveKit has listed them.
        verdicts: what LiveKit does with a call to each of our numbers.
        workers: who answers to our agent name.
    """

    problems: Callable[[], Sequence[AgentWorkerError]]
    env: Mapping[str, str]
    settings: Settings | None
    catalog: AgentCatalog | None
    number: str | None = None
    tell: Callable[[Finding], None] = lambda finding: None
    findings: list[Finding] = field(default_factory=list)
    trunks: Sequence[api.SIPInboundTrunkInfo] | None = None
    rules: Sequence[api.SIPDispatchRuleInfo] = ()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    workers: Sequence[WorkerState] = ()
    bridge_transport: str = "UDP"

    def report(
        self,
        check: str,
        status: Status,
        message: str,
        remedy: str = "",
        *,
        code: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Note a finding and pass it on at once."""
        finding = Finding(check, status, message, remedy, code, detail or {})
        self.findings.append(finding)
        self.tell(finding)

    def failed(self, check: str) -> bool:
        """Return whether a check found a failure."""
        return any(found.check == check and found.status is Status.FAILED for found in self.findings)

    def skipped(self, check: str) -> bool:
        """Return whether a check was not made."""
        return any(found.check == check and found.status is Status.SKIPPED for found in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether nothing failed."""
        return all(found.status is not Status.FAILED for found in self.findings)

    @property
    def known_settings(self) -> Settings:
        """The settings, for checks that are made only where there are some."""
        assert self.settings is not None, "a check without settings is skipped"
        return self.settings

    @property
    def known_catalog(self) -> AgentCatalog:
        """The agents, for checks that are made only where they can be read."""
        assert self.catalog is not None, "a check without agents is skipped"
        return self.catalog


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        title: what it looks at, for the line that shows progress.
        seconds: when it is given up, s.
        needs: checks without which this one means nothing.
        wants: what must have been read: `settings`, or `catalog` (the agents).
    """

    name: str
    title: str
    run: Callable[[Examination], Awaitable[None]]
    seconds: float
    needs: tuple[str, ...] = ()
    wants: str = "settings"


async def examine(
    exam: Examination,
    checks: Sequence[Check],
    *,
    skip: Sequence[str] = (),
    starting: Callable[[Check], None] = lambda check: None,
) -> None:
    """Make the checks in order; what cannot mean anything is skipped, with the reason.

    Args:
        skip: checks to leave out by name; those that need them are made all the same.
        starting: told of each check before it is made.
    """
    for check in checks:
        reason = _why_not(exam, check, skip)
        if reason:
            exam.report(check.name, Status.SKIPPED, reason)
            continue
        starting(check)
        try:
            async with asyncio.timeout(check.seconds):
                await check.run(exam)
        except TimeoutError:
            exam.report(
                check.name,
                Status.FAILED,
                f"There was no answer within {check.seconds:.0f} s.",
                "Look for a firewall that drops packets, or a machine that is overloaded.",
                code="timeout",
            )
        except AgentWorkerError as error:
            exam.report(check.name, Status.FAILED, error.message, error.remedy, code=error.code)
        except Exception as error:  # noqa: BLE001 - a check that breaks must not take the others with it
            exam.report(
                check.name,
                Status.FAILED,
                f"The check itself broke ({type(error).__name__}).",
                "Please report this with your version and the output of `doctor --json`.",
                code="check_broke",
            )


def _why_not(exam: Examination, check: Check, skip: Sequence[str]) -> str:
    if check.name in skip:
        return "Left out on request."
    if check.wants and exam.settings is None:
        return "Not checked because configuration failed."
    if check.wants == "catalog" and exam.catalog is None:
        return f"Not checked because {'control' if exam.failed('control') else 'configuration'} failed."
    for need in check.needs:
        if exam.failed(need):
            return f"Not checked because {need} failed."
        if exam.skipped(need) and need not in skip:
            return f"Not checked because {need} was not checked."
    return ""
