"""Plans a call while it rings: its route, its configuration, and what the operator's pre-call webhook says to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.overrides import Overrides, read_overrides
from agent_worker.config.plan import Draft, draft, finish, misfit
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, DisconnectionReason, PlanEvent, utc_now
from agent_worker.domain.lifecycle_hook import DEFAULT_PRE_CALL_TIMEOUT_MS, LifecycleHook
from agent_worker.settings import Settings
from agent_worker.webhooks.pre_call import PreCallAnswer, pre_call_payload

logger = logging.getLogger("agent_worker.control")

GREETING_SECONDS = 0.8
"""What a webhook leaves of the answer budget, at most a fifth of it: a new first message has to be synthesised."""

LEAST_SECONDS = 0.1
"""With less than this left, a webhook is not asked at all."""

EVENT = "call.pre_call"
REJECTED = "rejected"

AskPreCall = Callable[[LifecycleHook, Mapping[str, Any], float], Awaitable[PreCallAnswer]]
"""Asks a webhook: the hook, the body, and the seconds it may take."""


NO_TIME = PreCallAnswer(
    overrides=None,
    reject=False,
    reject_message="",
    failure="timeout",
    detail="The call had rung for so long that nothing was left of its time.",
    http_status=None,
    duration_ms=0,
)


async def plan_call(
    offer: CallOffer,
    catalog: AgentCatalog,
    settings: Settings,
    *,
    budget_seconds: float,
    ask: AskPreCall | None,
) -> CallPlan | CallRefusal:
    """Return which agent takes the call and how it is configured, or why none does.

    Args:
        budget_seconds: what is left of the time the call may ring; the webhook takes no more than that.
        ask: None where the webhook cannot be asked, which then changes nothing.
    """
    started = asyncio.get_running_loop().time()
    prepared = draft(offer, catalog, settings)
    if isinstance(prepared, CallRefusal):
        return prepared
    hook = prepared.hook
    before = finish(prepared, None, catalog, settings, now=utc_now())
    if hook is None or ask is None:
        return before
    payload = _payload(prepared, before, settings)
    left = budget_seconds - (asyncio.get_running_loop().time() - started)
    left -= min(GREETING_SECONDS, left / 5)
    longest = (hook.timeout_ms or DEFAULT_PRE_CALL_TIMEOUT_MS) / 1000
    answer = await ask(hook, payload, min(longest, left)) if left > LEAST_SECONDS else NO_TIME
    return _with_answer(prepared, before, answer, hook, catalog, settings)


def _payload(prepared: Draft, before: CallPlan | CallRefusal, settings: Settings) -> dict[str, Any]:
    offer = prepared.offer
    number = prepared.route.number
    return pre_call_payload(
        call_id=offer.call_id,
        organization_id=settings.organization_id,
        direction=offer.direction.value,
        caller_number=offer.caller_number,
        dialed_number=offer.dialed_number,
        forwarded_from_number=prepared.forwarding.number,
        phone_number_id=number.id if number else None,
        call_control_id=offer.caller_identity,
        agent_id=prepared.route.agent_id,
        pipeline_config=before.pipeline_config if isinstance(before, CallPlan) else {},
        metadata=before.metadata,
    )


def _with_answer(
    prepared: Draft,
    before: CallPlan | CallRefusal,
    answer: PreCallAnswer,
    hook: LifecycleHook,
    catalog: AgentCatalog,
    settings: Settings,
) -> CallPlan | CallRefusal:
    overrides = read_overrides(answer.overrides or {}, "pre_call")
    failure, detail = answer.failure, answer.detail
    if failure is None and overrides.wrong:
        failure, detail = "wrong_type", "; ".join(overrides.wrong.values())[:500]
    elif failure is None and (wrong := misfit(prepared, overrides)):
        failure, detail = "wrong_type", wrong
    event = _event(answer, overrides, failure, detail)
    if answer.reject and answer.failure is None:
        return _declined(prepared, before, settings, answer.reject_message, "The pre-call webhook declined.", event)
    if failure is None:
        return finish(prepared, overrides, catalog, settings, now=utc_now(), events=(event,))
    logger.warning("pre-call webhook failed", extra={"call_id": prepared.offer.call_id, "failure": failure})
    if hook.on_failure == "reject":
        why = f"The pre-call webhook failed ({failure}), and onFailure is reject."
        return _declined(prepared, before, settings, AgentConfig(name="-").fallbacks.goodbye, why, event)
    return before.model_copy(update={"events": (event, *before.events)})


def _event(answer: PreCallAnswer, overrides: Overrides, failure: str | None, detail: str) -> PlanEvent:
    rejected = answer.reject and answer.failure is None
    applied = sorted(overrides.values) if failure is None and not rejected else []
    ignored = sorted([*overrides.ignored, *overrides.unknown])
    payload: dict[str, Any] = {"duration_ms": answer.duration_ms, "http_status": answer.http_status}
    payload |= {"applied": applied} if applied else {}
    payload |= {"ignored": ignored[:50]} if ignored else {}
    payload |= {"detail": detail} if failure or rejected else {}
    return PlanEvent(
        event_type=EVENT,
        status=REJECTED if rejected else "failed" if failure else "succeeded",
        failure_cause=failure,
        payload=payload,
    )


def _declined(
    prepared: Draft, before: CallPlan | CallRefusal, settings: Settings, sentence: str, detail: str, event: PlanEvent
) -> CallRefusal:
    return CallRefusal(
        organization_id=settings.organization_id,
        reason=DisconnectionReason.REJECTED,
        sentence=sentence,
        detail=detail,
        voice=before.agent if isinstance(before, CallPlan) else None,
        agent_id=prepared.route.agent_id,
        metadata=before.metadata,
        events=(event,),
    )
