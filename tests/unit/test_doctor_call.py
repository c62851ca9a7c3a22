"""What providers answer and what a call sounded like, as the doctor tells it."""

from __future__ import annotations

import aiohttp
import numpy as np
import pytest
from livekit.agents import APIConnectionError, APIStatusError, APITimeoutError

from agent_worker.doctor import loopback, loopback_call, numbers, provider_questions
from agent_worker.doctor.finding import Status
from agent_worker.doctor.loopback import Expected, judge_call
from agent_worker.doctor.loopback_call import RATE, LoopbackCall
from agent_worker.testing.audio import tone
from tests.examinations import FAILED, NUMBER, OK, SKIPPED, WARNING, examination

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
