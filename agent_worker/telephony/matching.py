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
from functools import cached_property

from livekit import api

from agent_worker.telephony.number_forms import NumberForms, normalized

_KINDS = ("dispatch_rule_direct", "dispatch_rule_individual", "dispatch_rule_callee")


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


_NO_RULE_FITS = frozenset(
    {
        Reason.NO_RULE,
        Reason.RULE_OF_ANOTHER_TRUNK,
        Reason.RULE_OF_ANOTHER_NUMBER,
        Reason.RULE_WRITTEN_DIFFERENTLY,
        Reason.RULE_FOR_OTHER_CALLERS,
    }
)


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


class Exchange:
    """The trunks and rules of a server, indexed: thousands of numbers are judged in a moment.

    Args:
        trunks: every inbound trunk the server lists.
        rules: every dispatch rule the server lists.
        agent_name: the name our worker is registered under.
    """

    def __init__(
        self,
        trunks: Sequence[api.SIPInboundTrunkInfo],
        rules: Sequence[api.SIPDispatchRuleInfo],
        agent_name: str,
    ) -> None:
        self._agent_name = agent_name
        self._trunks = list(trunks)
        self._listing: dict[str, list[api.SIPInboundTrunkInfo]] = {}
        for trunk in self._trunks:
            for form in {normalized(own) for own in trunk.numbers}:
                self._listing.setdefault(form, []).append(trunk)
        self._taking_any = [trunk for trunk in self._trunks if not trunk.numbers]
        self._rules = [found for found in map(_Rule, rules) if found.is_known]
        self._clashes: dict[str, tuple[_Rule, ...]] = {}

    def judge(self, call: Incoming) -> Verdict:
        """Return what becomes of a call, and which of the trunks and rules decides it."""
        found = self._pick_trunk(call)
        if found.reason is Reason.TWO_TRUNKS:
            return found
        trunk = found.trunk if found.matches else None
        picked = self._pick_rule(call, trunk)
        if trunk is None and picked.reason in _NO_RULE_FITS:
            return found  # without a trunk only a rule bound to none lets a call in, and there is none
        return replace(picked, trunk=trunk, cautions=found.cautions | picked.cautions)

    def _pick_trunk(self, call: Incoming) -> Verdict:
        listed = self._listing.get(call.number) or self._listing.get(normalized(call.number)) or []
        for candidates in (listed, self._taking_any):
            allowed = [
                trunk for trunk in candidates if _takes_caller(trunk, call.caller) and _takes_address(trunk, call)
            ]
            if allowed:
                return _chosen(allowed, call)
        nearest = next(iter([*listed, *self._taking_any]), None)
        if nearest is None:
            return self._written_differently(call.number)
        if not _takes_address(nearest, call):
            return Verdict(Reason.ADDRESS_NOT_ALLOWED, trunk=nearest)
        if call.caller is None:
            return _chosen([nearest], call)  # for those callers that it takes
        return Verdict(Reason.CALLER_NOT_ALLOWED, trunk=nearest)

    def _written_differently(self, number: str) -> Verdict:
        for trunk, forms in self._forms:
            written = forms.find(number)
            if written:
                return Verdict(Reason.TRUNK_WRITTEN_DIFFERENTLY, trunk=trunk, written=written)
        return Verdict(Reason.NO_TRUNK)

    @cached_property
    def _forms(self) -> list[tuple[api.SIPInboundTrunkInfo, NumberForms]]:
        return [(trunk, NumberForms(trunk.numbers)) for trunk in self._trunks if trunk.numbers]

    def _pick_rule(self, call: Incoming, trunk: api.SIPInboundTrunkInfo | None) -> Verdict:
        trunk_id = trunk.sip_trunk_id if trunk is not None else ""
        clash = self._clash(trunk_id)
        if clash:
            others = tuple(found.info.sip_dispatch_rule_id for found in clash)
            return Verdict(Reason.TWO_RULES, rule=clash[0].info, others=others)
        bound = [found for found in self._rules if trunk_id and trunk_id in found.trunks]
        unbound = [found for found in self._rules if not found.trunks]
        for candidates in (bound, unbound):
            fitting = [found for found in candidates if found.takes_called(call) and found.takes_calling(call)]
            if fitting:
                best = min(fitting, key=lambda found: (found.priority, found.room))
                cautions = frozenset({Caution.WITHOUT_TRUNK} if candidates is unbound else ())
                return best.judge(cautions, self._agent_name)
        return _why_no_rule(call, bound + unbound, self._rules)

    def _clash(self, trunk_id: str) -> tuple[_Rule, ...]:
        """Return two rules for the same trunk, numbers and pin; the server then picks none, whatever is called."""
        if trunk_id not in self._clashes:
            in_view = [found for found in self._rules if not (trunk_id and found.trunks) or trunk_id in found.trunks]
            self._clashes[trunk_id] = _first_clash(in_view)
        return self._clashes[trunk_id]


def judge(
    call: Incoming,
    trunks: Sequence[api.SIPInboundTrunkInfo],
    rules: Sequence[api.SIPDispatchRuleInfo],
    agent_name: str,
) -> Verdict:
    """Return what becomes of one call."""
    return Exchange(trunks, rules, agent_name).judge(call)


