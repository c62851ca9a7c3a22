"""What facts make of a call's row, in any order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agent_worker.domain.call import CallStatus, DisconnectionReason
from agent_worker.domain.fact import CallAnswered, CallEnded, Fact
from agent_worker.store.call_row import PROVISIONAL, changed_call, first_row, sequence_of
from agent_worker.store.tables import calls
from tests.call_facts import START, CallStory


def _row(*facts: Fact) -> dict[str, Any]:
    blank = dict.fromkeys(calls.c.keys())
    row = {**blank, **first_row("call-1", facts, "org_local", None)}
    return row | changed_call(row, facts)


def test_status_goes_from_connecting_to_active_to_ended() -> None:
    """The status is what the facts so far amount to."""
    story = CallStory()
    story.opened()
    assert _row(*story.facts)["status"] == CallStatus.CONNECTING
    story.add(CallAnswered)
    assert _row(*story.facts)["status"] == CallStatus.ACTIVE
    story.ended()
    assert _row(*story.facts)["status"] == CallStatus.ENDED


def test_the_duration_counts_from_the_answer() -> None:
    """Ringing is not talking; a call nobody answered lasted 0 s."""
    story = CallStory()
    story.opened()
    story.add(CallAnswered, at=START + timedelta(seconds=10))
    story.ended(at=START + timedelta(seconds=75))
    assert _row(*story.facts)["duration_seconds"] == 65
    unanswered = [fact for fact in story.facts if not isinstance(fact, CallAnswered)]
    assert _row(*unanswered)["duration_seconds"] == 0


def test_the_calls_own_end_replaces_only_the_sweepers() -> None:
    """A verdict on a call nobody heard of gives way to what the call's journal says; nothing else does."""
    story = CallStory()
    story.opened()
    swept = CallEnded(
        id="call-1:swept", call_id="call-1", at=START, disconnection_reason=DisconnectionReason.WORKER_LOST
    )
    own = story.ended(DisconnectionReason.AGENT_HANGUP)
    other = story.ended(DisconnectionReason.ERROR)
    assert sequence_of(swept) == PROVISIONAL
    assert _row(story.facts[0], swept)["status"] == CallStatus.FAILED
    for facts in ((swept, own), (own, swept), (swept, own, other), (own, other, swept)):
        row = _row(story.facts[0], *facts)
        assert (row["disconnection_reason"], row["status"]) == ("agent_hangup", "ended")


@pytest.mark.parametrize("reason", list(DisconnectionReason))
def test_an_ended_call_is_ended_or_failed(reason: DisconnectionReason) -> None:
    """Whatever the reason, the call is left in one of the two final states."""
    story = CallStory()
    story.opened()
    story.ended(reason)
    assert _row(*story.facts)["status"] in (CallStatus.ENDED, CallStatus.FAILED)
