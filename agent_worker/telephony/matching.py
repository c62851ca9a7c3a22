"""Which trunk and which dispatch rule LiveKit picks for a call, worked out from their lists as the server does it.

livekit-server 1.13 looks for one trunk, then for one rule, and says nothing to the caller where it finds none: the
bridge answers 100 and 180, and then no more.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from livekit import api

MIN_SHARED_DIGITS = 7
"""Two numbers that end with so many equal digits are taken for the same one, written differently."""

_NUMBER = re.compile(r"^\+?[\d\- ()]+$", re.ASCII)
_LAST = 2**31 - 1


class Reason(StrEnum):
    """What becomes of a call to a number; everything but `matches` keeps our agent from answering."""

    MATCHES = "matches"
    NO_TRUNK = "no_trunk"
    TRUNK_WRITTEN_DIFFERENTLY = "trunk_written_differently"
    TWO_TRUNKS = "two_trunks"
    CALLER_NOT_ALLOWED = "caller_not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    NO_RULE = "no_rule"
    RULE_OF_ANOTHER_TRUNK = "rule_of_another_trunk"
    RULE_OF_ANOTHER_NUMBER = "rule_of_another_number"
    RULE_WRITTEN_DIFFERENTLY = "rule_written_differently"
    RULE_FOR_OTHER_CALLERS = "rule_for_other_callers"
    TWO_RULES = "two_rules"
    ASKS_PIN = "asks_pin"
    NO_AGENT = "no_agent"
    OTHER_AGENT = "other_agent"


class Caution(StrEnum):
    """What a call that matches may still be surprised by."""

    ANY_NUMBER = "any_number"  # the trunk lists no numbers
    NEEDS_PASSWORD = "needs_password"
    ONLY_FROM_ADDRESSES = "only_from_addresses"
    ONLY_FROM_CALLERS = "only_from_callers"
    WITHOUT_TRUNK = "without_trunk"  # a rule bound to no trunk lets the call in
    ONE_ROOM = "one_room"  # all callers meet in one room
    HIDES_NUMBERS = "hides_numbers"  # the room does not say which number was dialled
    SEVERAL_AGENTS = "several_agents"
    AGENT_FROM_PRESET = "agent_from_preset"


@dataclass(frozen=True)
class Incoming:
    """A call as the bridge hears of it.

    Attributes:
        number: the user part of the To header.
        caller: the user part of the From header; None = any caller that is on no list.
        address: the carrier's address; None = one that the trunk allows.
    """

    number: str
    caller: str | None = None
    address: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What LiveKit does with a call.

    Attributes:
        trunk: the trunk picked, or the one that comes nearest.
        rule: the rule picked, or the one that comes nearest.
        others: what clashes: a second trunk or rule, by id.
        written: the number as the trunk or rule has it, where it is written differently.
        agents: the agents the rule dispatches, by name.
    """

    reason: Reason
    trunk: api.SIPInboundTrunkInfo | None = None
    rule: api.SIPDispatchRuleInfo | None = None
    others: tuple[str, ...] = ()
    written: str = ""
    agents: tuple[str, ...] = ()
    cautions: frozenset[Caution] = frozenset()

    @property
    def matches(self) -> bool:
        """Whether our agent is dispatched to the call."""
        return self.reason is Reason.MATCHES


def judge(
    call: Incoming,
    trunks: Sequence[api.SIPInboundTrunkInfo],
    rules: Sequence[api.SIPDispatchRuleInfo],
    agent_name: str,
) -> Verdict:
    """Return what becomes of a call, and which of the trunks and rules decides it.

    Args:
        trunks: every inbound trunk the server lists.
        rules: every dispatch rule the server lists.
        agent_name: the name our worker is registered under.
    """
    found = _pick_trunk(call, trunks)
    if found.reason is Reason.TWO_TRUNKS:
        return found
    trunk = found.trunk if found.matches else None
    picked = _pick_rule(call, trunk, rules)
    if trunk is None and picked.reason is Reason.TWO_RULES:
        return picked
    if trunk is None and not picked.matches:
        return found  # without a trunk only a rule bound to none lets a call in, and there is none
    verdict = replace(picked, trunk=trunk, cautions=found.cautions | picked.cautions)
    if verdict.matches and verdict.rule is not None:
        verdict = _judge_rule(verdict, verdict.rule, agent_name)
    return verdict


def open_to_strangers(rules: Iterable[api.SIPDispatchRuleInfo]) -> list[api.SIPDispatchRuleInfo]:
    """Return the rules that take calls past every trunk, and with it past its passwords and address lists."""
    return [rule for rule in rules if not rule.trunk_ids and not _pin(rule) and _priority(rule) != _LAST]


def normalized(number: str) -> str:
    """Return a number as the server compares it: no spaces, dashes or parentheses, and with a plus."""
    if not _NUMBER.match(number):
        return number
    bare = re.sub(r"[\- ()]", "", number)
    return bare if bare.startswith("+") else f"+{bare}"


