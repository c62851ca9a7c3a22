"""What the documentation has people write and type works: commands, files, requests, replies, the signature's check."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML
from typer.core import TyperGroup
from typer.main import get_command

from agent_worker.call.offer import given_call_id
from agent_worker.cli import app
from agent_worker.cli_check import run_check
from agent_worker.config.agent_checks import template_problems
from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.overrides import AGENT_ONLY_KEYS, IDENTITY_KEYS, read_overrides
from agent_worker.config.plan import Draft, draft, resolved_layers
from agent_worker.config.presets_file import read_presets
from agent_worker.config.telephony_file import read_telephony_file
from agent_worker.control.open_call import GREETING_SECONDS
from agent_worker.control.prices import read_prices
from agent_worker.doctor.checks import checks
from agent_worker.domain.call import CallOffer, Direction, utc_now
from agent_worker.domain.lifecycle_hook import DEFAULT_PRE_CALL_TIMEOUT_MS
from agent_worker.egress.policy import AddressPolicy
from agent_worker.prompting import read_prompts
from agent_worker.settings import Settings
from agent_worker.telephony.matching import Reason
from agent_worker.toolbox.loader import load_tools
from agent_worker.webhooks.pre_call import Failure, pre_call_payload
from agent_worker.webhooks.pre_call_reply import read_reply
from agent_worker.webhooks.signing import WebhookSigner, body_of, new_secret

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
}
ROUTING = PAGES["routing.md"]
BLOCKS = [
    pytest.param(found[1], found[2].strip(), found[3], id=f"{page} {found[1]} {found[2].strip()} {number}")
    for page, text in PAGES.items()
    for number, found in enumerate(
        re.finditer(r"^ *```(yaml|json)([^\n]*)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    )
]


def is_telephony(text: str, folder: Path) -> None:
    (folder / "telephony.yaml").write_text(text)
    found = read_telephony_file(folder / "telephony.yaml")
    assert found.config.numbers
    for number in found.config.numbers:
        layer = read_overrides(number.dispatch_metadata_template or {}, "number")
        assert (layer.wrong, layer.ignored) == ({}, [])


def test_the_templates_of_the_example_file_take_effect() -> None:
    """What deploy/telephony.example.yaml puts into a template is not hidden by the agent it is for."""
    catalog = AgentCatalog.load(ROOT / "agents", ROOT / "prompts", ROOT / "deploy" / "telephony.example.yaml")
    with_templates = [e164 for e164, entry in catalog.numbers.items() if entry.config.dispatch_metadata_template]
    assert with_templates
    for e164 in with_templates:
        offer = CallOffer(call_id="c1", direction=Direction.INBOUND, room_name="call-1", dialed_number=e164)
        planned = draft(offer, catalog, Settings())
        assert isinstance(planned, Draft)
        layer = next(layer for layer in planned.layers if layer.name == "number")
        origins = resolved_layers(planned).provenance
        for key, value in layer.values.items():
            names = [f"{key}.{name}" for name in value] if isinstance(value, dict) else [key]
            assert {origins[name] for name in names} == {"number"}, key


def test_one_function_may_be_several_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` looks for a tool's function, whatever the tool is called; a webhook needs none."""
    (tmp_path / "a.yaml").write_text(
        "{name: a, systemPrompt: x, tools: [{name: leave_word, source: {kind: builtin, name: take_message}},"
        " {name: slots, source: {kind: webhook, url: 'https://crm.example.com/slots'}},"
        " {name: end_call, source: {kind: builtin, name: end_cal}}]}"
    )
    monkeypatch.setenv("AGENT_WORKER_AGENTS_DIR", str(tmp_path))

    problems = [problem for problem in run_check().problems if problem.code == "agent_tool_unknown"]

    assert [problem.message for problem in problems] == ["There is no tool 'end_cal'."]


def is_agent(text: str, folder: Path) -> None:
    (folder / "agent.yaml").write_text(text)
    found = read_agent_file(folder / "agent.yaml")
    agent = found.agent
    assert list(template_problems(found, read_prompts(ROOT / "prompts"))) == []
    assert {tool.function for tool in agent.tools} <= set(load_tools(ROOT / "tools"))


