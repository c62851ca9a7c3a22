"""The doctor beside a control plane on another host: it fetches what a worker fetches."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.doctor.checks import checks
from agent_worker.doctor.examination import Examination, examine
from agent_worker.doctor.finding import Finding, Status
from agent_worker.settings import Settings
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import TOKEN
from tests.integration.serving import NUMBER, serve_settings, serving


async def asked(settings: Settings) -> tuple[Examination, Finding]:
    exam = Examination(lambda: [], env={}, settings=settings, catalog=None)
    await examine(exam, [check for check in checks(call=False) if check.name in ("control", "providers")])
    return exam, exam.findings[0]


async def test_the_agents_are_the_control_planes(tmp_path: Path) -> None:
    """It answers and takes the token; what it answers with is what the other checks look at."""
    async with serving(serve_settings(tmp_path)) as url:
        exam, finding = await asked(Settings(data_dir=tmp_path, control_url=url, control_token=TOKEN))

    assert finding.check == "control" and finding.status is Status.OK
    assert exam.catalog is not None and NUMBER in exam.catalog.numbers


async def test_a_wrong_token_is_named_and_not_printed(tmp_path: Path) -> None:
    """The remedy says where the token stands; the token itself is in no finding."""
    token = "another-token-of-16"
    async with serving(serve_settings(tmp_path)) as url:
        exam, finding = await asked(Settings(data_dir=tmp_path, control_url=url, control_token=token))

    assert (finding.status, finding.code) == (Status.FAILED, "control_token_refused")
    assert "AGENT_WORKER_CONTROL_TOKEN" in finding.remedy
    assert token not in repr(exam.findings)
    assert exam.findings[1].message == "Not checked because control failed."


@pytest.mark.parametrize("token", [TOKEN, "short"])
async def test_a_control_plane_that_is_away(tmp_path: Path, token: str) -> None:
    """Nobody listens there, or the token could never be right: told apart."""
    url = f"http://127.0.0.1:{free_port()}"
    _, finding = await asked(Settings(data_dir=tmp_path, control_url=url, control_token=token))

    assert finding.status is Status.FAILED and finding.remedy
    assert (finding.code == "control_plane_unreachable") == (token == TOKEN)
