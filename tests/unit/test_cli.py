"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_worker.cli import app

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["up", "start", "dev", "console", "demo", "check", "provision", "doctor", "migrate", "version"]

AGENT = "name: desk\nsystemPrompt: Be kind.\nnumbers: ['+12015550123']\ntools: [end_call]\n"
TRANSFERRING = AGENT.replace("[end_call]", "\n  - name: transfer_call\n    config:\n      {}\n")
KEYS = {
    "LIVEKIT_URL": "ws://127.0.0.1:7880",
    "LIVEKIT_API_KEY": "key",
    "LIVEKIT_API_SECRET": "secret",
    "DEEPGRAM_API_KEY": "d",
    "OPENAI_API_KEY": "o",
    "CARTESIA_API_KEY": "c",
}

LIVEKIT_AWAY = KEYS | {
    "LIVEKIT_URL": "ws://127.0.0.1:9",
    "LIVEKIT_API_SECRET": "a-secret-of-thirty-two-characters",
}


def run(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line the way a person does."""
    return subprocess.run(
        [sys.executable, "-m", "agent_worker", *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with one agent, the shipped tools and no keys."""
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "desk.yaml").write_text(AGENT, encoding="utf-8")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    (tmp_path / "prompts").mkdir()
    return tmp_path


def test_help_lists_every_command_and_the_first_steps() -> None:
    """Without arguments and with --help, a newcomer learns what to type."""
    shown = run("--help")

    assert shown.returncode == 0
    for command in COMMANDS:
        assert f"  {command} " in shown.stdout
    assert "python -m agent_worker demo" in shown.stdout
    assert "python -m agent_worker demo" in run().stdout + run().stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_has_an_example(command: str) -> None:
    """Help teaches with something that can be typed."""
    shown = run(command, "--help")

    assert shown.returncode == 0
    assert "Example:" in shown.stdout
    assert f"python -m agent_worker {command}" in shown.stdout


