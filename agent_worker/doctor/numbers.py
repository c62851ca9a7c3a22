"""What LiveKit does with a call to each of our numbers, in the sentences an operator needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from livekit import api

from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.telephony.matching import Caution, Exchange, Incoming, Reason, Verdict, open_to_strangers

NAME = "numbers"
SHOWN = 5
PROVISION = "Run `python -m agent_worker provision`"
SILENCE = "callers hear ringing, then nothing (100, 180, silence; some bridges: 486 flood)"


@dataclass(frozen=True)
class Sentence:
    """Cause and remedy of one reason, with places for the numbers, trunk, rule, agents and so on."""

    cause: str
    remedy: str


SENTENCES: Mapping[Reason, Sentence] = {
    Reason.NO_TRUNK: Sentence(
        "No inbound trunk has {numbers}: " + SILENCE + ".", PROVISION + ", which makes the trunk and its rule."
    ),
    Reason.TRUNK_WRITTEN_DIFFERENTLY: Sentence(
        "{trunk} has {numbers} written as {written}, which LiveKit takes for another number: " + SILENCE + ".",
        "Write the number in the trunk as +, country code and digits; `python -m agent_worker provision` does.",
    ),
    Reason.TWO_TRUNKS: Sentence(
        "More than one trunk takes {numbers} ({others}): callers get 503.", "Delete all but one of these trunks."
    ),
    Reason.CALLER_NOT_ALLOWED: Sentence(
        "{trunk} has {numbers}, but takes calls from other numbers only: " + SILENCE + ".",
        "Change the trunk's allowed numbers.",
    ),
    Reason.ADDRESS_NOT_ALLOWED: Sentence(
        "{trunk} has {numbers}, but does not take calls from this address: " + SILENCE + ".",
        "Add the carrier's addresses to allowedAddresses of the SIP connection, then run `provision`.",
    ),
    Reason.NO_RULE: Sentence(
        "{trunk} has {numbers}, but there is no dispatch rule: " + SILENCE + ".",
        PROVISION + ", which makes the rule.",
    ),
    Reason.RULE_OF_ANOTHER_TRUNK: Sentence(
        "{trunk} has {numbers}, but every dispatch rule is bound to another trunk: " + SILENCE + ".",
        PROVISION + ", which binds a rule to this trunk.",
    ),
    Reason.RULE_OF_ANOTHER_NUMBER: Sentence(
        "{rule} takes calls to other numbers only, not to {numbers}: " + SILENCE + ".",
        "Take the numbers out of the rule, as the trunk lists them already.",
    ),
    Reason.RULE_WRITTEN_DIFFERENTLY: Sentence(
        "{rule} has {numbers} written as {written}, and compares it letter by letter: " + SILENCE + ".",
        "Take the numbers out of the rule, as the trunk lists them already.",
    ),
    Reason.RULE_FOR_OTHER_CALLERS: Sentence(
        "{rule} takes calls to {numbers} from certain callers only; all others hear ringing, then nothing.",
        "Take the inbound numbers out of the rule.",
    ),
    Reason.TWO_RULES: Sentence(
        "Two dispatch rules claim the same calls ({others}): callers to {numbers} get 503.",
        "Delete one of the two rules.",
    ),
    Reason.ASKS_PIN: Sentence(
        "{rule} asks callers to {numbers} for a PIN before any agent answers.", "Take the PIN out of the rule."
    ),
    Reason.NO_AGENT: Sentence(
        "{rule} takes calls to {numbers}, but sends no agent: they ring until 486.",
        PROVISION + ", which has the rule dispatch {ours!r}.",
    ),
    Reason.OTHER_AGENT: Sentence(
        "{rule} sends calls to {numbers} to the agent {agents}, while our workers are named {ours!r}.",
        PROVISION + ", or set AGENT_WORKER_AGENT_NAME to the name in the rule.",
    ),
}
_WARNINGS: Mapping[Caution, Sentence] = {
    Caution.ONE_ROOM: Sentence(
        "{rule} puts all callers to {numbers} into one room: a second caller joins the first one's call.",
        "Use an individual rule, a room for each caller; `python -m agent_worker provision` makes one.",
    ),
    Caution.SEVERAL_AGENTS: Sentence(
        "{rule} sends several agents ({agents}) to each call to {numbers}: all of them answer.",
        "Leave one agent in the rule.",
    ),
    Caution.ONLY_FROM_CALLERS: Sentence(
        "{trunk} takes calls to {numbers} from certain callers only; all others hear ringing, then nothing.",
        "If that is not meant, take the allowed numbers out of the trunk.",
    ),
    Caution.AGENT_FROM_PRESET: Sentence(
        "{rule} takes its agent for {numbers} from a room preset, which cannot be looked into from here.",
        "See that the preset dispatches {ours!r}.",
    ),
}


async def check_numbers(exam: Examination) -> None:
    """Judge every number that takes calls, and name the rules that let strangers in."""
    settings, catalog = exam.known_settings, exam.known_catalog
    assert exam.trunks is not None, "without the lists of the bridge's check this one is skipped"
    numbers = [number for number, entry in catalog.numbers.items() if entry.config.takes_calls]
    exchange = Exchange(exam.trunks, exam.rules, settings.agent_name)
    exam.verdicts.update({number: exchange.judge(Incoming(number)) for number in numbers})
    if not numbers:
        exam.report(
            NAME,
            Status.WARNING,
            "No number takes calls: agents are reached only where somebody dispatches them by name.",
            "List numbers in an agent file or in telephony.yaml.",
            code="no_numbers",
        )
    good = [number for number in numbers if exam.verdicts[number].matches]
    for group in _grouped(exam.verdicts, (number for number in numbers if not exam.verdicts[number].matches)):
        reason = exam.verdicts[group[0]].reason
        _tell(exam, Status.FAILED, reason.value, SENTENCES[reason], group)
    good = [number for number in good if not _hides_number(exam, number)]
    for caution, sentence in _WARNINGS.items():
        for group in _grouped(exam.verdicts, (n for n in good if caution in exam.verdicts[n].cautions)):
            _tell(exam, Status.WARNING, caution.value, sentence, group)
    for rule in open_to_strangers(exam.rules):
        _tell_stranger(exam, rule)
    if good:
        _tell_good(exam, good)


def _grouped(verdicts: Mapping[str, Verdict], numbers: Iterable[str]) -> list[list[str]]:
    """Return the numbers in groups, those together that are told of in the same words."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for number in numbers:
        verdict = verdicts[number]
        key = (verdict.reason.value, _id(verdict.trunk), _id(verdict.rule), verdict.written)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


