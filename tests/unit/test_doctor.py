"""What the doctor makes of what it sees: each cause has its name, its sentence and its remedy."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from livekit import api
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError

from agent_worker.config.catalog import AgentCatalog
from agent_worker.doctor import bridge, loopback, loopback_call, numbers, provider_questions, server, workers
from agent_worker.doctor.checks import checks
from agent_worker.doctor.configuration import check_configuration
from agent_worker.doctor.examination import Check, Examination, examine
from agent_worker.doctor.finding import Finding, Status
from agent_worker.doctor.loopback import Expected, judge_call
from agent_worker.doctor.loopback_call import RATE, LoopbackCall
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ConfigError, SettingsError
from agent_worker.settings import Settings
from agent_worker.telephony.matching import Reason
from agent_worker.telephony.probe import WorkerState, is_probe
from agent_worker.testing.audio import tone

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


# --- LiveKit

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIn0.c2VjcmV0"


@pytest.mark.parametrize(
    ("status", "content_type", "body", "skew", "code"),
    [
        (401, "text/plain", "invalid API key: nokey", 0.0, "wrong_key"),
        (401, "text/plain", f"invalid token: {TOKEN}, error: token signature is invalid", 0.0, "wrong_secret"),
        (
            401,
            "text/plain",
            f"invalid token: {TOKEN}, error: go-jose: error in cryptographic primitive",
            0.0,
            "wrong_secret",
        ),
        (
            401,
            "text/plain",
            f"invalid token: {TOKEN}, error: token has invalid claims: token is expired",
            -9000.0,
            "clock",
        ),
        (401, "text/plain", f"invalid token: {TOKEN}, error: token is not valid yet", 400.0, "clock"),
        (401, "application/json", '{"code":"unauthenticated","msg":"no"}', None, "key_refused"),
        (403, "text/html", "forbidden", None, "key_refused"),
        (301, "text/html", "moved", None, "redirected"),
        (
            500,
            "application/json",
            '{"code":"unknown","msg":"could not get rooms: dial tcp: refused"}',
            0.0,
            "redis_away",
        ),
        (502, "text/html", "bad gateway", None, "server_error"),
        (200, "text/html", "<html>", None, "not_livekit"),
        (200, "application/json", '{"hello":"world"}', None, "not_livekit"),
        (404, "", "", None, "not_livekit"),
    ],
)
def test_refusals_of_the_server(status: int, content_type: str, body: str, skew: float | None, code: str) -> None:
    """Wrong key, wrong secret, wrong clock and wrong server are told apart; no token is repeated."""
    found, message, remedy = server.explain_refusal(status, content_type, body, skew)

    assert found == code
    assert message.endswith(".") and remedy.endswith((".", "?", ")."))
    assert "eyJ" not in message + remedy


def test_how_far_the_clock_is_off_is_told() -> None:
    """The server's own time says in which direction ours is wrong."""
    _, ahead, _ = server.explain_refusal(401, "text/plain", "token is not valid yet", 400.0)
    _, behind, _ = server.explain_refusal(401, "text/plain", "token is expired", -9000.0)

    assert "ahead of LiveKit's by 400 s" in ahead
    assert "behind LiveKit's by 9000 s" in behind


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("wss://livekit.example.com", "https://livekit.example.com"),
        ("ws://127.0.0.1:7880/", "http://127.0.0.1:7880"),
        ("https://livekit.example.com/path/", "https://livekit.example.com/path"),
        ("livekit.example.com", None),
        ("ftp://livekit.example.com", None),
        ("ws://", None),
        ("ws://host:99999", None),
    ],
)
def test_addresses_of_livekit(url: str, read: str | None) -> None:
    """Both schemes lead to the same server, and what is no address is found before anything is asked."""
    assert server.http_url(url) == read


