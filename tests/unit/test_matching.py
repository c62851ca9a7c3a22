"""LiveKit's choice of trunk and rule, worked out from their lists: one row per way a call is lost or taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api

from agent_worker.telephony.matching import (
    Caution,
    Incoming,
    Reason,
    Verdict,
    judge,
    open_to_strangers,
)
from agent_worker.telephony.number_forms import normalized

OURS = "phone-agent"
NUMBER = "+12015550123"
OTHER = "+12015550199"


def trunk(*numbers: str, id: str = "ST_1", **fields: Any) -> api.SIPInboundTrunkInfo:
    return api.SIPInboundTrunkInfo(sip_trunk_id=id, numbers=list(numbers), **fields)


def rule(*trunks: str, id: str = "SDR_1", agents: Sequence[str] = (OURS,), **fields: Any) -> api.SIPDispatchRuleInfo:
    kind = fields.pop("kind", api.SIPDispatchRule(dispatch_rule_individual=individual()))
    config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=name) for name in agents])
    return api.SIPDispatchRuleInfo(
        sip_dispatch_rule_id=id, trunk_ids=list(trunks), rule=kind, room_config=config, **fields
    )


def individual(pin: str = "") -> api.SIPDispatchRuleIndividual:
    return api.SIPDispatchRuleIndividual(room_prefix="call-", pin=pin)


def direct(pin: str = "") -> api.SIPDispatchRule:
    return api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="lobby", pin=pin))


def callee(*, randomize: bool) -> api.SIPDispatchRule:
    return api.SIPDispatchRule(dispatch_rule_callee=api.SIPDispatchRuleCallee(room_prefix="n", randomize=randomize))


@dataclass
class Case:
    fact: str
    trunks: list[api.SIPInboundTrunkInfo]
    rules: list[api.SIPDispatchRuleInfo]
    reason: Reason
    call: Incoming = field(default_factory=lambda: Incoming(NUMBER))
    cautions: set[Caution] = field(default_factory=set)
    trunk: str = ""
    rule: str = ""


R, C = Reason, Caution
CASES = [
    Case("a trunk with the number and a rule bound to it", [trunk(NUMBER)], [rule("ST_1")], R.MATCHES, rule="SDR_1"),
    Case("a number of a trunk without the plus", [trunk("12015550123")], [rule("ST_1")], R.MATCHES),
    Case("a number of a trunk with spaces and dashes", [trunk("+1 201-555 (0123)")], [rule("ST_1")], R.MATCHES),
    Case("no trunk at all", [], [], R.NO_TRUNK),
    Case("a trunk with other numbers only", [trunk(OTHER)], [rule("ST_1")], R.NO_TRUNK),
    Case(
        "a number of a trunk with dots",
        [trunk("+1.201.555.0123")],
        [rule("ST_1")],
        R.TRUNK_WRITTEN_DIFFERENTLY,
        trunk="ST_1",
    ),
    Case("a national number in a trunk", [trunk("2015550123")], [rule("ST_1")], R.TRUNK_WRITTEN_DIFFERENTLY),
    Case("00 instead of the plus", [trunk("0012015550123")], [rule("ST_1")], R.TRUNK_WRITTEN_DIFFERENTLY),
    Case("a SIP URI in a trunk", [trunk(f"sip:{NUMBER}@pbx.example")], [rule("ST_1")], R.TRUNK_WRITTEN_DIFFERENTLY),
    Case("a number abroad with the same ending", [trunk("+442015550123")], [rule("ST_1")], R.NO_TRUNK),
    Case("a trunk, and no rule", [trunk(NUMBER)], [], R.NO_RULE, trunk="ST_1"),
    Case("a trunk, and rules of other trunks", [trunk(NUMBER)], [rule("ST_2")], R.RULE_OF_ANOTHER_TRUNK, rule="SDR_1"),
    Case(
        "two trunks with the number",
        [trunk(NUMBER), trunk("12015550123", id="ST_2")],
        [rule("ST_1", "ST_2")],
        R.TWO_TRUNKS,
    ),
    Case(
        "of a trunk with the number and one with none, the first",
        [trunk(id="ST_any", auth_username="u", auth_password="p"), trunk(NUMBER)],
        [rule("ST_1")],
        R.MATCHES,
        trunk="ST_1",
    ),
    Case(
        "a trunk without numbers takes any",
        [trunk(auth_username="u", auth_password="p")],
        [rule("ST_1")],
        R.MATCHES,
        cautions={C.ANY_NUMBER, C.NEEDS_PASSWORD},
    ),
    Case("two trunks without numbers", [trunk(), trunk(id="ST_2")], [rule("ST_1")], R.TWO_TRUNKS),
    Case(
        "a trunk that asks for a password",
        [trunk(NUMBER, auth_username="u", auth_password="p")],
        [rule("ST_1")],
        R.MATCHES,
        cautions={C.NEEDS_PASSWORD},
    ),
    Case(
        "a trunk for certain addresses, nobody knows whose call",
        [trunk(NUMBER, allowed_addresses=["203.0.113.0/24"])],
        [rule("ST_1")],
        R.MATCHES,
        cautions={C.ONLY_FROM_ADDRESSES},
    ),
    Case(
        "a call from an address of the trunk's network",
        [trunk(NUMBER, allowed_addresses=["203.0.113.0/24"])],
        [rule("ST_1")],
        R.MATCHES,
        Incoming(NUMBER, address="203.0.113.7"),
    ),
    Case(
        "a call from another address",
        [trunk(NUMBER, allowed_addresses=["203.0.113.0/24"])],
        [rule("ST_1")],
        R.ADDRESS_NOT_ALLOWED,
        Incoming(NUMBER, address="198.51.100.7"),
        trunk="ST_1",
    ),
    Case(
        "addresses that are none restrict nothing",
        [trunk(NUMBER, allowed_addresses=["sip://pbx; anywhere"])],
        [rule("ST_1")],
        R.MATCHES,
        Incoming(NUMBER, address="198.51.100.7"),
    ),
    Case(
        "a trunk for certain callers, and one of them",
        [trunk(NUMBER, allowed_numbers=["12015550001"])],
        [rule("ST_1")],
        R.MATCHES,
        Incoming(NUMBER, caller="+12015550001"),
    ),
    Case(
        "a trunk for certain callers, and another one",
        [trunk(NUMBER, allowed_numbers=["+12015550001"])],
        [rule("ST_1")],
        R.CALLER_NOT_ALLOWED,
        Incoming(NUMBER, caller="+12015550002"),
    ),
    Case(
        "a trunk for certain callers, nobody knows who calls",
        [trunk(NUMBER, allowed_numbers=["+12015550001"])],
        [rule("ST_1")],
        R.MATCHES,
        cautions={C.ONLY_FROM_CALLERS},
    ),
    Case(
        "two trunks with the number, each for its callers",
        [trunk(NUMBER, allowed_numbers=["+12015550001"]), trunk(NUMBER, id="ST_2", allowed_numbers=["+12015550002"])],
        [rule("ST_1", "ST_2")],
        R.MATCHES,
        Incoming(NUMBER, caller="+12015550002"),
        trunk="ST_2",
    ),
    Case("a rule with the number", [trunk(NUMBER)], [rule("ST_1", numbers=[NUMBER])], R.MATCHES),
    Case("a rule with other numbers", [trunk(NUMBER)], [rule("ST_1", numbers=[OTHER])], R.RULE_OF_ANOTHER_NUMBER),
    Case(
        "a rule compares numbers letter by letter",
        [trunk(NUMBER)],
        [rule("ST_1", numbers=["12015550123"])],
        R.RULE_WRITTEN_DIFFERENTLY,
    ),
    Case(
        "a rule for certain callers, nobody knows who calls",
        [trunk(NUMBER)],
        [rule("ST_1", inbound_numbers=["+12015550001"])],
        R.RULE_FOR_OTHER_CALLERS,
    ),
    Case(
        "a rule for certain callers, and one of them",
        [trunk(NUMBER)],
        [rule("ST_1", inbound_numbers=["+12015550001"])],
        R.MATCHES,
        Incoming(NUMBER, caller="+12015550001"),
    ),
    Case(
        "a rule for the caller before one for everybody",
        [trunk(NUMBER)],
        [rule("ST_1"), rule("ST_1", id="SDR_vip", inbound_numbers=["+12015550001"])],
        R.MATCHES,
        Incoming(NUMBER, caller="+12015550001"),
        rule="SDR_vip",
    ),
    Case(
        "a rule with the number before one for all numbers",
        [trunk(NUMBER)],
        [rule("ST_1", agents=["other"]), rule("ST_1", id="SDR_2", numbers=[NUMBER])],
        R.MATCHES,
        rule="SDR_2",
    ),
    Case("two rules for the same calls", [trunk(NUMBER)], [rule("ST_1"), rule("ST_1", id="SDR_2")], R.TWO_RULES),
    Case(
        "a rule bound to the trunk before one bound to none",
        [trunk(NUMBER)],
        [rule(agents=["other"]), rule("ST_1", id="SDR_2")],
        R.MATCHES,
        rule="SDR_2",
    ),
    Case(
        "a rule bound to no trunk, where none has the number",
        [],
        [rule()],
        R.MATCHES,
        cautions={C.WITHOUT_TRUNK},
    ),
    Case(
        "a rule bound to no trunk takes what the trunk's address list refuses",
        [trunk(NUMBER, allowed_addresses=["203.0.113.7"])],
        [rule()],
        R.MATCHES,
        Incoming(NUMBER, address="198.51.100.7"),
        cautions={C.WITHOUT_TRUNK},
    ),
    Case(
        "a PIN",
        [trunk(NUMBER)],
        [rule("ST_1", kind=api.SIPDispatchRule(dispatch_rule_individual=individual("42")))],
        R.ASKS_PIN,
    ),
    Case(
        "a rule with a PIN goes before one without",
        [trunk(NUMBER)],
        [rule("ST_1"), rule("ST_1", id="SDR_pin", kind=direct("42"))],
        R.ASKS_PIN,
        rule="SDR_pin",
        cautions={C.ONE_ROOM},
    ),
    Case("a rule without an agent", [trunk(NUMBER)], [rule("ST_1", agents=())], R.NO_AGENT),
    Case("a rule with another agent", [trunk(NUMBER)], [rule("ST_1", agents=["receptionist"])], R.OTHER_AGENT),
    Case(
        "a rule with our agent and another",
        [trunk(NUMBER)],
        [rule("ST_1", agents=["recorder", OURS])],
        R.MATCHES,
        cautions={C.SEVERAL_AGENTS},
    ),
    Case(
        "a rule whose agent comes from a preset",
        [trunk(NUMBER)],
        [rule("ST_1", agents=(), room_preset="phone")],
        R.MATCHES,
        cautions={C.AGENT_FROM_PRESET},
    ),
    Case("one room for all callers", [trunk(NUMBER)], [rule("ST_1", kind=direct())], R.MATCHES, cautions={C.ONE_ROOM}),
    Case(
        "one room for all callers of a number",
        [trunk(NUMBER)],
        [rule("ST_1", kind=callee(randomize=False))],
        R.MATCHES,
        cautions={C.ONE_ROOM},
    ),
    Case("a room for each caller of a number", [trunk(NUMBER)], [rule("ST_1", kind=callee(randomize=True))], R.MATCHES),
    Case(
        "a rule that hides numbers",
        [trunk(NUMBER)],
        [rule("ST_1", hide_phone_number=True)],
        R.MATCHES,
        cautions={C.HIDES_NUMBERS},
    ),
    Case(
        "a rule of a kind the server does not know",
        [trunk(NUMBER)],
        [rule("ST_1", kind=api.SIPDispatchRule())],
        R.NO_RULE,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fact)
def test_what_becomes_of_a_call(case: Case) -> None:
    """Each combination of trunks and rules takes the call or loses it for its own reason."""
    verdict = judge(case.call, case.trunks, case.rules, OURS)

    assert verdict.reason is case.reason, verdict
    assert set(verdict.cautions) == case.cautions
    if case.trunk:
        assert verdict.trunk is not None and verdict.trunk.sip_trunk_id == case.trunk
    if case.rule:
        assert verdict.rule is not None and verdict.rule.sip_dispatch_rule_id == case.rule


def test_a_clash_names_both() -> None:
    """Of two trunks or two rules that claim a call, an operator is told both."""
    trunks = judge(Incoming(NUMBER), [trunk(NUMBER), trunk(NUMBER, id="ST_2")], [rule("ST_1")], OURS)
    rules = judge(Incoming(NUMBER), [trunk(NUMBER)], [rule("ST_1"), rule("ST_1", id="SDR_2")], OURS)

    assert trunks.others == ("ST_1", "ST_2")
    assert rules.others == ("SDR_1", "SDR_2")


def test_how_the_number_is_written_instead_is_told() -> None:
    """The verdict quotes the trunk's own writing."""
    assert judge(Incoming(NUMBER), [trunk("0012015550123")], [], OURS).written == "0012015550123"