def is_presets(text: str, folder: Path) -> None:
    (folder / "presets.yaml").write_text(text)
    assert read_presets(folder / "presets.yaml").model_fields_set


def is_prices(text: str, folder: Path) -> None:
    (folder / "prices.yaml").write_text(text)
    assert read_prices(folder / "prices.yaml")


def is_job_metadata(text: str, _folder: Path) -> None:
    said = json.loads(text)
    offer = CallOffer(call_id="c1", direction=Direction.INBOUND, room_name="call-1", job_metadata=said)
    planned = draft(offer, AgentCatalog.load(ROOT / "agents", ROOT / "prompts"), Settings())
    assert isinstance(planned, Draft)
    assert planned.ignored == ()
    assert planned.route.routed_by == "job_metadata"
    assert given_call_id(said)


def is_payload(text: str, _folder: Path) -> None:
    said = json.loads(text)
    ours = pre_call_payload(
        call_id=said["call_id"],
        organization_id=said["organization_id"],
        direction=said["direction"],
        caller_number=said["from"],
        dialed_number=said["to"],
        forwarded_from_number=said["forwarded_from_number"],
        phone_number_id=said["phone_number_id"],
        call_control_id=said["call_control_id"],
        agent_id=said["agent_id"],
        pipeline_config=said["pipeline_config"],
        metadata=said["metadata"],
    )
    assert ours == said
    assert list(ours) == list(said)


def is_reply(text: str, _folder: Path) -> None:
    said = read_reply(text.encode())
    layer = read_overrides(said.overrides, "pre_call")
    assert (layer.wrong, layer.ignored, layer.unknown) == ({}, [], {})
    assert layer.values or (said.reject and said.reject_message)


KINDS: Mapping[str, Callable[[str, Path], None]] = {
    "telephony": is_telephony,
    "agent": is_agent,
    "presets": is_presets,
    "prices": is_prices,
    "job-metadata": is_job_metadata,
    "pre-call-payload": is_payload,
    "pre-call-reply": is_reply,
}


@pytest.mark.parametrize(("language", "kind", "text"), BLOCKS)
def test_every_example_can_be_copied(language: str, kind: str, text: str, tmp_path: Path) -> None:
    """A block of YAML or JSON can be parsed, and one that says what it is can be used as that."""
    parsed = json.loads(text) if language == "json" else YAML(typ="safe", pure=True).load(text)
    assert isinstance(parsed, dict | list), "the example says nothing"
    if kind:
        KINDS[kind](text, tmp_path)


def test_each_kind_of_example_is_there() -> None:
    """No check above is without an example it checks."""
    assert {str(block.values[1]) for block in BLOCKS} - {""} == KINDS.keys()


def commands_of(page: str) -> Iterator[list[str]]:
    """What follows `python -m agent_worker`, to the end of the code it stands in."""
    for found in re.finditer(r"python -m agent_worker +([^`\n&|)#]+)", PAGES[page]):
        yield shlex.split(found[1])


@pytest.mark.parametrize("page", sorted(PAGES))
def test_every_command_can_be_typed(page: str) -> None:
    """Each command and each option that the documentation shows is one of the program's."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for words in commands_of(page):
        command = group.commands.get(words[0])
        assert command, words
        if isinstance(command, TyperGroup) and words[1:]:
            command = command.commands.get(words[1])
            assert command, words
        known = {name for parameter in command.params for name in (*parameter.opts, "--help")}
        assert {word for word in words[1:] if word.startswith("-")} <= known, words


def test_the_documentation_shows_every_option() -> None:
    """What `explain`, `provision` and `doctor` can do is on the page about routing."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name in ("explain", "provision", "doctor"):
        section = ROUTING.split(f"### {name}\n")[1].split("\n#")[0]
        for parameter in group.commands[name].params:
            assert parameter.opts[0] in section, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("secret", [new_secret(), "a-secret-in-plain-words"], ids=["made here", "in plain words"])
