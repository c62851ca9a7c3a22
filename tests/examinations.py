"""Examinations of the doctor's, and what it finds in them, for its tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent_worker.config.catalog import AgentCatalog
from agent_worker.doctor.examination import Check, Examination
from agent_worker.doctor.finding import Status
from agent_worker.domain.agent import AgentConfig
from agent_worker.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OK, WARNING, FAILED, SKIPPED = Status.OK, Status.WARNING, Status.FAILED, Status.SKIPPED
NUMBER = "+12015550123"


def examination(*, problems: Sequence[Any] = (), **fields: Any) -> Examination:
    agent = AgentConfig(name="desk", system_prompt="Be kind.", numbers=[NUMBER])
    values: dict[str, Any] = {"env": {}, "settings": Settings(), "catalog": AgentCatalog.of([agent])}
    return Examination(problems=lambda: problems, **(values | fields))


def check(name: str, run: Any, **fields: Any) -> Check:
    return Check(name, f"the {name}", run, fields.pop("seconds", 5), **fields)


def told(exam: Examination) -> list[tuple[str, Status, str]]:
    return [(finding.check, finding.status, finding.code) for finding in exam.findings]
