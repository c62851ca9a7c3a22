"""What agents say under a tool's `config`: each mistake with its place and what to do, in files and in requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from agent_worker.config.agent_body import Rules, new_agent
from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.tool_configs import tool_config_problems
from agent_worker.domain.dialling import DialPolicy
from agent_worker.egress.policy import AddressPolicy
from agent_worker.toolbox.loader import config_models, load_tools
from tests.agent_files import write

POLICY = DialPolicy.of("US, pbx.example.com")
HEAD = "name: desk\nsystemPrompt: Be kind.\ntools:\n  - end_call\n"
TWO = (
    '      destinations:\n        - {to: "+12015550188", label: Sales}\n        - {to: "+12015550189", label: Office}\n'
)


@pytest.fixture
def models(root: Path) -> dict[str, type[BaseModel]]:
    return config_models(load_tools(root / "tools"))


def told(folder: Path, models: dict[str, type[BaseModel]], config: str, policy: DialPolicy = POLICY) -> list[str]:
    """What is told of a file whose `transfer_call` stands in line 5 and has this from line 7 on."""
    path = write(folder, f"{HEAD}  - name: transfer_call\n    config:\n{config}")
    found = read_agent_file(path)
    return [str(p).replace(f"{folder}/", "") for p in tool_config_problems(found, models, policy)]


@pytest.mark.parametrize(
    ("config", "line", "sentence"),
    [
        ("      ringingTimeout: 0\n", 7, "config.ringingTimeout must be at least 1."),
        ("      ringing_timeout: soon\n", 7, "config.ringing_timeout must be a whole number."),
        ("      ringingTimout: 3\n", 7, "There is no key 'config.ringingTimout'. Did you mean 'ringingTimeout'?"),
        ("      from: 2015550123\n", 7, "config.from must be text."),
        ('      from: "2015550123"\n', 7, "config.from must be E.164, such as +12015550123."),
        ("      key: x\n", 7, "config.key must be one key of a telephone: a digit, * or #."),
        ("      mode: lukewarm\n", 7, "config.mode must be one of 'blind' or 'warm'."),
        (
            "      fallback:\n        strategy: voicemail\n",
            8,
            "config.fallback.strategy must be one of 'return_to_assistant', 'take_message' or 'end_call'.",
        ),
        (
            "      fallback: {}\n      takeMessagePrompt: Ask.\n",
            8,
            "There is no key 'config.takeMessagePrompt'. It belongs under 'fallback'.",
        ),
        (
            TWO.replace("Office", "SALES"),
            7,
            "config.destinations must have labels that differ, for the model chooses by them.",
        ),
        (
            TWO.replace("+12015550189", "+19005550123"),
            9,
            "config.destinations[1].to cannot be dialled: Premium-rate numbers are not dialled.",
        ),
        (
            TWO.replace("+12015550189", "+442071838750"),
            9,
            "config.destinations[1].to cannot be dialled: AGENT_WORKER_DIAL_ALLOW names neither this number nor its "
            "country.",
        ),
        (TWO.replace('to: "+12015550189", ', ""), 9, "The key 'config.destinations[1].to' is missing."),
        (
            "      headers:\n        X-Own: a\n        via: b\n",
            9,
            "config.headers: the key 'via' must be a header of your own, such as X-Account: this one is written by the "
            "SIP bridge.",
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(
    tmp_path: Path, models: dict[str, type[BaseModel]], config: str, line: int, sentence: str
) -> None:
    """One sentence with the key as it is written in the documentation, and what to do."""
    assert told(tmp_path, models, config) == [f"desk.yaml:{line}: {sentence}"]


def test_what_the_policy_allows_is_no_mistake(tmp_path: Path, models: dict[str, type[BaseModel]]) -> None:
    """Also addresses at its hosts, and a number of a policy of its own."""
    sip = TWO.replace("+12015550189", "sip:office@pbx.example.com")
    assert told(tmp_path, models, sip) == []
    assert told(tmp_path, models, TWO.replace("+12015550189", "+442071838750"), DialPolicy()) == []
    assert len(told(tmp_path, models, sip, DialPolicy())) == 1


def test_a_destination_is_not_told(tmp_path: Path, models: dict[str, type[BaseModel]]) -> None:
    """A number may be somebody's own, and what is told goes to logs."""
    assert "5550123" not in str(told(tmp_path, models, TWO.replace("+12015550189", "+19005550123")))


def test_any_tool_can_declare_what_it_is_configured_with(tmp_path: Path) -> None:
    """Nothing about it is the transfer's own; a tool that declares nothing takes anything."""

    class Hours(BaseModel, extra="forbid"):
        days: int = Field(ge=1)

    text = HEAD + "  - name: hours\n    config: {days: 0, colour: red}\n  - name: other\n    config: {anything: 1}\n"
    found = read_agent_file(write(tmp_path, text))
    problems = list(tool_config_problems(found, {"hours": Hours}, POLICY))
    assert [problem.code for problem in problems] == ["tool_config_wrong", "tool_config_key_unknown"]
    assert {problem.line for problem in problems} == {6}


def test_a_tool_under_another_name_is_checked_too(tmp_path: Path, models: dict[str, type[BaseModel]]) -> None:
    """`source.config` is where it stands then."""
    text = HEAD + (
        "  - name: transfer_to_sales\n    source:\n      kind: builtin\n      name: transfer_call\n      config:\n"
        "        transcribe: perhaps\n"
    )
    [problem] = tool_config_problems(read_agent_file(write(tmp_path, text)), models, POLICY)
    assert (problem.line, problem.message) == (10, "config.transcribe must be true or false.")


@pytest.mark.parametrize("where", ["config", "source"])
def test_a_request_is_told_the_place(tmp_path: Path, models: dict[str, type[BaseModel]], where: str) -> None:
    """As every other issue of it; a key nobody reads is one too, for the tool would not run with it."""
    config = {"ringingTimeout": 0, "colour": "red", "destinations": [{"to": "+442071838750", "label": "London"}]}
    source: dict[str, Any] = {"source": {"kind": "builtin", "name": "transfer_call", "config": config}}
    tool = {"name": "transfer_call", **(source if where == "source" else {"config": config})}
    rules = Rules(AddressPolicy.of(""), tmp_path, {}, models, POLICY)
    body = {"name": "A", "systemPrompt": "x", "intent": {"language": "en"}, "tools": [tool]}
    checked = new_agent(body, rules)
    assert checked.agent is None
    inner = ("source", "config") if where == "source" else ("config",)
    assert {issue.path for issue in checked.issues} == {
        ("tools", 0, *inner, "ringingTimeout"),
        ("tools", 0, *inner, "colour"),
        ("tools", 0, *inner, "destinations", 0, "to"),
    }
    config.clear()
    assert new_agent(body, rules).agent is not None
