"""What a transfer is made of: the tool's configuration, SIP's answers, and what plain words mean."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agent_worker.call.transfer.screening import Verdict, plain_answer
from agent_worker.domain.transfer import (
    REFER_UNKNOWN,
    TransferCause,
    TransferConfig,
    TransferDestination,
    TransferKind,
    TransferPlan,
    VoicemailDetection,
    cause_of,
    dial_uri,
)

SALES = {"to": "+12015550123", "label": "Sales"}
OFFICE = {"to": "+12015550124", "label": "Office"}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"destinations": [SALES]}, TransferKind.BLIND),
        ({"destinations": [SALES, OFFICE]}, TransferKind.WARM),
        ({"destinations": [SALES], "screeningPrompt": "Ask kindly."}, TransferKind.WARM),
        ({"destinations": [SALES], "mode": "blind", "screeningPrompt": "Ask kindly."}, TransferKind.BLIND),
    ],
)
def test_how_a_caller_is_put_through_follows_from_the_configuration(config: dict[str, Any], kind: TransferKind) -> None:
    """Where the file does not say it, several destinations or a prompt make it warm."""
    assert TransferConfig.model_validate(config).kind is kind


def test_the_models_choice_comes_first_and_the_others_after_it() -> None:
    """Left out, whoever comes first; a destination without a label goes by its number, and is announced without it."""
    config = TransferConfig.model_validate({"destinations": [SALES, OFFICE]})
    warm = config.plan(config.find("office") or config.destinations[0], reason="r", summary="s")
    assert [destination.label for destination in warm.destinations] == ["Office", "Sales"]
    assert (warm.reason, warm.summary) == ("r", "s")
    assert config.find("") is config.destinations[0]
    assert config.find("Garden") is None
    bare = TransferConfig.model_validate({"destinations": [SALES, {"to": "+12015550125"}]})
    found = bare.find("+12015550125")
    assert found is bare.destinations[1]
    assert bare.plan(found, reason="", summary="").announcement == "One moment, I will put you through."


def test_a_number_of_the_models_own_is_one_where_the_operator_says_so() -> None:
    """It goes to nobody else, what is no number is nobody's, and without the operator's word it is not taken."""
    config = TransferConfig.model_validate({"destinations": [SALES, OFFICE], "allowArbitrary": True})
    found = config.find("+12015550199")
    assert found is not None
    assert [destination.to for destination in config.plan(found, reason="", summary="").destinations] == [
        "+12015550199"
    ]
    assert config.find("my brother") is None
    assert TransferConfig.model_validate({"destinations": [SALES, OFFICE]}).find("+12015550199") is None


@pytest.mark.parametrize(
    "config",
    [
        {"ringingTimeout": 0},
        {"destination": []},
        {"key": "x"},
        {"from": "2015550123"},
        {"destinations": [SALES, OFFICE | {"label": "sales"}]},
    ],
)
def test_a_mistake_in_the_file_is_one(config: dict[str, Any]) -> None:
    """Unknown keys, and values nobody could dial with."""
    with pytest.raises(ValidationError):
        TransferConfig.model_validate({"destinations": [SALES]} | config)


def test_a_blind_tool_hands_over_to_whom_the_model_chose() -> None:
    """And to nobody after them: who was handed over is gone."""
    config = TransferConfig.model_validate({"mode": "blind", "destinations": [SALES, OFFICE]})
    plan = config.plan(config.destinations[1], reason="", summary="")
    assert [destination.label for destination in plan.destinations] == ["Office"]


def test_a_blind_transfer_has_one_destination() -> None:
    """REFER names one."""
    with pytest.raises(ValidationError, match="one destination"):
        TransferPlan(kind=TransferKind.BLIND, destinations=[TransferDestination(to="+12015550123")] * 2)


def test_seconds_may_come_as_a_float() -> None:
    """The contract's client sends 25.0."""
    plan = TransferPlan.model_validate({"kind": "warm", "destinations": [SALES], "ringingTimeout": 25.0})
    assert plan.ringing_timeout == 25


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (486, TransferCause.BUSY),
        (600, TransferCause.BUSY),
        (480, TransferCause.NO_ANSWER),
        (487, TransferCause.NO_ANSWER),
        (603, TransferCause.DECLINED),
        (404, TransferCause.INVALID_NUMBER),
        (403, TransferCause.REJECTED_BY_CARRIER),
        (405, TransferCause.REJECTED_BY_CARRIER),
        (503, TransferCause.CARRIER_ERROR),
        (488, TransferCause.DIAL_FAILED),
        (None, TransferCause.DIAL_FAILED),
    ],
)
def test_sips_answer_names_the_cause(code: int | None, cause: TransferCause) -> None:
    """Decided by the SIP code alone."""
    assert cause_of(code) is cause


@pytest.mark.parametrize(
    ("to", "uri"),
    [
        ("+12015550123", "tel:+12015550123"),
        ("tel:+12015550123", "tel:+12015550123"),
        ("sip:a@b.example", "sip:a@b.example"),
    ],
)
def test_a_refer_names_a_uri(to: str, uri: str) -> None:
    """A bare number becomes `tel:`."""
    assert dial_uri(to) == uri


@pytest.mark.parametrize(
    ("given", "mode"),
    [({}, "agent"), ({"mode": "amd"}, "amd"), ({"mode": "amd", "enabled": False}, "disabled")],
)
def test_who_looks_for_machines(given: dict[str, Any], mode: str) -> None:
    """`enabled: false` is `disabled`, whatever the mode."""
    assert VoicemailDetection.model_validate(given).how == mode


def test_only_what_says_that_no_refer_is_taken_is_done_without() -> None:
    """Never what a person's phone may have said, nor what another try may change."""
    assert not REFER_UNKNOWN & {404, 408, 480, 486, 487, 503, 600, 603}
    config = TransferConfig.model_validate({"destinations": [SALES], "referFallback": "dial"})
    assert config.plan(config.destinations[0], reason="", summary="").refer_fallback == "dial"


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("Yes, put them through.", Verdict.ACCEPTED),
        ("Okay, go ahead", Verdict.ACCEPTED),
        ("No, not now.", Verdict.DECLINED),
        ("I am busy", Verdict.DECLINED),
        ("Yes, but not now", None),
        ("Who is it?", None),
        ("We cannot take your call, but we will be sure to call you back.", None),
    ],
)
def test_plain_words_are_understood_without_a_model(words: str, verdict: Verdict | None) -> None:
    """What is said both ways, or neither, is nobody's yes."""
    assert plain_answer(words) is verdict
