"""What docs/api.md shows can be typed: each block is run against a server, and answers as the page says."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_worker.api import gate, requests
from agent_worker.settings import Settings
from tests.integration.api_server import CALL_ID, ApiServer, seeded_server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(sh|python|json)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SHELL = [text for language, text in FENCES if language == "sh"]
PYTHON = [text for language, text in FENCES if language == "python"]
ANSWERS = [
    (text, json.loads(after))
    for (language, text), (next_language, after) in itertools.pairwise(FENCES)
    if (language, next_language) == ("sh", "json")
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with seeded_server(tmp_path_factory.mktemp("docs")) as running:
        yield running


def variables(server: ApiServer) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "URL": server.url, "KEY": server.keys["admin"], "CALL": CALL_ID}


def typed(server: ApiServer, text: str) -> str:
    """Type it into a shell; returns what it printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env=variables(server),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("text", SHELL, ids=lambda text: text.split("$URL")[1].split('"')[0])
def test_what_is_typed_into_a_shell_is_answered(server: ApiServer, text: str) -> None:
    """Each command has an answer of the API; those that must succeed say so with -f."""
    printed = typed(server, text)

    if "/stream" not in text:
        answers = list(_objects(printed))
        assert len(answers) == text.count("curl")
    else:
        assert "event: end" in printed


def test_the_page_has_something_to_type() -> None:
    """The page is read as it is meant: no block is passed over."""
    assert (len(SHELL), len(PYTHON), len(ANSWERS)) >= (15, 10, 3)
    assert len(re.findall(r"^```\w", PAGE, re.MULTILINE)) == len(FENCES) + PAGE.count("```console")


@pytest.mark.parametrize(("text", "answer"), ANSWERS, ids=lambda value: str(value)[:30])
def test_the_answers_shown_are_the_answers_given(server: ApiServer, text: str, answer: dict[str, Any]) -> None:
    """What stands below a command is what it prints."""
    assert json.loads(typed(server, text)) == answer


def test_the_python_of_the_page_runs(server: ApiServer) -> None:
    """The blocks are one program, in the order of the page."""
    program = "\n".join(PYTHON)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=variables(server),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    """Limits are what the page says."""
    text = " ".join(PAGE.split())
    for name, shown in (("api_requests_per_minute", "1,200"), ("api_wrong_keys_per_minute", "20")):
        assert f"{Settings.model_fields[name].default:,}" == shown
        assert f"AGENT_WORKER_{name.upper()}` " in text
        assert f"({shown})" in text
    assert gate.MAX_BODY_BYTES == 2**20
    assert f"nests at most {requests.MAX_DEPTH} deep" in text
    assert f"longer than {requests.BODY_SECONDS:.0f} seconds" in text


def _objects(printed: str) -> Iterator[Any]:
    decoder, at = json.JSONDecoder(), 0
    while at < len(printed.rstrip()):
        value, at = decoder.raw_decode(printed, at)
        yield value