def test_an_agent_of_another_deployment_is_another_agent() -> None:
    """LiveKit looks for a worker of name and deployment; ours has none."""
    found = rule("ST_1")
    found.room_config.agents[0].deployment = "blue"

    assert judge(Incoming(NUMBER), [trunk(NUMBER)], [found], OURS).reason is Reason.OTHER_AGENT


def test_strangers_come_in_where_no_trunk_and_no_pin_is() -> None:
    """A rule bound to a trunk, or one that asks for a PIN, is none for strangers."""
    rules = [rule("ST_1"), rule(id="SDR_open"), rule(id="SDR_pin", kind=direct("42"))]

    assert [found.sip_dispatch_rule_id for found in open_to_strangers(rules)] == ["SDR_open"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("12015550123", NUMBER),
        ("+1 (201) 555-0123", NUMBER),
        ("+1.201.555.0123", "+1.201.555.0123"),
        ("", ""),
        ("alice", "alice"),
    ],
)
def test_numbers_are_compared_as_the_server_does(written: str, read: str) -> None:
    """Spaces, dashes and parentheses go, a plus comes; whatever else is written stays."""
    assert normalized(written) == read


numbers = st.sampled_from([NUMBER, OTHER, "12015550123", "2015550123", "sip:x@y", ""])
trunks = st.builds(
    lambda own, callers, addresses, id: trunk(*own, id=id, allowed_numbers=callers, allowed_addresses=addresses),
    st.lists(numbers, max_size=3),
    st.lists(numbers, max_size=2),
    st.lists(st.sampled_from(["203.0.113.0/24", "198.51.100.7", "pbx.example", "(bad)"]), max_size=2),
    st.sampled_from(["ST_1", "ST_2", "ST_3"]),
)
rules = st.builds(
    lambda bound, called, calling, agents, pin, id: rule(
        *bound, id=id, numbers=called, inbound_numbers=calling, agents=agents, kind=direct(pin)
    ),
    st.lists(st.sampled_from(["ST_1", "ST_2", "ST_3"]), max_size=2),
    st.lists(numbers, max_size=2),
    st.lists(numbers, max_size=2),
    st.lists(st.sampled_from([OURS, "other"]), max_size=2),
    st.sampled_from(["", "42"]),
    st.sampled_from(["SDR_1", "SDR_2"]),
)


