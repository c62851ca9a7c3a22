"""Asking a pre-call webhook over real HTTP: what it is sent, and what becomes of every kind of answer."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_worker.domain.lifecycle_hook import LifecycleHook
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.testing.hook_receiver import Fault, HookReceiver
from agent_worker.webhooks.pre_call import PreCallAnswer, ask, pre_call_payload
from agent_worker.webhooks.signing import body_of
from tests.integration.loopback_tls import Authority

SECRET = "whsec_c2VjcmV0LW9mLXRoZS1wcmUtY2FsbC10ZXN0cw=="
PAYLOAD = pre_call_payload(
    call_id="c1",
    organization_id="org_1",
    direction="inbound",
    caller_number="+12015551234",
    dialed_number="+12015550199",
    forwarded_from_number=None,
    phone_number_id=None,
    call_control_id="phone-c1",
    agent_id="front-desk",
    pipeline_config={"firstMessage": "Grüß Gott"},
    metadata={},
)


@pytest.fixture
async def receiver() -> AsyncIterator[HookReceiver]:
    async with HookReceiver(secret=SECRET) as made:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    made = EgressClient(AddressPolicy.of("127.0.0.1"))
    yield made
    await made.aclose()


async def asked(
    client: EgressClient,
    url: str,
    *,
    secret: str = SECRET,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = 5,
    payload: Mapping[str, Any] = PAYLOAD,
    **hook: Any,
) -> PreCallAnswer:
    configured = LifecycleHook.model_validate({"url": url, **hook})
    return await ask(configured, payload, secret=secret, env=env or {}, client=client, timeout_seconds=timeout_seconds)


async def test_it_is_sent_signed_and_answered(receiver: HookReceiver, client: EgressClient) -> None:
    """The body is the payload, the signature holds by the receiver's own library, the reply is the answer."""
    receiver.answer_with({"firstMessage": "Hi Maya.", "pipelineConfig": {"voice": "v2"}}, delay_ms=50)

    answer = await asked(client, receiver.url)

    sent = receiver.requests[0]
    assert sent.verified is True
    assert sent.json == PAYLOAD
    assert sent.headers["webhook-id"] == "msg_c1_pre_call"
    assert sent.headers["content-type"] == "application/json"
    assert answer.overrides == {"firstMessage": "Hi Maya.", "voice": "v2"}
    assert (answer.failure, answer.detail, answer.reject, answer.http_status) == (None, "", False, 200)
    assert 50 <= answer.duration_ms < 2_000


@pytest.mark.parametrize(("status", "body"), [(204, None), (200, None), (201, {})])
async def test_nothing_said_is_success(
    receiver: HookReceiver, client: EgressClient, status: int, body: dict[str, Any] | None
) -> None:
    """A receiver that has nothing to change may answer with nothing."""
    receiver.answer_with(body, status=status)

    answer = await asked(client, receiver.url)

    assert (answer.overrides, answer.failure, answer.http_status) == ({}, None, status)


async def test_a_call_is_declined(receiver: HookReceiver, client: EgressClient) -> None:
    """Then there is nothing to override."""
    receiver.answer_with({"reject": True, "rejectMessage": "We are closed.", "voice": "v"})

    answer = await asked(client, receiver.url)

    assert (answer.reject, answer.reject_message, answer.overrides) == (True, "We are closed.", None)
    assert answer.failure is None


@pytest.mark.parametrize(
    ("written", "env", "signs"),
    [
        ("whsec_c2VjcmV0LW9mLW9uZS1ob29rLWFsb25lLXRlc3Q=", {}, None),
        ("plain-secret", {}, "plain-secret"),
        ("env:HOOK_SECRET", {"HOOK_SECRET": "from-environment\n"}, "from-environment"),
    ],
)
async def test_the_hooks_own_secret_signs_instead(
    client: EgressClient, written: str, env: dict[str, str], signs: str | None
) -> None:
    """It is used as written, or read from the environment; the organization's does not verify then."""
    async with HookReceiver(secret=signs or written) as receiver, HookReceiver(secret=SECRET) as other:
        for to in (receiver, other):
            configured = LifecycleHook.model_validate({"url": to.url, "secret": written})
            await ask(configured, PAYLOAD, secret=SECRET, env=env, client=client, timeout_seconds=5)

        assert receiver.requests[0].verified is True
        assert other.requests[0].verified is False