def test_connections_that_are_not_made() -> None:
    """Time and refusal are told apart, with host and port."""
    timeout = server.explain_connection(aiohttp.ServerTimeoutError(), "http://lk.example:7880")
    refused = server.explain_connection(ConnectionRefusedError(), "https://lk.example")
    odd = server.explain_connection(aiohttp.ServerDisconnectedError(), "http://lk.example")

    assert (timeout[0], refused[0], odd[0]) == ("timeout", "refused", "no_http")
    assert "lk.example:7880" in timeout[1] and "lk.example:443" in refused[1]


# --- the bridge


@pytest.mark.parametrize(
    ("code", "message", "knock"),
    [
        ("unknown", "twirp error unknown: invalid SIP media encryption type", "answers"),
        ("unavailable", "twirp error unknown: no response from servers", "nobody"),
        ("unavailable", "twirp error unknown: cpu exhausted", "unwell"),
        ("invalid_argument", "something new", "unknown"),
    ],
)
def test_a_refusal_tells_of_the_bridge(code: str, message: str, knock: str) -> None:
    """Only a bridge refuses the odd encryption; without one LiveKit says that nobody answered."""
    assert bridge.read_knock(code, message) == knock


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("internal", "twirp error unknown: sip not connected (redis required)", "no_redis"),
        ("unknown", "dial tcp 127.0.0.1:6379: connect: connection refused", "redis_away"),
        ("permission_denied", "requires admin", "no_sip_grant"),
        ("internal", "odd", "lists_failed"),
    ],
)
def test_trunks_that_cannot_be_listed(code: str, message: str, cause: str) -> None:
    """A LiveKit without redis has no telephony, and says so in its own words."""
    assert bridge.explain_no_sip(code, message)[0] == cause


def test_where_the_bridge_is_looked_for() -> None:
    """The setting counts, else LiveKit's own host with SIP's port."""
    assert bridge.bridge_address(Settings(sip_address="sip.example.com"))[0] == "sip.example.com:5060"
    assert bridge.bridge_address(Settings(sip_address="[::1]:5070")) == ("[::1]:5070", "::1", 5070)
    guessed = Settings(LIVEKIT_URL="wss://livekit.example.com")  # type: ignore[call-arg]
    assert bridge.bridge_address(guessed)[0] == "livekit.example.com:5060"
    with pytest.raises(ValueError, match="no host:port"):
        bridge.bridge_address(Settings(sip_address="sip:desk@pbx"))


# --- numbers


def trunk(*own: str, **fields: Any) -> api.SIPInboundTrunkInfo:
    return api.SIPInboundTrunkInfo(sip_trunk_id="ST_1", name="carrier", numbers=list(own), **fields)


def rule(*bound: str, agent: str = "phone-agent", **fields: Any) -> api.SIPDispatchRuleInfo:
    fields.setdefault("rule", api.SIPDispatchRule(dispatch_rule_individual=api.SIPDispatchRuleIndividual()))
    config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=agent)] if agent else [])
    return api.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_1", trunk_ids=list(bound), room_config=config, **fields)