def open_to_strangers(rules: Iterable[api.SIPDispatchRuleInfo]) -> list[api.SIPDispatchRuleInfo]:
    """Return the rules that take calls past every trunk, and with it past its passwords and address lists."""
    found = [_Rule(rule) for rule in rules]
    return [rule.info for rule in found if rule.is_known and not rule.trunks and not rule.pin]


class _Rule:
    """A dispatch rule, read once."""

    def __init__(self, info: api.SIPDispatchRuleInfo) -> None:
        self.info = info
        self.kind = info.rule.WhichOneof("rule") or ""
        part = getattr(info.rule, self.kind) if self.kind else None
        self.pin = str(getattr(part, "pin", ""))
        self.room = str(getattr(part, "room_name", "") or getattr(part, "room_prefix", ""))
        self.trunks = frozenset(info.trunk_ids)
        self.called = frozenset(info.numbers)
        self.calling = frozenset(info.inbound_numbers)

    @property
    def is_known(self) -> bool:
        """Whether the server can follow this kind of rule."""
        return self.kind in _KINDS

    @property
    def priority(self) -> int:
        """The server's order, the first one lowest: pins, then the kind; rules that list numbers go before others."""
        order = _KINDS.index(self.kind) + (0 if self.pin else 100)
        return order + 1_000 * (not self.calling) + 1_000 * (not self.called)

    def takes_called(self, call: Incoming) -> bool:
        """Whether the rule is for the number called, which is compared as written, unlike a trunk's."""
        return not self.called or call.number in self.called

    def takes_calling(self, call: Incoming) -> bool:
        """Whether the rule is for the caller."""
        return not self.calling or call.caller in self.calling

    @cached_property
    def forms(self) -> NumberForms:
        """The numbers called, to find one that is written differently."""
        return NumberForms(self.called)

    def judge(self, cautions: frozenset[Caution], agent_name: str) -> Verdict:
        """Return what becomes of a call that was given to this rule."""
        dispatched = self.info.room_config.agents
        agents = tuple(agent.agent_name for agent in dispatched)
        one_room = self.kind == "dispatch_rule_direct" or (
            self.kind == "dispatch_rule_callee" and not self.info.rule.dispatch_rule_callee.randomize
        )
        more = {
            Caution.ONE_ROOM: one_room,
            Caution.HIDES_NUMBERS: self.info.hide_phone_number,
            Caution.SEVERAL_AGENTS: len(agents) > 1,
            Caution.AGENT_FROM_PRESET: not agents and bool(self.info.room_preset),
        }
        held = cautions | {name for name, holds in more.items() if holds}
        # a worker is found by name and deployment, and ours has no deployment
        is_ours = any(agent.agent_name == agent_name and not agent.deployment for agent in dispatched)
        if self.pin:
            reason = Reason.ASKS_PIN
        elif is_ours or Caution.AGENT_FROM_PRESET in held:
            reason = Reason.MATCHES
        else:
            reason = Reason.OTHER_AGENT if agents else Reason.NO_AGENT
        return Verdict(reason, rule=self.info, agents=agents, cautions=held)


def _chosen(trunks: Sequence[api.SIPInboundTrunkInfo], call: Incoming) -> Verdict:
    trunk = trunks[0]
    if len(trunks) > 1:
        return Verdict(Reason.TWO_TRUNKS, trunk=trunk, others=tuple(found.sip_trunk_id for found in trunks))
    cautions = {
        Caution.ANY_NUMBER: not trunk.numbers,
        Caution.NEEDS_PASSWORD: bool(trunk.auth_username and trunk.auth_password),
        Caution.ONLY_FROM_ADDRESSES: bool(_masks(trunk)) and call.address is None,
        Caution.ONLY_FROM_CALLERS: bool(trunk.allowed_numbers) and call.caller is None,
    }
    return Verdict(Reason.MATCHES, trunk=trunk, cautions=frozenset(name for name, held in cautions.items() if held))


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


def _first_clash(rules: Sequence[_Rule]) -> tuple[_Rule, ...]:
    seen: dict[tuple[str, str, str, str], _Rule] = {}
    for rule in rules:
        for trunk in rule.trunks or {""}:
            for calling in rule.calling or {""}:
                for called in rule.called or {""}:
                    key = (rule.pin, trunk, normalized(calling), normalized(called))
                    other = seen.setdefault(key, rule)
                    if other is not rule:
                        return other, rule
    return ()


def _why_no_rule(call: Incoming, near: Sequence[_Rule], rules: Sequence[_Rule]) -> Verdict:
    for rule in near:
        if rule.takes_called(call):
            return Verdict(Reason.RULE_FOR_OTHER_CALLERS, rule=rule.info)
    for rule in near:
        written = rule.forms.find(call.number)
        if written:
            return Verdict(Reason.RULE_WRITTEN_DIFFERENTLY, rule=rule.info, written=written)
    if near:
        return Verdict(Reason.RULE_OF_ANOTHER_NUMBER, rule=near[0].info)
    if rules:
        fitting = [rule for rule in rules if rule.takes_called(call)]
        return Verdict(Reason.RULE_OF_ANOTHER_TRUNK, rule=(fitting or list(rules))[0].info)
    return Verdict(Reason.NO_RULE)
