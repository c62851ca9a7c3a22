"""`explain`: what a call would be configured with, and where each value comes from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agent_worker.cli import app
from agent_worker.settings import settings

AGENT = """
name: desk
systemPrompt: 'You speak with {{ name | default: "a guest" }}.'
voice: alto
llmOptions: {temperature: 0.2}
promptVariables: [{name: name}]
backgroundAudio: {ambient: {clip: office-ambience}}
toolSecrets: {crm: a-secret-value}
webhooks: {preCall: {url: "https://crm.example/pre", secret: another-secret}}
"""
TELEPHONY = """
numbers:
  - e164: "+12015550123"
    agentId: desk
    dispatchMetadataTemplate: {tenant: acme, voice: bass, firstMessage: "Welcome to Acme."}
"""


@pytest.fixture(autouse=True)
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one agent and one number, and a process that stands in it."""
    for name in ("agents", "prompts", "tools"):
        (tmp_path / name).mkdir()
    (tmp_path / "agents" / "desk.yaml").write_text(AGENT, encoding="utf-8")
    (tmp_path / "telephony.yaml").write_text(TELEPHONY, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()
    return tmp_path


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["explain", *arguments])


def told(*arguments: str) -> dict:
    result = explain(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_each_value_comes_with_its_layer() -> None:
    """Agent over template, template over defaults; secrets masked, and what is not active yet is said."""
    found = told("--number", "+12015550123")

    assert (found["agentId"], found["routedBy"]) == ("desk", "dialed_number")
    assert (found["values"]["voice"], found["provenance"]["voice"]) == ("alto", "agent")
    assert found["provenance"]["firstMessage"] == "number"
    assert found["provenance"]["llmOptions.temperature"] == "agent"
    assert found["provenance"]["intent.language"] == "default"
    assert found["provenance"]["metadata.tenant"] == "number"
    assert found["values"]["systemPrompt"] == "You speak with a guest."
    assert "backgroundAudio.ambient" in found["notActive"]
    assert found["preCall"]["url"] == "https://crm.example/pre"
    assert "secret-value" not in json.dumps(found)
    assert "another-secret" not in json.dumps(found)


def test_overrides_and_a_reply_are_layers_of_their_own(tmp_path: Path) -> None:
    """A request's body and a webhook's answer are read from files, JSON or YAML."""
    (tmp_path / "dial.json").write_text('{"llm": {"maxTokens": 50}, "variables": {"name": "Maya"}, "to": "+1"}')
    (tmp_path / "reply.yaml").write_text("voice: null\nfirstMessage: Hi Maya.\ncolour: blue\n")

    found = told("--agent", "desk", "--overrides", "dial.json", "--pre-call", "reply.yaml")

    assert found["values"]["llmOptions"]["maxTokens"] == 50
    assert found["provenance"]["llmOptions.maxTokens"] == "per_call"
    assert found["values"]["systemPrompt"] == "You speak with Maya."
    assert found["provenance"]["firstMessage"] == "pre_call"
    assert found["provenance"]["voice"] == "pre_call (cleared)"
    assert "voice" not in found["values"]
    assert found["ignored"] == ["pre_call: there is no key 'colour'"]


def test_a_reply_is_read_as_on_a_call(tmp_path: Path) -> None:
    """Nested keys win, a wrong value costs the whole reply, and a reply may decline."""
    (tmp_path / "nested.json").write_text('{"voice": "low", "pipelineConfig": {"voice": "high"}}')
    (tmp_path / "wrong.json").write_text('{"voice": "low", "ttsOptions": {"speed": "fast"}}')
    (tmp_path / "declined.json").write_text('{"reject": true}')

    assert told("--agent", "desk", "--pre-call", "nested.json")["values"]["voice"] == "high"
    wrong = told("--agent", "desk", "--pre-call", "wrong.json")
    assert wrong["values"]["voice"] == "alto"
    assert "the whole reply is ignored" in wrong["ignored"][0]
    assert told("--agent", "desk", "--pre-call", "declined.json")["declined"] is True


def test_a_variable_without_a_value_is_named(tmp_path: Path) -> None:
    """Every one of them, and what becomes of them on a call."""
    (tmp_path / "dial.yaml").write_text("systemPrompt: 'For {{ customer }} of {{ firm }}.'\n")

    shown = explain("--agent", "desk", "--overrides", "dial.yaml").stdout

    assert "MISSING_TEMPLATE_VARIABLES" in shown
    assert re.search(r"customer.*firm", shown)


def test_the_table_shows_what_somebody_set(tmp_path: Path) -> None:
    """Defaults only on demand, so that the operator's own values stand out."""
    short, long = explain("--number", "+12015550123"), explain("--number", "+12015550123", "--all")

    assert re.search(r"│ voice +│ alto +│ agent", short.stdout)
    assert re.search(r"│ firstMessage +│ Welcome to Acme\. +│ number", short.stdout)
    assert "not yet active: backgroundAudio.ambient" in short.stdout
    assert "maxDurationSeconds" not in short.stdout
    assert re.search(r"│ maxDurationSeconds +│ 3600 +│ default", long.stdout)
    assert "a-secret-value" not in long.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--number", "+12015550199"], "No agent answers the dialled number"),
        (["--agent", "desk", "--overrides", "nowhere.json"], "cannot be read as JSON or YAML"),
        ([], "name a --number or an --agent"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str) -> None:
    """Exit code 2, a remedy, no trace."""
    result = explain(*arguments)

    assert result.exit_code == 2
    assert sentence in result.output
    assert "Traceback" not in result.output