async def test_configured_headers_are_sent_and_ours_are_not_theirs(
    receiver: HookReceiver, client: EgressClient
) -> None:
    """Custom and auth headers arrive; none of them can pass for a signature or frame the request."""
    answer = await asked(
        client,
        receiver.url,
        env={"CRM_KEY": "Bearer abc"},
        headers={
            "X-Tenant": "t1", "authorization": "weaker", "Content-Type": "text/plain", "Host": "evil.example",
            "Content-Length": "1", "WEBHOOK-ID": "forged", "Webhook-Signature": "v1,forged", "webhook-extra": "x",
            "Transfer-Encoding": "chunked",
        },
        authHeaders=[{"name": "Authorization", "value": "env:CRM_KEY"}, {"name": "webhook-timestamp", "value": "1"}],
    )  # fmt: skip

    headers = receiver.requests[0].headers
    assert answer.failure is None
    assert (headers["x-tenant"], headers["authorization"]) == ("t1", "Bearer abc")
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["webhook-id"] == "msg_c1_pre_call"
    assert "webhook-extra" not in headers and "transfer-encoding" not in headers
    assert receiver.requests[0].verified is True


@pytest.mark.parametrize(
    "hook",
    [
        {"secret": "env:NOT_SET"},
        {"secret": "env:EMPTY"},
        {"secret": "whsec_%%%"},
        {"authHeaders": [{"name": "Authorization", "value": "env:NOT_SET"}]},
        {"authHeaders": [{"name": "Authorization"}]},
        {"authHeaders": [{"name": "Authorization", "value": "env:TWO_LINES"}]},
    ],
)
async def test_a_missing_secret_is_a_failure_and_nothing_is_sent(
    receiver: HookReceiver, client: EgressClient, hook: dict[str, Any]
) -> None:
    """No request goes out unsigned or without what it should carry, and no value is told."""
    configured = LifecycleHook.model_validate({"url": receiver.url, **hook})
    env = {"EMPTY": " ", "TWO_LINES": "hush\nhush"}

    answer = await ask(configured, PAYLOAD, secret=SECRET, env=env, client=client, timeout_seconds=5)

    assert (answer.failure, answer.overrides, answer.http_status) == ("secret_missing", None, None)
    assert answer.detail and "hush" not in answer.detail
    assert receiver.requests == []


async def test_an_organization_secret_that_is_none_is_a_failure(receiver: HookReceiver, client: EgressClient) -> None:
    """It is said, not raised."""
    assert (await asked(client, receiver.url, secret="")).failure == "secret_missing"


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        ("hang", "timeout"),
        ("drip", "timeout"),
        ("close", "unreachable"),
        ("close_midstream", "unreachable"),
        ("huge", "too_large"),
        ("gzip_bomb", "not_json"),
    ],
)
async def test_a_broken_receiver_is_a_failure_in_time(
    receiver: HookReceiver, client: EgressClient, fault: Fault, failure: str
) -> None:
    """Each way of breaking has its word, and none outlasts the deadline."""
    receiver.answer_with(fault=fault)
    started = time.monotonic()

    answer = await asked(client, receiver.url, timeout_seconds=0.4 if failure == "timeout" else 4)

    assert (answer.failure, answer.http_status, answer.overrides, answer.reject) == (failure, None, None, False)
    assert answer.detail and time.monotonic() - started < 4


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 410, 500, 503])
async def test_a_status_that_is_no_success_is_a_failure(
    receiver: HookReceiver, client: EgressClient, status: int
) -> None:
    """Whatever its body says; a redirect to a metadata address leads nowhere."""
    receiver.answer_with({"reject": True}, status=status, headers={"Location": "http://169.254.169.254/"})

    answer = await asked(client, receiver.url)

    assert (answer.failure, answer.http_status, answer.reject) == ("http_status", status, False)
    assert str(status) in answer.detail and ("Redirects" in answer.detail) is (status < 400)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"<html>It works!</html>", "not_json"),
        (b"[" * 60_000, "not_json"),
        (b"[]", "not_an_object"),
        (b'{"reject": "no"}', "wrong_type"),
        (b" " * 65_536 + b"{}", "too_large"),
    ],
)
async def test_a_body_that_is_no_answer_is_a_failure(
    receiver: HookReceiver, client: EgressClient, body: bytes, failure: str
) -> None:
    """Junk is told apart, and the call goes on without it."""
    receiver.answer_with(body)

    answer = await asked(client, receiver.url)

    assert (answer.failure, answer.overrides) == (failure, None)


