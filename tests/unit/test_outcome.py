"""The outcome: one word of a closed set for every reason a call can end with."""

from __future__ import annotations

import pytest

from agent_worker.control.outcome import HOW_IT_ENDED, Outcome, outcome_of
from agent_worker.domain.call import DisconnectionReason as Reason


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_an_outcome_and_a_sentence(reason: Reason) -> None:
    """No reason is forgotten: each has a sentence, and an outcome once the caller has spoken."""
    assert HOW_IT_ENDED[reason].endswith(".")
    assert outcome_of(reason, answered=True, user_spoke=True) is not Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("reason", "answered", "spoke", "outcome"),
    [
        (Reason.USER_HANGUP, True, True, Outcome.COMPLETED),
        (Reason.AGENT_HANGUP, True, True, Outcome.COMPLETED),
        (Reason.USER_HANGUP, True, False, Outcome.ABANDONED),
        (Reason.IDLE, True, False, Outcome.ABANDONED),
        (Reason.IDLE, True, True, Outcome.COMPLETED),
        (Reason.CANCELLED, False, False, Outcome.ABANDONED),
        (Reason.UNKNOWN_NUMBER, True, False, Outcome.FAILED),
        (Reason.DIAL_NO_ANSWER, False, False, Outcome.NO_ANSWER),
        (Reason.DIAL_BUSY, False, False, Outcome.BUSY),
        (Reason.VOICEMAIL, True, False, Outcome.VOICEMAIL),
        (Reason.WORKER_LOST, True, True, Outcome.FAILED),
        (Reason.WORKER_SHUTDOWN, True, False, Outcome.UNKNOWN),
        (Reason.CALL_TRANSFER, True, True, Outcome.TRANSFERRED),
    ],
)
def test_outcome_follows_from_reason_and_speech(reason: Reason, answered: bool, spoke: bool, outcome: Outcome) -> None:
    """Whether anybody spoke tells a call that was held from one that was abandoned."""
    assert outcome_of(reason, answered=answered, user_spoke=spoke) is outcome


def test_what_was_collected_names_the_outcome() -> None:
    """A message or a callback is what the call was for, unless the call itself failed."""
    message = {"message": {"name": "Maya"}}
    held = {"answered": True, "user_spoke": True}
    assert outcome_of(Reason.USER_HANGUP, **held, structured_data=message) is Outcome.MESSAGE_TAKEN
    both = {**message, "callback": {"at": "tomorrow"}}
    assert outcome_of(Reason.USER_HANGUP, **held, structured_data=both) is Outcome.CALLBACK_SCHEDULED
    assert outcome_of(Reason.WORKER_LOST, **held, structured_data=message) is Outcome.FAILED


def test_a_transfer_that_worked_outweighs_how_the_call_ended() -> None:
    """Once a person took over, a failure of ours afterwards does not undo the transfer."""
    outcome = outcome_of(Reason.WORKER_LOST, answered=True, user_spoke=True, transfer_statuses=["failed", "completed"])
    assert outcome is Outcome.TRANSFERRED


def test_sip_603_is_declined() -> None:
    """A person who presses decline is told from a trunk that fails."""
    nobody = {"answered": False, "user_spoke": False}
    assert outcome_of(Reason.DIAL_FAILED, **nobody, sip_status_code=603) is Outcome.DECLINED
    assert outcome_of(Reason.DIAL_FAILED, **nobody, sip_status_code=503) is Outcome.FAILED
