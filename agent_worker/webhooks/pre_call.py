"""Asks the operator's webhook, before a call is answered, whether and with what configuration to take it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agent_worker.domain.call import utc_now
from agent_worker.domain.lifecycle_hook import DEFAULT_PRE_CALL_TIMEOUT_MS, LifecycleHook
from agent_worker.egress.client import EgressClient, Reply
from agent_worker.errors import EgressError, SettingsError
from agent_worker.webhooks.pre_call_reply import NotUsable, read_reply
from agent_worker.webhooks.signing import WebhookSigner, body_of, required_value, sent_headers

Failure = Literal[
    "timeout",
    "http_status",
    "not_json",
    "not_an_object",
    "wrong_type",
    "address_refused",
    "unreachable",
    "tls",
    "too_large",
    "secret_missing",
    "payload",
]

MAX_REPLY_BYTES = 65_536

_FAILURES: Mapping[str, Failure] = {
    "egress_url_invalid": "address_refused",
    "egress_scheme": "address_refused",
    "egress_address_refused": "address_refused",
    "egress_header_invalid": "secret_missing",  # a configured header is valid: only a variable's value can be wrong
    "egress_timeout": "timeout",
    "egress_tls": "tls",
    "egress_response_too_large": "too_large",
    "egress_response_encoded": "not_json",
}


@dataclass(frozen=True)
class PreCallAnswer:
    """What came of asking.

    Attributes:
        overrides: the reply's keys, as the receiver wrote them, one spelling of each; None where it failed or declines.
        reject: the receiver declines the call.
        reject_message: what the caller is told then; "" for the product's own words.
        failure: why there is no answer, in a word; None where there is one.
        detail: one sentence for the operator where it failed, else "".
        http_status: of the reply, if there was one.
        duration_ms: how long asking took, ms.
    """

    overrides: dict[str, Any] | None
    reject: bool
    reject_message: str
    failure: Failure | None
    detail: str
    http_status: int | None
    duration_ms: int


class _Unasked(Exception):
    """The request cannot be made as configured."""

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(detail)
        self.failure: Failure = failure


def pre_call_payload(
    *,
    call_id: str,
    organization_id: str,
    direction: str,
    caller_number: str | None,
    dialed_number: str | None,
    forwarded_from_number: str | None,
    phone_number_id: str | None,
    call_control_id: str | None,
    agent_id: str | None,
    pipeline_config: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the body of `call.pre_call` (contract 5.2).

    Args:
        caller_number: who dials: the person on an inbound call, we on an outbound one.
        dialed_number: who is dialled.
        phone_number_id: id of our number.
        call_control_id: identity of the phone's participant.
        pipeline_config: the configuration so far, without secrets.
    """
    return {
        "type": "call.pre_call",
        "call_id": call_id,
        "session_id": call_id,
        "organization_id": organization_id,
        "agent_id": agent_id,
        "direction": str(direction),
        "to": dialed_number,
        "from": caller_number,
        "dialed_number": dialed_number,
        "forwarded_from_number": forwarded_from_number,
        "phone_number_id": phone_number_id,
        "call_control_id": call_control_id,
        "pipeline_config": dict(pipeline_config),
        "metadata": dict(metadata),
    }


async def ask(
    hook: LifecycleHook,
    payload: Mapping[str, Any],
    *,
    secret: str,
    env: Mapping[str, str],
    client: EgressClient,
    timeout_seconds: float,
) -> PreCallAnswer:
    """Ask once and return what came of it; nothing the network or the receiver does raises.

    Args:
        payload: what `pre_call_payload` returns.
        secret: the organization's; the hook's own comes first.
        env: the environment, for values written `env:NAME`.
        timeout_seconds: longest wait; the hook's own timeout holds where it is shorter.
    """
    started = time.perf_counter()
    timeout = min(timeout_seconds, (hook.timeout_ms or DEFAULT_PRE_CALL_TIMEOUT_MS) / 1000)
    status: int | None = None
    try:
        body, headers = _request(hook, payload, secret, env)
        reply = await client.post(hook.url, body, headers, timeout_seconds=timeout, max_bytes=MAX_REPLY_BYTES)
        status = reply.status
        if not reply.is_success:
            raise _Unasked("http_status", _status_sentence(reply))
        said = read_reply(reply.body)
    except (_Unasked, NotUsable) as error:
        return _failed(error.failure, str(error), status, started)
    except EgressError as error:
        return _failed(_FAILURES.get(error.code, "unreachable"), str(error), status, started)
    return PreCallAnswer(
        overrides=None if said.reject else said.overrides,
        reject=said.reject,
        reject_message=said.reject_message,
        failure=None,
        detail="",
        http_status=status,
        duration_ms=_since(started),
    )


def _request(
    hook: LifecycleHook, payload: Mapping[str, Any], secret: str, env: Mapping[str, str]
) -> tuple[bytes, dict[str, str]]:
    try:
        body = body_of(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise _Unasked("payload", "What is known of the call cannot be written as JSON.") from error
    try:
        key = required_value(hook.secret, "the webhook's secret", env) if hook.secret else secret
        headers = {name.lower(): value for name, value in hook.headers.items()}
        for header in hook.auth_headers:
            value = required_value(header.value or "", f"the auth header {header.name}", env)
            headers[header.name.lower()] = value
        signed = WebhookSigner(key).headers(f"msg_{payload['call_id']}_pre_call", body, utc_now())
    except SettingsError as error:
        raise _Unasked("secret_missing", str(error)) from error
    return body, sent_headers(headers, signed)


def _status_sentence(reply: Reply) -> str:
    redirected = " Redirects are not followed: configure the address it leads to." if 300 <= reply.status < 400 else ""
    return f"The webhook answered HTTP {reply.status}.{redirected}"


def _failed(failure: Failure, detail: str, status: int | None, started: float) -> PreCallAnswer:
    return PreCallAnswer(
        overrides=None,
        reject=False,
        reject_message="",
        failure=failure,
        detail=detail,
        http_status=status,
        duration_ms=_since(started),
    )


def _since(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)