def test_help_imports_nothing_heavy() -> None:
    """Asking for help loads neither LiveKit nor pydantic nor the database."""
    code = (
        "import sys, agent_worker.cli\n"
        "print([name for name in ('livekit', 'pydantic', 'sqlalchemy', 'numpy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "[]"


def test_version_names_what_matters() -> None:
    """A bug report's three numbers."""
    shown = run("version")

    assert shown.returncode == 0
    assert shown.stdout.startswith("agent-worker ")
    assert "livekit-agents 1.8" in shown.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    """Exit code 2, and no trace."""
    shown = run("serv")

    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("command", ["start", "dev"])
def test_start_without_livekit_says_what_to_set(command: str) -> None:
    """One sentence with the remedy on stderr, exit code 2."""
    shown = run(command)

    assert shown.returncode == 2
    assert shown.stdout == ""
    assert shown.stderr.startswith("error: LIVEKIT_URL and LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set.")
    assert "demo" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_wrong_setting_is_one_sentence() -> None:
    """The variable is named; exit code 2."""
    shown = run("start", AGENT_WORKER_HEALTH_PORT="eighty")

    assert shown.returncode == 2
    assert shown.stderr.startswith("error: AGENT_WORKER_HEALTH_PORT: ")
    assert "Traceback" not in shown.stderr


def test_check_shows_who_answers_what(desk: Path) -> None:
    """With everything in place, a table and exit code 0."""
    shown = run("check", cwd=desk, **KEYS)

    assert (shown.returncode, shown.stderr) == (0, "")
    assert "desk" in shown.stdout
    assert "+12015550123" in shown.stdout
    assert "Everything is in place." in shown.stdout


@pytest.mark.parametrize(
    ("agent", "env", "told"),
    [
        (
            AGENT + "firstMesage: Hi\n",
            KEYS,
            "error: agents/desk.yaml:5: There is no key 'firstMesage'. Did you mean 'firstMessage'?",
        ),
        (
            AGENT.replace("end_call", "end_cal"),
            KEYS,
            "error: agents/desk.yaml:4: There is no tool 'end_cal'. Did you mean 'end_call'?",
        ),
        (
            AGENT.replace("systemPrompt: Be kind.", "prompt: desk"),
            KEYS,
            "error: agents/desk.yaml:2: There is no prompt prompts/desk.md.",
        ),
        (
            AGENT + "stackPreferences:\n  allowedProviders:\n    llm: [opnai]\n",
            KEYS,
            "error: agents/desk.yaml:6: ",
        ),
        (
            TRANSFERRING.format("mod: warm"),
            KEYS,
            "error: agents/desk.yaml:7: There is no key 'config.mod'. Did you mean 'mode'?",
        ),
        (
            TRANSFERRING.format('destinations: [{label: Sales, to: "+12015550123"}]'),
            KEYS | {"AGENT_WORKER_DIAL_ALLOW": "GB"},
            "error: agents/desk.yaml:7: config.destinations[0].to cannot be dialled: AGENT_WORKER_DIAL_ALLOW names",
        ),
        (AGENT, KEYS | {"AGENT_WORKER_DIAL_ALLOW": "USA"}, "error: AGENT_WORKER_DIAL_ALLOW: 'USA' is no country"),
        (AGENT, KEYS | {"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
        (AGENT, KEYS | {"LIVEKIT_URL": ""}, "error: LIVEKIT_URL is not set."),
        (AGENT, KEYS | {"LIVEKIT_URL": "livekit.example"}, "error: LIVEKIT_URL is not a URL."),
        (
            AGENT,
            KEYS | {"AGENT_WORKER_DEFAULT_AGENT": "dsk"},
            "error: AGENT_WORKER_DEFAULT_AGENT: there is no agent 'dsk'. Did you mean 'desk'?",
        ),
        (AGENT, KEYS | {"AGENT_WORKER_DATA_DIR": "agents/desk.yaml/var"}, "error: AGENT_WORKER_DATA_DIR: "),
        (AGENT, KEYS | {"AGENT_WORKER_TOOLS_DIR": "tool"}, "error: There is no folder tool."),
        (AGENT, KEYS | {"AGENT_WORKER_PRICES_FILE": "p.yaml"}, "error: AGENT_WORKER_PRICES_FILE: "),
        (AGENT, KEYS | {"AGENT_WORKER_PRICES_FILE": "tools/end_call.py"}, "error: tools/end_call.py: "),
        (AGENT, KEYS | {"AGENT_WORKER_DATABASE_URL": "calls.db"}, "error: AGENT_WORKER_DATABASE_URL is not"),
    ],
)
def test_check_tells_each_mistake_with_its_remedy(
    desk: Path, monkeypatch: pytest.MonkeyPatch, agent: str, env: dict[str, str], told: str
) -> None:
    """One line for the mistake, exit code 2, nothing on stdout, no trace."""
    (desk / "agents" / "desk.yaml").write_text(agent, encoding="utf-8")
    monkeypatch.chdir(desk)

    shown = CliRunner().invoke(app, ["check"], env=env)

    assert shown.exit_code == 2
    assert shown.stdout == ""
    lines = shown.stderr.splitlines()
    assert len(lines) == 2, shown.stderr
    assert told in lines[0]
    assert lines[1] == "1 problem."


@pytest.mark.parametrize("command", ["start", "serve"])
def test_a_list_of_whom_to_call_is_checked_at_the_start(desk: Path, command: str) -> None:
    """By those who call, and by those who take agents over HTTP."""
    shown = run(command, cwd=desk, **LIVEKIT_AWAY, AGENT_WORKER_DIAL_ALLOW="US, USA")

    assert shown.returncode == 2
    assert "AGENT_WORKER_DIAL_ALLOW: 'USA' is no country, number or host." in shown.stderr


def test_start_tells_what_a_tool_cannot_be_configured_with(desk: Path) -> None:
    """Every mistake with its line, before a call could meet it; exit code 2."""
    (desk / "agents" / "desk.yaml").write_text(TRANSFERRING.format("{mode: cold, ringingTimeout: 0}"), encoding="utf-8")

    shown = run("start", cwd=desk, **LIVEKIT_AWAY)

    assert (shown.returncode, shown.stdout) == (2, "")
    assert "agents/desk.yaml:7: config.mode must be one of" in shown.stderr
    assert "agents/desk.yaml:7: config.ringingTimeout must be at least 1." in shown.stderr
    assert "Traceback" not in shown.stderr


def test_check_tells_all_mistakes_at_once(desk: Path) -> None:
    """Settings, agent files and keys are one list."""
    shown = run("check", cwd=desk)

    told = shown.stderr
    assert shown.returncode == 2
    for name in ("LIVEKIT_URL", "DEEPGRAM_API_KEY", "OPENAI_API_KEY", "CARTESIA_API_KEY"):
        assert name in told


TELEPHONY = """\
sipConnections:
  - {name: carrier, address: sip.example, usernameEnv: SIP_USER, passwordEnv: SIP_PASSWORD}
numbers:
  - {e164: "+12015550123", agentId: desk}
"""


@pytest.mark.parametrize(
    ("telephony", "env", "code", "told"),
    [
        (TELEPHONY, {}, 2, ["error: LIVEKIT_URL and LIVEKIT_API_KEY and LIVEKIT_API_SECRET are not set."]),
        (TELEPHONY, KEYS, 2, ["error: SIP_USER and SIP_PASSWORD are not set. A SIP connection of telephony.yaml"]),
        ("", KEYS, 2, ["error: +12015550123 is on no SIP connection", "error:   sipConnections:"]),
        ("numbers: [{e164: '+12'}]\n", KEYS, 2, ["error: telephony.yaml:1: '+12' is not a phone number."]),
        (
            TELEPHONY,
            LIVEKIT_AWAY | {"SIP_USER": "u", "SIP_PASSWORD": "hunter2"},
            1,
            ["error: LiveKit cannot be reached: Connection refused."],
        ),
    ],
)
def test_provision_tells_what_is_missing(
    desk: Path, telephony: str, env: dict[str, str], code: int, told: list[str]
) -> None:
    """One sentence for each mistake, the right exit code, no trace and no secret."""
    if telephony:
        (desk / "telephony.yaml").write_text(telephony, encoding="utf-8")

    shown = run("provision", cwd=desk, **env)

    assert (shown.returncode, shown.stdout) == (code, ""), shown.stderr
    for sentence in told:
        assert sentence in shown.stderr
    assert all(line.startswith("error: ") for line in shown.stderr.splitlines())
    assert "hunter2" not in shown.stderr


@pytest.mark.parametrize(
    ("env", "code", "told"),
    [
        (
            {"AGENT_WORKER_CONTROL_URL": "http://127.0.0.1:9", "AGENT_WORKER_CONTROL_TOKEN": "a-token-of-32-letters"},
            1,
            "The control plane cannot be reached (ConnectError). Nothing was changed:",
        ),
        (
            {"AGENT_WORKER_DATABASE_URL": "postgresql://agent:hunter2@127.0.0.1:9/calls"},
            1,
            "The database did not answer (OperationalError). Nothing was changed:",
        ),
        (
            {"AGENT_WORKER_DATABASE_URL": "sqlite:///telephony.yaml"},
            1,
            "The database did not answer (DatabaseError). Nothing was changed:",
        ),
        (
            {"AGENT_WORKER_DATABASE_URL": "sqlite:///var/elsewhere.db"},
            2,
            "AGENT_WORKER_DATABASE_URL names an SQLite file that does not exist. Correct it, or make",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--prune"], ["--dry-run"]])
def test_provision_stops_where_a_part_of_the_configuration_is_not_known(
    desk: Path, arguments: list[str], env: dict[str, str], code: int, told: str
) -> None:
    """What the files say is not all there is; LiveKit is not even asked, and no file is made."""
    open_door = TELEPHONY.replace(", usernameEnv: SIP_USER, passwordEnv: SIP_PASSWORD", "")
    (desk / "telephony.yaml").write_text(open_door, encoding="utf-8")

    shown = run("provision", *arguments, cwd=desk, **KEYS, **env)

    assert (shown.returncode, shown.stdout) == (code, ""), shown.stderr
    assert shown.stderr.startswith(f"error: {told}")
    assert len(shown.stderr.splitlines()) == 1
    assert "hunter2" not in shown.stderr
    assert not (desk / "var").exists()


def test_provision_needs_no_database(desk: Path) -> None:
    """Before the first `start` there are files only; none is made, and LiveKit is asked."""
    open_door = TELEPHONY.replace(", usernameEnv: SIP_USER, passwordEnv: SIP_PASSWORD", "")
    (desk / "telephony.yaml").write_text(open_door, encoding="utf-8")

    shown = run("provision", cwd=desk, **LIVEKIT_AWAY)

    assert shown.stderr.startswith("error: LiveKit cannot be reached")
    assert not (desk / "var").exists()


def test_prune_removes_nothing_for_want_of_a_configuration(desk: Path) -> None:
    """No number, no telephony.yaml, no database: refused. A file that says there are none is believed."""
    (desk / "agents" / "desk.yaml").write_text("name: desk\nsystemPrompt: Be kind.\n", encoding="utf-8")

    refused = run("provision", "--prune", cwd=desk, **LIVEKIT_AWAY)

    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: --prune would remove every trunk and the rule: no number is configured")
    assert run("provision", cwd=desk, **LIVEKIT_AWAY).stderr.startswith("error: LiveKit cannot be reached")
    (desk / "telephony.yaml").write_text("numbers: []\n", encoding="utf-8")
    assert run("provision", "--prune", cwd=desk, **LIVEKIT_AWAY).stderr.startswith("error: LiveKit cannot be reached")


def test_migrate_makes_the_tables(desk: Path) -> None:
    """The database file is there afterwards, and a second run changes nothing."""
    for _ in range(2):
        shown = run("migrate", cwd=desk)
        assert (shown.returncode, shown.stdout) == (0, "The tables are up to date.\n"), shown.stderr

    assert (desk / "var" / "agent-worker.db").is_file()


def test_ctrl_c_ends_quietly() -> None:
    """Interrupted, a command exits with 130 and prints no trace."""
    code = (
        "import asyncio, sys, typer\n"
        "from agent_worker.cli import app, main, told\n"
        "async def waiting():\n"
        "    print('waiting', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "@app.command()\n"
        "def wait() -> None:\n"
        "    with told():\n"
        "        asyncio.run(waiting())\n"
        "sys.argv = ['agent_worker', 'wait']\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    assert stderr == ""