PIN = api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="r", pin="42"))
LOBBY = api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="lobby"))
SHAPES: list[tuple[str, Status, list[Any], list[Any]]] = [
    ("", OK, [trunk(NUMBER)], [rule("ST_1")]),
    ("no_trunk", FAILED, [], [rule("ST_1")]),
    ("trunk_written_differently", FAILED, [trunk("2015550123")], [rule("ST_1")]),
    ("two_trunks", FAILED, [trunk(NUMBER), trunk(NUMBER)], [rule("ST_1")]),
    ("no_rule", FAILED, [trunk(NUMBER)], []),
    ("rule_of_another_trunk", FAILED, [trunk(NUMBER)], [rule("ST_2")]),
    ("rule_of_another_number", FAILED, [trunk(NUMBER)], [rule("ST_1", numbers=["+1"])]),
    ("rule_written_differently", FAILED, [trunk(NUMBER)], [rule("ST_1", numbers=["12015550123"])]),
    ("rule_for_other_callers", FAILED, [trunk(NUMBER)], [rule("ST_1", inbound_numbers=["+1"])]),
    ("two_rules", FAILED, [trunk(NUMBER)], [rule("ST_1"), rule("ST_1")]),
    ("asks_pin", FAILED, [trunk(NUMBER)], [rule("ST_1", rule=PIN)]),
    ("no_agent", FAILED, [trunk(NUMBER)], [rule("ST_1", agent="")]),
    ("other_agent", FAILED, [trunk(NUMBER)], [rule("ST_1", agent="receptionist")]),
    ("hides_numbers", FAILED, [trunk(NUMBER)], [rule("ST_1", hide_phone_number=True)]),
    ("one_room", WARNING, [trunk(NUMBER)], [rule("ST_1", rule=LOBBY)]),
    ("only_from_callers", WARNING, [trunk(NUMBER, allowed_numbers=["+1"])], [rule("ST_1")]),
    ("agent_from_preset", WARNING, [trunk(NUMBER)], [rule("ST_1", agent="", room_preset="phone")]),
    ("open_to_strangers", WARNING, [], [rule()]),
]


@pytest.mark.parametrize(("code", "status", "trunks", "rules"), SHAPES, ids=[shape[0] or "well" for shape in SHAPES])
async def test_each_way_to_lose_a_number_has_its_sentences(
    code: str, status: Status, trunks: list[Any], rules: list[Any]
) -> None:
    """Cause and remedy are whole sentences that name the number, or the rule that is open."""
    exam = examination(trunks=trunks, rules=rules)
    await numbers.check_numbers(exam)

    first = exam.findings[0]
    assert (first.status, first.code) == (status, code)
    assert "{" not in first.message + first.remedy and first.message.endswith(".")
    assert (first.remedy != "") == (status is not OK)
    assert (NUMBER if code != "open_to_strangers" else "SDR_1") in first.message


def test_no_reason_is_without_words() -> None:
    """Whatever becomes of a call can be told."""
    assert set(numbers.SENTENCES) == set(Reason) - {Reason.MATCHES}


async def test_numbers_with_the_same_fate_are_told_together() -> None:
    """A thousand numbers without a trunk are one line, not a thousand."""
    many = [f"+1201555{index:04}" for index in range(1_000)]
    agent = AgentConfig(name="desk", system_prompt="Be kind.", numbers=many)
    exam = examination(trunks=[], rules=[], catalog=AgentCatalog.of([agent]))
    await numbers.check_numbers(exam)

    [finding] = exam.findings
    assert "and 995 more" in finding.message
    assert len(finding.detail["numbers"]) == 100


async def test_numbers_hidden_from_us_matter_only_where_we_look_at_them() -> None:
    """A rule that says which agent it means, or a default agent, makes hidden numbers bearable."""
    hidden = rule("ST_1", hide_phone_number=True)
    default = examination(trunks=[trunk(NUMBER)], rules=[hidden], settings=Settings(default_agent="desk"))
    await numbers.check_numbers(default)
    hidden.room_config.agents[0].metadata = '{"agentId": "desk"}'
    named = examination(trunks=[trunk(NUMBER)], rules=[hidden])
    await numbers.check_numbers(named)

    assert default.findings[0].status is WARNING
    assert [finding.status for finding in named.findings] == [OK]


# --- workers


@pytest.mark.parametrize(
    ("states", "status", "code", "free"),
    [
        ([("ready", 5, 2), ("full", 5, 5)], OK, "", 3),
        ([("full", 1, 1)], FAILED, "no_slots", 0),
        ([("draining", 5, 1)], FAILED, "draining", 0),
        ([("draining", 5, 1), ("full", 2, 2)], FAILED, "no_slots", 0),
    ],
)
async def test_slots_are_counted_over_all_workers(
    states: list[tuple[str, int, int]], status: Status, code: str, free: int
) -> None:
    """A worker that stops has no free slot, however few calls it holds."""
    found = [
        WorkerState(f"host-{index}", state, slots, calls, "1") for index, (state, slots, calls) in enumerate(states)
    ]
    exam = examination(workers=found)
    await workers.check_slots(exam)

    [finding] = exam.findings
    assert (finding.status, finding.code, finding.detail["free"]) == (status, code, free)