def _hides_number(exam: Examination, number: str) -> bool:
    """Report a rule that does not tell our worker which number was dialled, by which it finds the agent."""
    verdict, settings = exam.verdicts[number], exam.known_settings
    if Caution.HIDES_NUMBERS not in verdict.cautions or verdict.rule is None or _names_agent(verdict.rule):
        return False
    sentence = Sentence(
        "{rule} hides phone numbers, so the worker cannot tell that {numbers} was dialled.",
        "Take hide_phone_number out of the rule.",
    )
    status = Status.WARNING if settings.default_agent else Status.FAILED
    _tell(exam, status, Caution.HIDES_NUMBERS.value, sentence, [number])
    return True


def _names_agent(rule: api.SIPDispatchRuleInfo) -> bool:
    for agent in rule.room_config.agents:
        try:
            told = json.loads(agent.metadata or "{}")
        except ValueError:
            continue
        if isinstance(told, Mapping) and (told.get("agentId") or told.get("agent_id")):
            return True
    return False


def _tell_stranger(exam: Examination, rule: api.SIPDispatchRuleInfo) -> None:
    which = f"to {_listed(rule.numbers)}" if rule.numbers else "to any number"
    exam.report(
        NAME,
        Status.WARNING,
        f"{_named('Rule', rule.name, rule.sip_dispatch_rule_id)} is bound to no trunk: it takes calls {which} "
        "from anybody who finds the bridge.",
        f"{PROVISION}, which binds its rule to trunks, and delete this one.",
        code="open_to_strangers",
        detail={"rule": rule.sip_dispatch_rule_id},
    )


def _tell_good(exam: Examination, numbers: list[str]) -> None:
    notes = []
    for caution, note in (
        (Caution.NEEDS_PASSWORD, "with a password"),
        (Caution.ONLY_FROM_ADDRESSES, "from certain addresses"),
    ):
        count = sum(caution in exam.verdicts[number].cautions for number in numbers)
        if count:
            notes.append(f"{note}: {count}")
    said = f" ({'; '.join(notes)})" if notes else ""
    few = "has a trunk and a rule that match" if len(numbers) == 1 else "have trunks and rules that match"
    exam.report(NAME, Status.OK, f"{_listed(numbers)} {few}{said}.", detail={"numbers": numbers[:100]})


def _tell(exam: Examination, status: Status, code: str, sentence: Sentence, numbers: list[str]) -> None:
    verdict = exam.verdicts[numbers[0]]
    words = {
        "numbers": _listed(numbers),
        "trunk": _named("Trunk", verdict.trunk.name, verdict.trunk.sip_trunk_id) if verdict.trunk else "A trunk",
        "rule": _named("Rule", verdict.rule.name, verdict.rule.sip_dispatch_rule_id) if verdict.rule else "A rule",
        "written": repr(verdict.written),
        "others": ", ".join(verdict.others),
        "agents": ", ".join(repr(agent) for agent in verdict.agents) or "none",
        "ours": exam.known_settings.agent_name,
    }
    detail = {"numbers": numbers[:100], "trunk": _id(verdict.trunk), "rule": _id(verdict.rule)}
    exam.report(NAME, status, sentence.cause.format(**words), sentence.remedy.format(**words), code=code, detail=detail)


def _listed(numbers: Iterable[str]) -> str:
    known = list(numbers)
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return ", ".join(known[:SHOWN]) + more


def _named(kind: str, name: str, identifier: str) -> str:
    return f"{kind} {name!r} ({identifier})" if name else f"{kind} {identifier}"


def _id(thing: api.SIPInboundTrunkInfo | api.SIPDispatchRuleInfo | None) -> str:
    return str(getattr(thing, "sip_trunk_id", "") or getattr(thing, "sip_dispatch_rule_id", ""))
