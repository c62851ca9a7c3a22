"""Which numbers are answered, and by which workers, as the doctor tells it."""

from __future__ import annotations

from typing import Any

import pytest
from livekit import api

from agent_worker.config.catalog import AgentCatalog
from agent_worker.doctor import numbers, workers
from agent_worker.doctor.finding import Status
from agent_worker.domain.agent import AgentConfig
from agent_worker.settings import Settings
from agent_worker.telephony.matching import Reason
from agent_worker.telephony.probe import WorkerState, is_probe
from tests.examinations import FAILED, NUMBER, OK, WARNING, examination

# --- numbers


def trunk(*own: str, **fields: Any) -> api.SIPInboundTrunkInfo:
    return api.SIPInboundTrunkInfo(sip_trunk_id="ST_1", name="carrier", numbers=list(own), **fields)


def rule(*bound: str, agent: str = "phone-agent", **fields: Any) -> api.SIPDispatchRuleInfo:
    fields.setdefault("rule", api.SIPDispatchRule(dispatch_rule_individual=api.SIPDispatchRuleIndividual()))
    config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=agent)] if agent else [])
    return api.SIPDispatchRuleInfo(sip_dispatch_rule_id="SDR_1", trunk_ids=list(bound), room_config=config, **fields)


PIN = api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="r", pin="42"))
LOBBY = api.SIPDispatchRule(dispatch_rule_direct=api.SIPDispatchRuleDirect(room_name="lobby"))
SHAPES: list[tuple[str, Status, list[Any], list[Any]]] = [
    ("", OK, [trunk(NUMBER)], [rule("ST_1")]),
    ("no_trunk", FAILED, [], [rule("ST_1")]),
    ("trunk_written_differently", FAILED, [trunk("2015550123")], [rule("ST_1")]),
    ("two_trunks", FAILED, [trunk(NUMBER), trunk(NUMBER)], [rule("ST_1")]),
    ("no_rule", FAILED, [trunk(NUMBER)], []),
    ("rule_of_another_trunk", FAILED, [trunk(NUMBER)], [rule("ST_2")]),
    ("rule_of_another_number", FAILED, [trunk(NUMBER)], [rule("ST_1", numbers=["+1"])]),
    ("rule_written_differently", FAILED, [trunk(NUMBER)], [rule("ST_1", numbers=["12015550123"])]),
    ("rule_for_other_callers", FAILED, [trunk(NUMBER)], [rule("ST_1", inbound_numbers=["+1"])]),
    ("two_rules", FAILED, [trunk(NUMBER)], [rule("ST_1"), rule("ST_1")]),
    ("asks_pin", FAILED, [trunk(NUMBER)], [rule("ST_1", rule=PIN)]),
    ("no_agent", FAILED, [trunk(NUMBER)], [rule("ST_1", agent="")]),
    ("other_agent", FAILED, [trunk(NUMBER)], [rule("ST_1", agent="receptionist")]),
    ("hides_numbers", FAILED, [trunk(NUMBER)], [rule("ST_1", hide_phone_number=True)]),
    ("one_room", WARNING, [trunk(NUMBER)], [rule("ST_1", rule=LOBBY)]),
    ("only_from_callers", WARNING, [trunk(NUMBER, allowed_numbers=["+1"])], [rule("ST_1")]),
    ("agent_from_preset", WARNING, [trunk(NUMBER)], [rule("ST_1", agent="", room_preset="phone")]),
    ("open_to_strangers", WARNING, [], [rule()]),
]


@pytest.mark.parametrize(("code", "status", "trunks", "rules"), SHAPES, ids=[shape[0] or "well" for shape in SHAPES])
async def test_each_way_to_lose_a_number_has_its_sentences(
    code: str, status: Status, trunks: list[Any], rules: list[Any]
) -> None:
    """Cause and remedy are whole sentences that name the number, or the rule that is open."""
    exam = examination(trunks=trunks, rules=rules)
    await numbers.check_numbers(exam)

    first = exam.findings[0]
    assert (first.status, first.code) == (status, code)
    assert "{" not in first.message + first.remedy and first.message.endswith(".")
    assert (first.remedy != "") == (status is not OK)
    assert (NUMBER if code != "open_to_strangers" else "SDR_1") in first.message


def test_no_reason_is_without_words() -> None:
    """Whatever becomes of a call can be told."""
    assert set(numbers.SENTENCES) == set(Reason) - {Reason.MATCHES}


async def test_numbers_with_the_same_fate_are_told_together() -> None:
    """A thousand numbers without a trunk are one line, not a thousand."""
    many = [f"+1201555{index:04}" for index in range(1_000)]
    agent = AgentConfig(name="desk", system_prompt="Be kind.", numbers=many)
    exam = examination(trunks=[], rules=[], catalog=AgentCatalog.of([agent]))
    await numbers.check_numbers(exam)

    [finding] = exam.findings
    assert "and 995 more" in finding.message
    assert len(finding.detail["numbers"]) == 100


async def test_numbers_hidden_from_us_matter_only_where_we_look_at_them() -> None:
    """A rule that says which agent it means, or a default agent, makes hidden numbers bearable."""
    hidden = rule("ST_1", hide_phone_number=True)
    default = examination(trunks=[trunk(NUMBER)], rules=[hidden], settings=Settings(default_agent="desk"))
    await numbers.check_numbers(default)
    hidden.room_config.agents[0].metadata = '{"agentId": "desk"}'
    named = examination(trunks=[trunk(NUMBER)], rules=[hidden])
    await numbers.check_numbers(named)

    assert default.findings[0].status is WARNING
    assert [finding.status for finding in named.findings] == [OK]


# --- workers


@pytest.mark.parametrize(
    ("states", "status", "code", "free"),
    [
        ([("ready", 5, 2), ("full", 5, 5)], OK, "", 3),
        ([("full", 1, 1)], FAILED, "no_slots", 0),
        ([("draining", 5, 1)], FAILED, "draining", 0),
        ([("draining", 5, 1), ("full", 2, 2)], FAILED, "no_slots", 0),
    ],
)
async def test_slots_are_counted_over_all_workers(
    states: list[tuple[str, int, int]], status: Status, code: str, free: int
) -> None:
    """A worker that stops has no free slot, however few calls it holds."""
    found = [
        WorkerState(f"host-{index}", state, slots, calls, "1") for index, (state, slots, calls) in enumerate(states)
    ]
    exam = examination(workers=found)
    await workers.check_slots(exam)

    [finding] = exam.findings
    assert (finding.status, finding.code, finding.detail["free"]) == (status, code, free)


@pytest.mark.parametrize(
    ("metadata", "probe"),
    [
        ('{"agentWorkerProbe": "ab12"}', True),
        ('{"agentWorkerProbe": 1}', False),
        ("agentWorkerProbe", False),
        ("", False),
    ],
)
def test_only_a_probe_is_a_probe(metadata: str, probe: bool) -> None:
    """A call whose metadata merely mentions the word is a call."""
    assert is_probe(metadata) is probe