def test_the_receiver_of_the_docs_verifies_our_signature(secret: str) -> None:
    """What we sign passes; another body, another secret and an old message do not."""
    code = re.search(r"```python\n(.*?)```", ROUTING, re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    exec(code[1], names)
    verified = names["verified"]
    payload = {"type": "call.pre_call", "from": "+12015551234"}
    body = body_of(payload)
    headers = WebhookSigner(secret).headers("msg_1", body, utc_now())

    assert verified(secret, headers, body) == payload
    assert verified(secret, headers, body.replace(b"1234", b"1235")) is None
    assert verified(new_secret(), headers, body) is None
    old = WebhookSigner(secret).headers("msg_1", body, utc_now() - timedelta(minutes=6))
    assert verified(secret, old, body) is None


def test_every_way_a_webhook_fails_is_described() -> None:
    """Each cause an event can name has its line, and no other has one."""
    section = ROUTING.split("### Time, and what happens when it fails")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]

    assert sorted(re.findall(r"`([a-z_]+)`", " ".join(rows))) == sorted(get_args(Failure))


def test_the_webhooks_time_is_what_the_page_says() -> None:
    """The figures of the page are those of the code."""
    section = " ".join(ROUTING.split("### Time, and what happens when it fails")[1].split())
    left = Settings.model_fields["answer_budget_ms"].default / 1_000 - GREETING_SECONDS

    assert f"{DEFAULT_PRE_CALL_TIMEOUT_MS:,} where it is not given" in section
    assert f"less {GREETING_SECONDS:g} s" in section
    assert f"that is {left:g} s" in section


def test_what_a_reply_cannot_set_is_told() -> None:
    """The keys that only an agent has are named beside the reply."""
    section = ROUTING.split("### What may be replied")[1].split("### Time")[0]

    for key in AGENT_ONLY_KEYS - IDENTITY_KEYS:
        assert f"`{key}`" in section


def test_the_allowed_hosts_of_the_docs_are_allowed() -> None:
    """The example is a value the setting takes, and allows what it says."""
    found = re.search(r"AGENT_WORKER_EGRESS_ALLOW=(\S+)\n", ROUTING)
    assert found
    policy = AddressPolicy.of(found[1])

    assert policy.check_url("http://crm.internal:8443/hook").host == "crm.internal"
    assert policy.check_url("http://10.20.1.2/hook").port == 80


def test_the_findings_of_the_docs_are_the_doctors() -> None:
    """Each code in the table is one that check can find, and every reason a number is not reached is in it."""
    table = ROUTING.split("<!-- findings -->")[1].split("<!-- end of findings -->")[0]
    source = {
        path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "agent_worker" / "doctor").glob("*.py")
    } | {"matching": (ROOT / "agent_worker" / "telephony" / "matching.py").read_text(encoding="utf-8")}
    modules = {
        "bridge": ("bridge",),
        "call": ("loopback",),
        "livekit": ("server",),
        "numbers": ("numbers", "matching"),
        "providers": ("provider_questions", "providers"),
        "slots": ("workers",),
        "webhooks": ("hooks",),
        "worker": ("workers",),
    }
    assert modules.keys() <= {check.name for check in checks(call=True)}
    named: set[str] = set()
    for line in table.strip().splitlines()[2:]:
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for check in re.findall(r"`([a-z]+)`", cells[1]):
            text = " ".join(source[module] for module in modules[check])
            codes = set(re.findall(r"`([a-z_]+)`", cells[2]))
            named |= codes
            assert any(f'"{code}"' in text for code in codes), line
    everything = " ".join(source.values())
    assert [code for code in named if f'"{code}"' not in everything] == []
    assert {reason.value for reason in Reason} - {"matches"} <= named
    named_checks = set(re.findall(r"`([a-z]+)`", ROUTING.split("### doctor")[1].split("`--call`")[0]))
    assert {check.name for check in checks(call=False)} <= named_checks


def test_every_link_to_a_heading_leads_to_one() -> None:
    """A link with a # names a heading of the page it leads to."""
    for page, text in PAGES.items():
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
            there = PAGES[Path(target).name if target else page]
            slugs = {
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
                for heading in re.findall(r"^#+ (.*)$", there, re.MULTILINE)
            }
            assert anchor in slugs, f"{page}: {target}#{anchor}"
