"""What the doctor makes of what it sees: each cause has its name, its sentence and its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from agent_worker.doctor.checks import checks
from agent_worker.doctor.configuration import check_configuration
from agent_worker.doctor.examination import Examination, examine
from agent_worker.doctor.finding import Finding
from agent_worker.errors import ConfigError, SettingsError
from tests.examinations import FAILED, OK, ROOT, SKIPPED, check, examination, told

# --- the order of things


async def test_what_depends_on_a_failure_is_skipped_with_the_reason() -> None:
    """A chain of checks ends where one fails; what does not depend on it goes on."""
    made: list[str] = []

    async def fails(exam: Examination) -> None:
        exam.report("first", FAILED, "It is broken.", "Mend it.", code="broken")

    async def works(exam: Examination) -> None:
        made.append("works")
        exam.report("fourth", OK, "It works.")

    exam = examination()
    await examine(
        exam,
        [
            check("first", fails),
            check("second", works, needs=("first",)),
            check("third", works, needs=("second",)),
            check("fourth", works),
        ],
    )

    assert told(exam) == [
        ("first", FAILED, "broken"),
        ("second", SKIPPED, ""),
        ("third", SKIPPED, ""),
        ("fourth", OK, ""),
    ]
    assert exam.findings[1].message == "Not checked because first failed."
    assert exam.findings[2].message == "Not checked because second was not checked."
    assert made == ["works"]
    assert not exam.healthy


async def test_what_is_left_out_on_request_keeps_nothing_from_being_checked() -> None:
    """--skip leaves out one check, not those after it."""

    async def works(exam: Examination) -> None:
        exam.report("second", OK, "It works.")

    exam = examination()
    await examine(exam, [check("first", works), check("second", works, needs=("first",))], skip=["first"])

    assert [finding.status for finding in exam.findings] == [SKIPPED, OK]
    assert exam.healthy


async def test_a_check_that_hangs_is_given_up() -> None:
    """Nothing hangs: each check has a deadline, and the next one is made."""

    async def hangs(_exam: Examination) -> None:
        await asyncio.Event().wait()

    async def works(exam: Examination) -> None:
        exam.report("second", OK, "It works.")

    exam = examination()
    async with asyncio.timeout(5):
        await examine(exam, [check("first", hangs, seconds=0.05), check("second", works)])

    assert told(exam) == [("first", FAILED, "timeout"), ("second", OK, "")]


async def test_a_check_that_breaks_is_a_finding() -> None:
    """An error of our own is no stack trace; an error raised on purpose keeps its sentences."""

    async def breaks(_exam: Examination) -> None:
        raise KeyError("oops")

    async def refuses(_exam: Examination) -> None:
        raise SettingsError("secret_unreadable", "The secret cannot be read.", remedy="Make it readable.")

    exam = examination()
    await examine(exam, [check("first", breaks), check("second", refuses)])

    assert told(exam) == [("first", FAILED, "check_broke"), ("second", FAILED, "secret_unreadable")]
    assert "KeyError" in exam.findings[0].message and "oops" not in exam.findings[0].message
    assert exam.findings[1].remedy == "Make it readable."


async def test_without_settings_or_agents_nothing_is_asked() -> None:
    """A wrong environment skips everything, wrong files what needs agents."""

    async def works(exam: Examination) -> None:
        exam.report("any", OK, "It works.")

    needs = [check("server", works), check("numbers", works, wants="catalog")]
    blind, deaf = examination(settings=None, catalog=None), examination(catalog=None)
    await examine(blind, needs)
    await examine(deaf, needs)

    assert [finding.status for finding in blind.findings] == [SKIPPED, SKIPPED]
    assert [finding.status for finding in deaf.findings] == [OK, SKIPPED]


async def test_findings_are_told_as_they_come() -> None:
    """Whoever looks on sees each finding when it is made, not at the end."""
    seen: list[Finding] = []

    async def works(exam: Examination) -> None:
        exam.report("first", OK, "One.")
        assert len(seen) == 1

    exam = examination(tell=seen.append)
    await examine(exam, [check("first", works)])

    assert exam.healthy and seen == exam.findings


def test_the_checks_have_names_of_their_own_and_need_earlier_ones() -> None:
    """No check waits for one that comes after it."""
    names = [entry.name for entry in checks(call=True)]

    assert len(set(names)) == len(names)
    assert names[0] == "configuration" and names[-1] == "call"
    for index, entry in enumerate(checks(call=True)):
        assert set(entry.needs) <= set(names[:index])
    assert "call" not in [entry.name for entry in checks(call=False)]


async def test_problems_of_the_configuration_keep_their_place_and_remedy() -> None:
    """File and line stay in the sentence, the remedy goes to its own."""
    problem = ConfigError(
        "agent_key_unknown", "No such key 'voise'.", remedy="Did you mean 'voice'?", file="a.yaml", line=3
    )
    exam = examination(problems=[problem])
    await check_configuration(exam)

    assert exam.findings == [
        Finding("configuration", FAILED, "a.yaml:3: No such key 'voise'.", "Did you mean 'voice'?", "agent_key_unknown")
    ]


# --- at the terminal


def at_the_terminal(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_worker", "doctor", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_installation_without_anything_is_told_what_it_lacks(tmp_path: Path) -> None:
    """No key, no LiveKit: findings for people on stdout, exit code 1, no stack trace."""
    shown = at_the_terminal(AGENT_WORKER_DATA_DIR=str(tmp_path))

    assert shown.returncode == 1
    lines = shown.stdout.splitlines()
    assert lines[0].split()[:2] == ["failed", "configuration"]
    assert lines[1].startswith(" " * 20) and "→ " in lines[1]
    assert any(line.split()[:2] == ["failed", "livekit"] and "LIVEKIT_URL" in line for line in lines)
    assert "failures" in lines[-1]
    assert shown.stderr == ""


def test_machines_get_json_and_nothing_else(tmp_path: Path) -> None:
    """--json is one document, whatever is broken; the environment may be wrong altogether."""
    shown = at_the_terminal("--json", AGENT_WORKER_DATA_DIR=str(tmp_path), AGENT_WORKER_CALL_SLOTS="many")

    assert shown.returncode == 1
    report = json.loads(shown.stdout)
    assert report["healthy"] is False
    assert report["findings"][0]["code"] == "setting_invalid"
    assert {finding["status"] for finding in report["findings"][1:]} == {"skipped"}
    assert shown.stderr == ""


def test_a_check_there_is_not_is_a_mistake() -> None:
    """--skip of an unknown name is refused before anything is asked."""
    shown = at_the_terminal("--skip", "livekit,weather")

    assert shown.returncode == 2
    assert "There is no check 'weather'" in shown.stderr and "livekit" in shown.stderr