@pytest.mark.parametrize(
    ("metadata", "probe"),
    [
        ('{"agentWorkerProbe": "ab12"}', True),
        ('{"agentWorkerProbe": 1}', False),
        ("agentWorkerProbe", False),
        ("", False),
    ],
)
def test_only_a_probe_is_a_probe(metadata: str, probe: bool) -> None:
    """A call whose metadata merely mentions the word is a call."""
    assert is_probe(metadata) is probe


# --- providers


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def handshake(status: int) -> Exception:
    return aiohttp.WSServerHandshakeError(None, (), status=status, message="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (APIStatusError("nope", status_code=401), "wrong_key"),
        (chained(APIConnectionError("failed to connect"), handshake(403)), "wrong_key"),
        (APIStatusError("gone", status_code=404), "unknown_model"),
        (APIStatusError("bad voice", status_code=400), "request_refused"),
        (APIStatusError("slow down", status_code=429), "quota"),
        (APIStatusError("oops", status_code=503), "provider_down"),
        (chained(APIConnectionError("failed"), ConnectionRefusedError()), "unreachable"),
        (APITimeoutError(), "timeout"),
        (TimeoutError(), "timeout"),
        (provider_questions.NothingSaid("no audio came"), "nothing_said"),
    ],
)
def test_errors_of_providers_are_told_apart(error: Exception, code: str) -> None:
    """Whatever a plugin raises ends as one cause with one remedy."""
    found, cause, remedy = provider_questions.explain_provider(
        error, key="OPENAI_API_KEY", base_url="OPENAI_BASE_URL", secrets={}
    )

    assert found == code
    assert cause and remedy.endswith(".")


def test_a_providers_word_is_quoted_without_the_key() -> None:
    """Providers repeat the key they refuse, whole or in part."""
    body = {"error": {"message": "Model x not found for key sk-abcdefgh12345678 of topsecretvalue"}}
    error = APIStatusError("bad", status_code=404, body=body)
    _, cause, _ = provider_questions.explain_provider(
        error, key="OPENAI_API_KEY", base_url=None, secrets={"OPENAI_API_KEY": "topsecretvalue"}
    )

    assert "Model x not found" in cause
    assert "topsecretvalue" not in cause and "abcdefgh" not in cause


# --- the call

