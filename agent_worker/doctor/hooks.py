"""Do the webhooks that are asked before a call answer, and do they look at the signature?"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from agent_worker.config.overrides import read_overrides
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.domain.lifecycle_hook import DEFAULT_PRE_CALL_TIMEOUT_MS, LifecycleHook
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import EgressError
from agent_worker.webhooks.pre_call import PreCallAnswer, ask, pre_call_payload
from agent_worker.webhooks.signing import new_secret, webhook_secret

NAME = "webhooks"
AT_ONCE = 4
SLOW_SHARE = 0.5
"""Share of its timeout a webhook may take before it is called slow."""

CALLER = "+15005550006"

_REMEDIES = {
    "timeout": "Answer faster, or raise timeoutMs (at most 8000): callers wait for it.",
    "http_status": "Answer 2xx to call.pre_call; if it refuses the signature, give both sides the same secret.",
    "not_json": "Answer with a JSON object, {} where there is nothing to change.",
    "not_an_object": "Answer with a JSON object, {} where there is nothing to change.",
    "wrong_type": "Correct the reply: docs/configuration.md has every key and its type.",
    "address_refused": "Use a public https address, or add a host of your own to AGENT_WORKER_EGRESS_ALLOW.",
    "unreachable": "Start the receiver, or correct the URL.",
    "tls": "Give the receiver a valid certificate.",
    "too_large": "Answer with at most 64 KiB.",
    "secret_missing": "Set the variable the webhook's secret or header names.",
}


@dataclass(frozen=True)
class _Asked:
    """One webhook, and the agents that have it."""

    hook: LifecycleHook
    agent_id: str
    agents: tuple[str, ...]


async def check_hooks(exam: Examination) -> None:
    """Ask every pre-call webhook once signed rightly and once wrongly; look at the addresses of all others."""
    if exam.known_settings.control_url:
        exam.report(NAME, Status.SKIPPED, "Webhooks are asked by the control plane: run `doctor` on its host.")
        return
    policy = AddressPolicy.of(exam.known_settings.egress_allow)
    wrong = _check_addresses(exam, policy)
    hooks = _pre_call_hooks(exam)
    if not hooks and not wrong:
        exam.report(NAME, Status.OK, "No agent asks a webhook before a call.")
        return
    client = EgressClient(policy)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(asked: _Asked) -> None:
        async with limit:
            await _check_hook(exam, asked, client)

    try:
        await asyncio.gather(*(one(asked) for asked in hooks))
    finally:
        await client.aclose()


def _pre_call_hooks(exam: Examination) -> list[_Asked]:
    found: dict[str, _Asked] = {}
    for agent_id, agent in exam.known_catalog.agents.items():
        hook = agent.webhooks.pre_call
        if hook is None:
            continue
        known = found.get(hook.model_dump_json())
        agents = (*(known.agents if known else ()), agent.name)
        found[hook.model_dump_json()] = _Asked(hook, known.agent_id if known else agent_id, agents)
    return list(found.values())


def _other_hooks(exam: Examination) -> Iterator[tuple[str, str, LifecycleHook]]:
    for agent in exam.known_catalog.agents.values():
        hooks = agent.webhooks
        for kind in ("status", "post_call", "analysis", "recording"):
            hook = getattr(hooks, kind)
            if hook is not None:
                yield agent.name, kind, hook


def _check_addresses(exam: Examination, policy: AddressPolicy) -> int:
    """Report webhooks told of a call whose address is refused; they are not called, as each message is acted on."""
    wrong = 0
    for agent, kind, hook in _other_hooks(exam):
        try:
            policy.check_url(hook.url)
        except EgressError as error:
            wrong += 1
            exam.report(
                NAME,
                Status.FAILED,
                f"The {kind} webhook of {agent!r} cannot be sent: {error.message}",
                error.remedy,
                code="address_refused",
            )
    return wrong


async def _check_hook(exam: Examination, asked: _Asked, client: EgressClient) -> None:
    hook = asked.hook
    limit = hook.timeout_ms or DEFAULT_PRE_CALL_TIMEOUT_MS
    right = await _ask(exam, asked, hook, webhook_secret(exam.known_settings), client)
    who = f"The pre-call webhook of {_names(asked)}"
    detail = {"agents": list(asked.agents), "http_status": right.http_status, "ms": right.duration_ms}
    if right.failure is not None:
        spoken = "the call is declined" if hook.on_failure == "reject" else "calls go on without it"
        exam.report(
            NAME,
            Status.FAILED,
            f"{who} fails ({right.failure}): {right.detail.split('. ')[0].rstrip('.')}; {spoken}.",
            _REMEDIES.get(right.failure, "Read the receiver's log."),
            code=right.failure,
            detail=detail,
        )
        return
    problem = _wrong_keys(right)
    if problem:
        exam.report(NAME, Status.FAILED, f"{who} {problem}", _REMEDIES["wrong_type"], code="wrong_type", detail=detail)
        return
    wrong = await _ask(exam, asked, hook.model_copy(update={"secret": None}), new_secret(), client)
    if wrong.failure is None:
        exam.report(
            NAME,
            Status.WARNING,
            f"{who} answers, but accepts a wrong signature: it does not verify signatures.",
            "Verify webhook-signature as Standard Webhooks describes: anybody can send it requests.",
            code="not_verified",
            detail=detail,
        )
        return
    if right.duration_ms > limit * SLOW_SHARE:
        exam.report(
            NAME,
            Status.WARNING,
            f"{who} answers, but takes {right.duration_ms} of its {limit} ms.",
            "Make it faster: callers hear ringing for as long.",
            code="slow",
            detail=detail,
        )
        return
    declines = ", and declines the call" if right.reject else ""
    exam.report(
        NAME,
        Status.OK,
        f"{who} answers in {right.duration_ms} ms and verifies signatures{declines}.",
        detail=detail,
    )


async def _ask(
    exam: Examination, asked: _Asked, hook: LifecycleHook, secret: str, client: EgressClient
) -> PreCallAnswer:
    number = next(
        (
            (e164, entry.id)
            for e164, entry in exam.known_catalog.numbers.items()
            if entry.config.agent_id == asked.agent_id
        ),
        (None, None),
    )
    payload = pre_call_payload(
        call_id=f"doctor-{secrets.token_hex(8)}",
        organization_id=exam.known_settings.organization_id,
        direction="inbound",
        caller_number=CALLER,
        dialed_number=number[0],
        forwarded_from_number=None,
        phone_number_id=number[1],
        call_control_id="doctor",
        agent_id=asked.agent_id,
        pipeline_config={},
        metadata={"doctor": True},
    )
    return await ask(
        hook,
        payload,
        secret=secret,
        env=exam.env,
        client=client,
        timeout_seconds=(hook.timeout_ms or DEFAULT_PRE_CALL_TIMEOUT_MS) / 1000,
    )


def _wrong_keys(answer: PreCallAnswer) -> str:
    """Return what is wrong with the overrides themselves, "" where nothing is."""
    overrides = read_overrides(answer.overrides or {}, "pre_call")
    if not overrides.wrong:
        return ""
    key, problem = next(iter(overrides.wrong.items()))
    return f"answers with a wrong value for {json.dumps(key)}: {problem.rstrip('.')}."


def _names(asked: _Asked) -> str:
    more = len(asked.agents) - 3
    return ", ".join(repr(name) for name in asked.agents[:3]) + (f" and {more} more" if more > 0 else "")
