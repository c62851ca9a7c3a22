"""What a pre-call webhook is told, and how its reply is read whatever bytes it is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.domain.call import Direction
from agent_worker.webhooks.pre_call import pre_call_payload
from agent_worker.webhooks.pre_call_reply import NotUsable, Said, read_reply

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)


def payload(**given: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "call_id": "s1",
        "organization_id": "org_1",
        "direction": Direction.INBOUND,
        "caller_number": "+12015551234",
        "dialed_number": "+12015550199",
        "forwarded_from_number": None,
        "phone_number_id": "pn_1",
        "call_control_id": "phone-s1",
        "agent_id": "front-desk",
        "pipeline_config": {"voice": "v"},
        "metadata": {"a": 1},
    }
    return pre_call_payload(**{**known, **given})


def test_the_body_is_the_contracts() -> None:
    """Every field of contract 5.2, and the agent, with the dialled number as `to`."""
    assert payload() == {
        "type": "call.pre_call",
        "call_id": "s1",
        "session_id": "s1",
        "organization_id": "org_1",
        "agent_id": "front-desk",
        "direction": "inbound",
        "to": "+12015550199",
        "from": "+12015551234",
        "dialed_number": "+12015550199",
        "forwarded_from_number": None,
        "phone_number_id": "pn_1",
        "call_control_id": "phone-s1",
        "pipeline_config": {"voice": "v"},
        "metadata": {"a": 1},
    }


def test_an_anonymous_caller_is_null() -> None:
    """A withheld number is null in the body, and the body is plain JSON."""
    body = json.loads(json.dumps(payload(caller_number=None, forwarded_from_number="+12015550000")))

    assert (body["from"], body["forwarded_from_number"]) == (None, "+12015550000")


def said(value: object) -> Said:
    return read_reply(json.dumps(value).encode())


@pytest.mark.parametrize("body", [b"", b" \r\n", b"{}"])
def test_nothing_said_is_an_answer(body: bytes) -> None:
    """An empty reply changes nothing."""
    assert read_reply(body) == Said()


@pytest.mark.parametrize(
    ("reply", "overrides"),
    [
        ({"firstMessage": "Hi"}, {"firstMessage": "Hi"}),
        ({"pipelineConfig": {"firstMessage": "Hi"}}, {"firstMessage": "Hi"}),
        ({"pipeline_config": {"first_message": "Hi"}}, {"firstMessage": "Hi"}),
        ({"firstMessage": "top", "pipelineConfig": {"firstMessage": "nested"}}, {"firstMessage": "nested"}),
        ({"firstMessage": "top", "pipelineConfig": {"first_message": "nested"}}, {"firstMessage": "nested"}),
        ({"llm": {"model": "top"}, "pipelineConfig": {"llmOptions": {"model": "n"}}}, {"llmOptions": {"model": "n"}}),
        ({"voice": "a", "pipelineConfig": {"firstMessage": "b"}}, {"voice": "a", "firstMessage": "b"}),
        ({"voice": "a", "pipelineConfig": None, "pipeline_config": None}, {"voice": "a"}),
        ({"pipeline_config": {"voice": "snake"}, "pipelineConfig": {"voice": "camel"}}, {"voice": "camel"}),
        ({"voice": "a", "pipelineConfig": {"voice": None}}, {"voice": None}),
        (
            {"metadata": {"a": 1, "b": 1}, "pipelineConfig": {"metadata": {"b": 2, "c": 2}}},
            {"metadata": {"a": 1, "b": 2, "c": 2}},
        ),
        (
            {
                "speechNormalization": {"pronunciationDictionary": {"a": "top"}, "textReplacements": {"&": "and"}},
                "pipelineConfig": {"pronunciationDictionary": {"a": "nested"}},
            },
            {
                "speechNormalization": {
                    "pronunciationDictionary": {"a": "nested"},
                    "textReplacements": {"&": "and"},
                }
            },
        ),
        ({"reject": False, "rejectMessage": "x", "nonsense": [1]}, {"nonsense": [1]}),
        ({"reject": None}, {}),
    ],
)
def test_keys_are_taken_from_the_top_and_from_within(reply: dict[str, Any], overrides: dict[str, Any]) -> None:
    """What is nested replaces the same key at the top, whichever way both are spelled; metadata adds up."""
    assert said(reply) == Said(overrides)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"reject": True}, ""),
        ({"reject": True, "rejectMessage": " We are closed. "}, "We are closed."),
        ({"reject": True, "reject_message": "Closed."}, "Closed."),
        ({"reject": True, "rejectMessage": "x" * 600}, "x" * 500),
        ({"reject": True, "rejectMessage": 7}, ""),
        ({"reject": True, "rejectMessage": None}, ""),
    ],
)
def test_a_call_is_declined_with_or_without_words(reply: dict[str, Any], message: str) -> None:
    """Only `true` declines; the sentence is bounded, and a wrong one does not turn a no into a yes."""
    answer = said(reply)

    assert (answer.reject, answer.reject_message) == (True, message)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"<html>", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b"\xff\xfe\x00", "not_json"),
        (b'{"a": NaN}', "not_json"),
        (b'{"a": -Infinity}', "not_json"),
        (b'{"a": 1e999}', "not_json"),
        (b'{"a": ' + b"9" * 6000 + b"}", "not_json"),
        (b"[" * 60_000, "not_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not_json"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "not_json"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "not_json"),
        (b"[]", "not_an_object"),
        (b'"yes"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"7", "not_an_object"),
        (b'{"reject": "true"}', "wrong_type"),
        (b'{"reject": 1}', "wrong_type"),
        (b'{"pipelineConfig": []}', "wrong_type"),
        (b'{"pipeline_config": "x"}', "wrong_type"),
    ],
)
def test_what_is_no_answer_has_a_word(body: bytes, failure: str) -> None:
    """Junk, bombs and wrong types are told apart, and none of them crashes."""
    with pytest.raises(NotUsable) as caught:
        read_reply(body)

    assert caught.value.failure == failure
    assert str(caught.value).endswith(".")


def test_what_is_nested_within_reason_is_taken() -> None:
    """Metadata of 30 levels passes; a byte order mark does not hurt."""
    deep = b'{"metadata":' * 30 + b"1" + b"}" * 30

    assert set(read_reply(b"\xef\xbb\xbf" + deep).overrides) == {"metadata"}


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_answer_or_a_word(body: bytes) -> None:
    """Nothing a receiver sends raises anything else."""
    try:
        read_reply(body)
    except NotUsable as error:
        assert error.failure in ("not_json", "not_an_object", "wrong_type")


@given(JSON)
def test_only_true_declines(value: Any) -> None:
    """A call is never declined by accident."""
    try:
        answer = said({"reject": value})
    except NotUsable:
        return
    assert answer.reject is (value is True)


def test_asking_needs_neither_database_nor_livekit() -> None:
    """A worker without the control plane's dependencies can ask."""
    script = "import sys, agent_worker.webhooks.pre_call; print({'sqlalchemy', 'livekit'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert shown.stdout.strip() == "set()"