@given(st.lists(trunks, max_size=4), st.lists(rules, max_size=4), numbers)
def test_whatever_is_listed_there_is_a_verdict(
    listed: list[api.SIPInboundTrunkInfo], ruled: list[api.SIPDispatchRuleInfo], caller: str
) -> None:
    """No list breaks it; a match has a rule that names our agent, and no trunk only by a rule bound to none."""
    verdict: Verdict = judge(Incoming(NUMBER, caller=caller), listed, ruled, OURS)

    if verdict.matches:
        assert verdict.rule is not None and OURS in verdict.agents
        if verdict.trunk is None:
            assert Caution.WITHOUT_TRUNK in verdict.cautions and not verdict.rule.trunk_ids
        elif verdict.rule.trunk_ids:
            assert verdict.trunk.sip_trunk_id in verdict.rule.trunk_ids
    else:
        assert verdict.reason is not Reason.MATCHES


def test_the_same_number_in_two_trunks_in_two_ways_is_a_clash() -> None:
    """However it is dialled, both trunks take it, so neither gets it."""
    two = [trunk("12015550123"), trunk(NUMBER, id="ST_2")]

    for dialled in (NUMBER, "12015550123"):
        assert judge(Incoming(dialled), two, [rule("ST_1", "ST_2")], OURS).reason is Reason.TWO_TRUNKS