SPEECH = np.concatenate((np.zeros(RATE // 2, np.int16), tone(440, 1.5, RATE), np.zeros(RATE // 2, np.int16)))
HUM = tone(440, 1.5, RATE, level_dbfs=-43)
ANSWERED = {"ringing": 0.1, "reached_room": 0.2, "agent_joined": 0.4, "answered": 1.0, "audio_from": 1.0}


@pytest.mark.parametrize(
    ("call", "expected", "status", "code"),
    [
        (LoopbackCall(**ANSWERED, audio=SPEECH), Expected(), OK, ""),
        (LoopbackCall(**(ANSWERED | {"audio_from": 4.0}), audio=SPEECH), Expected(), WARNING, "late"),
        (LoopbackCall(**ANSWERED, audio=HUM), Expected(), WARNING, "quiet"),
        (LoopbackCall(**ANSWERED, audio=np.zeros(RATE, np.int16)), Expected(), FAILED, "silence"),
        (LoopbackCall(**ANSWERED, audio=np.zeros(RATE, np.int16)), Expected(silent=True), OK, ""),
        (LoopbackCall(**ANSWERED), Expected(), FAILED, "no_audio"),
        (LoopbackCall(**ANSWERED, hung_up=1.5), Expected(), FAILED, "hung_up"),
        (LoopbackCall(failure="canceled", given_up=20.0), Expected(), FAILED, "bridge_deaf"),
        (LoopbackCall(failure="canceled", given_up=20.0, ringing=0.1), Expected(), FAILED, "nobody_there"),
        (
            LoopbackCall(failure="canceled", given_up=20.0, ringing=0.1),
            Expected(only_from_addresses=True),
            WARNING,
            "address_not_allowed",
        ),
        (
            LoopbackCall(failure="canceled", given_up=20.0, ringing=0.1, reached_room=0.3),
            Expected(only_from_addresses=True),
            FAILED,
            "no_agent_joined",
        ),
        (
            LoopbackCall(failure="canceled", given_up=20.0, ringing=0.1, reached_room=0.3, agent_joined=0.6),
            Expected(),
            FAILED,
            "not_picked_up",
        ),
        (LoopbackCall(failure="password_refused", given_up=0.1), Expected(), FAILED, "password_refused"),
        (LoopbackCall(failure="permission_denied", sip_status=403), Expected(), FAILED, "password_refused"),
        (LoopbackCall(failure="failed_precondition", sip_status=503), Expected(), FAILED, "clash"),
        (LoopbackCall(failure="invalid_argument", sip_status=488), Expected(), FAILED, "no_common_media"),
        (LoopbackCall(failure="not_found", sip_status=404), Expected(), FAILED, "refused"),
        (
            LoopbackCall(failure="resource_exhausted", sip_status=486, ringing=0.1, reached_room=0.3),
            Expected(),
            FAILED,
            "no_agent_joined",
        ),
        (LoopbackCall(failure="no_bridge"), Expected(), FAILED, "no_bridge"),
    ],
)
def test_how_far_a_call_came(call: LoopbackCall, expected: Expected, status: Status, code: str) -> None:
    """Each stage a call can end at has its own explanation."""
    found = judge_call(call, NUMBER, expected)

    assert found[:2] == (status, code)
    assert found[2].endswith((".", "!"))
    assert (found[3] != "") == (status is not OK)


def test_what_was_heard_is_told_in_figures_and_words() -> None:
    """Ring time, time to the first sound, seconds of speech, level, and the words a recogniser made of it."""
    message = judge_call(LoopbackCall(**ANSWERED, audio=SPEECH), NUMBER, Expected(), "Good morning.")[2]

    assert "answered after 1.0 s" in message
    assert "sound 0.5 s later, 1.5 s of speech at -15 dBFS: “Good morning”." in message


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("twirp error unknown: no auth header in sip invite response", "password_refused"),
        ("sip server required auth, but no username or password was provided", "password_refused"),
        ("twirp error unknown: no response from servers", "no_bridge"),
        ("twirp error unknown: sip request timed out", "canceled"),
    ],
)
def test_failures_without_a_sip_status(message: str, failure: str) -> None:
    """The bridge tells of a refused password in words only."""
    assert loopback_call.read_failure("canceled", message) == failure


async def test_a_number_that_is_not_ours_is_not_called() -> None:
    """--number takes a number of ours; another one is named, with those there are."""
    exam = examination(trunks=[], rules=[], number="+12015559999")
    await numbers.check_numbers(exam)
    exam.findings.clear()
    await loopback.check_call(exam)
    ours = examination(trunks=[], rules=[], number="(201) 555-0123".replace("(", "+1 ("))
    await numbers.check_numbers(ours)
    ours.findings.clear()
    await loopback.check_call(ours)

    assert (exam.findings[0].status, exam.findings[0].code) == (FAILED, "number_unknown")
    assert NUMBER in exam.findings[0].remedy
    assert ours.findings[0].status is SKIPPED and NUMBER in ours.findings[0].message


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