async def test_the_shorter_of_two_timeouts_holds(receiver: HookReceiver, client: EgressClient) -> None:
    """The hook's own, and what the call has left."""
    receiver.answer_with(fault="hang")

    own = await asked(client, receiver.url, timeoutMs=150)
    left = await asked(client, receiver.url, timeoutMs=8_000, timeout_seconds=0.15)

    assert [answer.failure for answer in (own, left)] == ["timeout", "timeout"]
    assert all(150 <= answer.duration_ms < 3_000 for answer in (own, left))


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
        "http://2130706434/",
        "https://metadata.google.internal/",
        "http://hooks.example.com/",
        "https://hooks.example.com/",
        "https://user:hush@hooks.example.com/",
    ],
)
async def test_an_address_that_may_not_be_reached_is_a_failure(url: str) -> None:
    """The guard's refusal is an answer like any other."""

    async def resolve(host: str, port: int) -> list[str]:
        return ["169.254.169.254"]

    guarded = EgressClient(AddressPolicy.of("127.0.0.1"), resolve=resolve)

    answer = await asked(guarded, url)

    assert (answer.failure, answer.http_status) == ("address_refused", None)
    assert "hush" not in answer.detail and "meta-data" not in answer.detail


async def test_nobody_there_is_a_failure(client: EgressClient, tmp_path: Path) -> None:
    """An unknown name, a closed port, and a certificate nobody trusts."""

    async def unknown(host: str, port: int) -> list[str]:
        raise OSError("unknown")

    async with HookReceiver(tls=Authority(tmp_path).server("hooks.example")) as untrusted:
        assert (await asked(client, untrusted.url)).failure == "tls"
        closed = untrusted.url.replace("https", "http")
    assert (await asked(client, closed)).failure == "unreachable"
    lost = EgressClient(AddressPolicy.of(""), resolve=unknown)
    assert (await asked(lost, "https://nowhere.example.com/")).failure == "unreachable"


@pytest.mark.parametrize("metadata", [{"half": "\ud83d"}, {"nul": "\x00"}])
async def test_odd_text_in_a_call_is_sent_all_the_same(
    receiver: HookReceiver, client: EgressClient, metadata: dict[str, str]
) -> None:
    """What a trunk or a dispatch wrote does not keep the webhook from being asked."""
    answer = await asked(client, receiver.url, payload={**PAYLOAD, "metadata": metadata})

    assert answer.failure is None
    assert receiver.requests[0].verified is True


async def test_what_cannot_be_written_is_a_failure(receiver: HookReceiver, client: EgressClient) -> None:
    """A payload that is no JSON is said, not raised."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    for metadata in ({"deep": deep}, {"set": {1}}):
        assert (await asked(client, receiver.url, payload={**PAYLOAD, "metadata": metadata})).failure == "payload"
    assert receiver.requests == []
    assert body_of({"a": "é"}) == '{"a":"é"}'.encode()