def _pick_trunk(call: Incoming, trunks: Sequence[api.SIPInboundTrunkInfo]) -> Verdict:
    from_anywhere = [trunk for trunk in trunks if _takes_number(trunk, call.number) is not None]
    allowed = [trunk for trunk in from_anywhere if _takes_caller(trunk, call.caller) and _takes_address(trunk, call)]
    listed = [trunk for trunk in from_anywhere if trunk.numbers]
    nearest = (listed or from_anywhere)[:1]
    choice = _choose_trunk(allowed, call)
    if choice is None and call.caller is None:
        choice = _choose_trunk([trunk for trunk in nearest if _takes_address(trunk, call)], call)
    if choice is not None:
        return choice
    if nearest and not _takes_caller(nearest[0], call.caller):
        return Verdict(Reason.CALLER_NOT_ALLOWED, trunk=nearest[0])
    if nearest:
        return Verdict(Reason.ADDRESS_NOT_ALLOWED, trunk=nearest[0])
    for trunk in trunks:
        written = _written_differently(call.number, trunk.numbers)
        if written:
            return Verdict(Reason.TRUNK_WRITTEN_DIFFERENTLY, trunk=trunk, written=written)
    return Verdict(Reason.NO_TRUNK)


def _choose_trunk(trunks: Sequence[api.SIPInboundTrunkInfo], call: Incoming) -> Verdict | None:
    specific = [trunk for trunk in trunks if trunk.numbers]
    candidates = specific or list(trunks)
    if not candidates:
        return None
    if len(candidates) > 1:
        others = tuple(trunk.sip_trunk_id for trunk in candidates)
        return Verdict(Reason.TWO_TRUNKS, trunk=candidates[0], others=others)
    trunk = candidates[0]
    cautions = {
        Caution.ANY_NUMBER: not trunk.numbers,
        Caution.NEEDS_PASSWORD: bool(trunk.auth_username and trunk.auth_password),
        Caution.ONLY_FROM_ADDRESSES: bool(_masks(trunk)) and call.address is None,
        Caution.ONLY_FROM_CALLERS: bool(trunk.allowed_numbers) and call.caller is None,
    }
    return Verdict(Reason.MATCHES, trunk=trunk, cautions=frozenset(name for name, held in cautions.items() if held))


def _takes_number(trunk: api.SIPInboundTrunkInfo, number: str) -> str | None:
    """Return the number as the trunk has it, "" where it takes any, None where it takes others."""
    if not trunk.numbers:
        return ""
    return next((own for own in trunk.numbers if own == number or normalized(own) == normalized(number)), None)


def _takes_caller(trunk: api.SIPInboundTrunkInfo, caller: str | None) -> bool:
    if not trunk.allowed_numbers:
        return True
    return caller is not None and any(normalized(caller) == normalized(own) for own in trunk.allowed_numbers)


def _masks(trunk: api.SIPInboundTrunkInfo) -> list[str]:
    return [mask for mask in trunk.allowed_addresses if not re.search(r"[()+*;,\s]|://", mask)]


def _takes_address(trunk: api.SIPInboundTrunkInfo, call: Incoming) -> bool:
    masks = _masks(trunk)
    if not masks or call.address is None:
        return True
    try:
        address = ipaddress.ip_address(call.address)
    except ValueError:
        return True  # the server does not look at what is no address
    for mask in masks:
        try:
            if address in ipaddress.ip_network(mask.strip("[]"), strict=False):
                return True
        except ValueError:
            continue  # a host name: compared with the From header, which nobody knows beforehand
    return False


def _pick_rule(
    call: Incoming, trunk: api.SIPInboundTrunkInfo | None, rules: Sequence[api.SIPDispatchRuleInfo]
) -> Verdict:
    usable = [rule for rule in rules if _priority(rule) != _LAST]
    in_view = [rule for rule in usable if trunk is None or not rule.trunk_ids or trunk.sip_trunk_id in rule.trunk_ids]
    clash = _clash(in_view)
    if clash:
        return Verdict(Reason.TWO_RULES, rule=clash[0], others=tuple(rule.sip_dispatch_rule_id for rule in clash))
    bound = [rule for rule in in_view if trunk is not None and rule.trunk_ids]
    unbound = [rule for rule in in_view if not rule.trunk_ids]
    for candidates in (bound, unbound):
        fitting = [rule for rule in candidates if _takes_called(rule, call) and _takes_calling(rule, call)]
        if fitting:
            best = min(fitting, key=lambda rule: (_priority(rule), _room(rule)))
            cautions = frozenset({Caution.WITHOUT_TRUNK} if candidates is unbound else ())
            return Verdict(Reason.MATCHES, rule=best, cautions=cautions)
    return _why_no_rule(call, bound + unbound, usable)


