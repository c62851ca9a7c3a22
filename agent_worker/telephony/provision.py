"""Makes LiveKit match the configuration: trunks and the dispatch rule, each step told as it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from livekit import api
from livekit.api.sip_service import SipService

from agent_worker.errors import TelephonyError
from agent_worker.telephony import diff
from agent_worker.telephony.desired import Desired, read_marker
from agent_worker.telephony.diff import Change, Existing
from agent_worker.telephony.matching import open_to_strangers
from agent_worker.telephony.number_forms import normalized
from agent_worker.telephony.refusal import REFUSALS, explained

CALL_SECONDS = 15.0


@dataclass
class Outcome:
    """What was, or would be, done.

    Attributes:
        changes: in order; all of them where `error` is None.
        done: how many of `changes` LiveKit has taken; 0 of a dry run.
        stale: what we made, no longer want, and leave because nobody asked to prune.
        problems: what is in the way; nothing is then changed.
        warnings: what is legal and may still surprise.
        error: why it stopped half way; another run does the rest.
    """

    changes: list[Change] = field(default_factory=list)
    done: int = 0
    stale: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: TelephonyError | None = None

    @property
    def ok(self) -> bool:
        """Whether LiveKit matches the configuration, or would after the dry run's changes."""
        return not self.problems and self.error is None


async def provision(
    client: api.LiveKitAPI,
    desired: Desired,
    *,
    prune: bool = False,
    dry_run: bool = False,
    tell: Callable[[Change], None] = lambda change: None,
) -> Outcome:
    """Make LiveKit have what is desired; what others made is never touched.

    Args:
        prune: remove what an earlier run made and the configuration no longer names.
        dry_run: change nothing.
        tell: called with each change once it is done.

    Raises:
        TelephonyError: LiveKit cannot be asked what it has; nothing was changed.
    """
    existing = await read_existing(client)
    outcome = Outcome(warnings=[*desired.warnings, *_warnings(existing)], problems=list(_in_the_way(desired, existing)))
    inbound = diff.inbound_changes(desired, existing)
    stale = diff.stale_changes(desired, existing, inbound)
    ids = diff.trunk_ids_after(desired, existing, inbound)
    if dry_run or outcome.problems:
        outcome.changes = [*inbound, *diff.rule_changes(desired, existing, ids.values())]
        outcome.changes += [*diff.outbound_changes(desired, existing), *(stale if prune else [])]
        outcome.stale = [] if prune else stale
        return outcome
    try:
        for change in inbound:
            made = await _do(client, change, outcome, tell)
            if change.action == "create":
                ids[change.name] = made
        rest = [*diff.rule_changes(desired, existing, ids.values()), *diff.outbound_changes(desired, existing)]
        for change in rest + (stale if prune else []):
            await _do(client, change, outcome, tell)
    except TelephonyError as error:
        outcome.error = error
    outcome.stale = [] if prune else stale
    return outcome


async def read_existing(client: api.LiveKitAPI) -> Existing:
    """Return every trunk and rule LiveKit has.

    Raises:
        TelephonyError: it does not say.
    """
    try:
        async with asyncio.timeout(CALL_SECONDS):
            inbound = await client.sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())
            outbound = await client.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())
            rules = await client.sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())
    except REFUSALS as error:
        raise explained(error, "to list trunks and rules") from error
    return Existing(list(inbound.items), list(outbound.items), list(rules.items))


async def _do(client: api.LiveKitAPI, change: Change, outcome: Outcome, tell: Callable[[Change], None]) -> str:
    """Do one step and return the id of what it was done to."""
    outcome.changes.append(change)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            made = await _send(client.sip, change)
    except REFUSALS as error:
        raise explained(error, f"to {change.action} the {change.kind} {change.name!r}") from error
    outcome.done += 1
    tell(change)
    return made


async def _send(sip: SipService, change: Change) -> str:
    message = change.message
    if change.action == "delete":
        try:
            if change.kind == "dispatch rule":
                await sip.delete_dispatch_rule(api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=change.id))
            else:
                await sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=change.id))
        except api.TwirpError as error:
            if error.code != api.TwirpErrorCode.NOT_FOUND:
                raise
        return change.id
    if isinstance(message, api.SIPInboundTrunkInfo):
        if change.action == "update":
            await sip.update_inbound_trunk(change.id, message)
            return change.id
        made = await sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=message))
        return str(made.sip_trunk_id)
    if isinstance(message, api.SIPOutboundTrunkInfo):
        if change.action == "update":
            await sip.update_outbound_trunk(change.id, message)
            return change.id
        placed = await sip.create_outbound_trunk(api.CreateSIPOutboundTrunkRequest(trunk=message))
        return str(placed.sip_trunk_id)
    if not isinstance(message, api.SIPDispatchRuleInfo) or not message.trunk_ids:
        raise ValueError("a dispatch rule bound to no trunk would take every call")
    if change.action == "update":
        await sip.update_dispatch_rule(change.id, message)
        return change.id
    rule = await sip.create_dispatch_rule(api.CreateSIPDispatchRuleRequest(dispatch_rule=message))
    return str(rule.sip_dispatch_rule_id)


def _in_the_way(desired: Desired, existing: Existing) -> Iterator[str]:
    """Yield what others made and LiveKit does not let stand beside ours."""
    wanted = {normalized(number) for trunk in desired.inbound.values() for number in trunk.numbers}
    for trunk in existing.inbound:
        mark = read_marker(trunk.metadata)
        if (mark is not None and mark[0] == desired.agent_name) or trunk.allowed_numbers:
            continue
        shared = sorted(wanted & {normalized(number) for number in trunk.numbers})
        if shared:
            whose = f"made for the agent name {mark[0]!r}" if mark else "not made by provision"
            yield (
                f"{', '.join(shared)} {'is' if len(shared) == 1 else 'are'} on inbound trunk {trunk.sip_trunk_id} "
                f"({trunk.name!r}), {whose}; LiveKit keeps a number on one trunk only. "
                f"Delete that trunk (lk sip inbound delete {trunk.sip_trunk_id}) or take the number out of it."
            )
    ours = diff.own_trunk_ids(desired, existing)
    for rule in existing.rules:
        mark = read_marker(rule.metadata)
        if mark is not None and mark[0] == desired.agent_name:
            continue
        bound = sorted(ours & set(rule.trunk_ids))
        if bound:
            yield (
                f"Dispatch rule {rule.sip_dispatch_rule_id} ({rule.name!r}), not made by provision, is bound to our "
                f"trunk {', '.join(bound)}, so it is open which of the two rules takes a call. "
                f"Delete it: lk sip dispatch delete {rule.sip_dispatch_rule_id}."
            )


def _warnings(existing: Existing) -> Iterator[str]:
    for rule in open_to_strangers(existing.rules):
        yield (
            f"Dispatch rule {rule.sip_dispatch_rule_id} ({rule.name!r}) is bound to no trunk: it takes calls to any "
            "number, past every trunk's addresses and password. "
            f"Bind it to a trunk or delete it: lk sip dispatch delete {rule.sip_dispatch_rule_id}."
        )