def _why_no_rule(
    call: Incoming, near: Sequence[api.SIPDispatchRuleInfo], rules: Sequence[api.SIPDispatchRuleInfo]
) -> Verdict:
    for rule in near:
        if _takes_called(rule, call):
            return Verdict(Reason.RULE_FOR_OTHER_CALLERS, rule=rule)
    for rule in near:
        written = _written_differently(call.number, rule.numbers)
        if written:
            return Verdict(Reason.RULE_WRITTEN_DIFFERENTLY, rule=rule, written=written)
    if near:
        return Verdict(Reason.RULE_OF_ANOTHER_NUMBER, rule=near[0])
    if rules:
        fitting = [rule for rule in rules if _takes_called(rule, call)]
        return Verdict(Reason.RULE_OF_ANOTHER_TRUNK, rule=(fitting or list(rules))[0])
    return Verdict(Reason.NO_RULE)


def _takes_called(rule: api.SIPDispatchRuleInfo, call: Incoming) -> bool:
    return not rule.numbers or call.number in rule.numbers  # compared as written, unlike a trunk's


def _takes_calling(rule: api.SIPDispatchRuleInfo, call: Incoming) -> bool:
    return not rule.inbound_numbers or call.caller in rule.inbound_numbers


def _clash(rules: Sequence[api.SIPDispatchRuleInfo]) -> list[api.SIPDispatchRuleInfo]:
    """Return two rules for the same trunk, numbers and pin; the server then picks none."""
    seen: dict[tuple[str, str, str, str], api.SIPDispatchRuleInfo] = {}
    for rule in rules:
        for trunk in rule.trunk_ids or [""]:
            for calling in rule.inbound_numbers or [""]:
                for called in rule.numbers or [""]:
                    key = (_pin(rule), trunk, normalized(calling), normalized(called))
                    other = seen.setdefault(key, rule)
                    if other is not rule:
                        return [other, rule]
    return []


def _judge_rule(verdict: Verdict, rule: api.SIPDispatchRuleInfo, agent_name: str) -> Verdict:
    agents = tuple(agent.agent_name for agent in rule.room_config.agents)
    ours = [agent for agent in rule.room_config.agents if agent.agent_name == agent_name and not agent.deployment]
    cautions = {
        Caution.ONE_ROOM: _is_one_room(rule),
        Caution.HIDES_NUMBERS: rule.hide_phone_number,
        Caution.SEVERAL_AGENTS: len(agents) > 1,
        Caution.AGENT_FROM_PRESET: not agents and bool(rule.room_preset),
    }
    held = verdict.cautions | {name for name, holds in cautions.items() if holds}
    if _pin(rule):
        reason = Reason.ASKS_PIN
    elif ours or Caution.AGENT_FROM_PRESET in held:
        reason = Reason.MATCHES
    else:
        reason = Reason.OTHER_AGENT if agents else Reason.NO_AGENT
    return replace(verdict, reason=reason, agents=agents, cautions=held)


def _is_one_room(rule: api.SIPDispatchRuleInfo) -> bool:
    kind = rule.rule.WhichOneof("rule")
    return kind == "dispatch_rule_direct" or (
        kind == "dispatch_rule_callee" and not rule.rule.dispatch_rule_callee.randomize
    )


def _pin(rule: api.SIPDispatchRuleInfo) -> str:
    kind = rule.rule.WhichOneof("rule")
    return str(getattr(rule.rule, kind).pin) if kind else ""


def _room(rule: api.SIPDispatchRuleInfo) -> str:
    kind = rule.rule.WhichOneof("rule")
    part = getattr(rule.rule, kind) if kind else None
    return str(getattr(part, "room_name", "") or getattr(part, "room_prefix", ""))


def _priority(rule: api.SIPDispatchRuleInfo) -> int:
    """Return the server's order of rules, the first one lowest: pins, then the kind, then what lists numbers."""
    kinds = ["dispatch_rule_direct", "dispatch_rule_individual", "dispatch_rule_callee"]
    kind = rule.rule.WhichOneof("rule")
    if kind not in kinds:
        return _LAST
    order = kinds.index(kind) + (0 if _pin(rule) else 100)
    return order + 1_000 * (not rule.inbound_numbers) + 1_000 * (not rule.numbers)


def _written_differently(number: str, listed: Iterable[str]) -> str:
    """Return how a list has this number where the server does not see that it is the same; "" where it has not."""
    wanted, wanted_whole = _digits(number)
    for own in listed:
        given, given_whole = _digits(own)
        shared = len(wanted) if wanted_whole and given_whole else min(len(wanted), len(given))
        if shared >= MIN_SHARED_DIGITS and wanted[-shared:] == given[-shared:]:
            return own
    return ""


def _digits(number: str) -> tuple[str, bool]:
    """Return a number's digits without leading zeros, and whether they begin with the country's code."""
    bare = re.sub(r"^(sips?|tel):", "", number.strip(), flags=re.IGNORECASE).split("@")[0].split(";")[0].strip()
    return re.sub(r"\D", "", bare).lstrip("0"), bare.startswith(("+", "00"))
