"""An attempt's row as it is written down: each step of it, and that what is over stays as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_worker.call.journal import Journal
from agent_worker.call.transfer.attempt import Attempt
from agent_worker.domain.fact import EventOccurred, Fact, TransferChanged
from agent_worker.domain.transfer import TransferCause, TransferDestination, TransferPlan, TransferStatus
from agent_worker.telephony.transfer import SipOutcome

SALES = TransferDestination(to="+12015550123", label="Sales", metadata={"team": "north"})


def begun(folder: Path, **plan: Any) -> tuple[Attempt, list[Fact]]:
    journal = Journal(folder, "call-1")
    facts: list[Fact] = []
    journal.listen(facts.append)
    asked = TransferPlan.model_validate({"kind": "warm", "destinations": [SALES], "summary": "A room for two."} | plan)
    room = "room-consult-1" if asked.kind == "warm" else None
    attempt = Attempt(
        journal,
        ("call-1", "org_local"),
        asked,
        asked.destinations[0],
        room_name="room",
        caller_identity="caller",
        consultation_room=room,
        trunk_id="ST_1",
    )
    attempt.announce()
    return attempt, facts


def rows(facts: list[Fact]) -> list[TransferChanged]:
    return [fact for fact in facts if isinstance(fact, TransferChanged)]


def events(facts: list[Fact]) -> list[EventOccurred]:
    return [fact for fact in facts if isinstance(fact, EventOccurred)]


async def test_each_step_is_a_row_and_an_event(tmp_path: Path) -> None:
    """With the transfer's names, and what SIP said where it did."""
    attempt, facts = begun(tmp_path)
    attempt.change(TransferStatus.SCREENING)
    attempt.change(TransferStatus.BRIDGING)
    attempt.change(TransferStatus.COMPLETED)
    assert [row.status for row in rows(facts)] == ["requested", "screening", "bridging", "completed"]
    assert [event.event_type for event in events(facts)] == [
        "call.transfer.initiated",
        "transfer.screening",
        "transfer.bridging",
        "call.transfer.completed",
    ]
    assert {tuple(sorted(event.payload)) for event in events(facts)} == {("kind", "label", "transfer_id")}
    last = rows(facts)[-1]
    assert (last.completed_at is not None, last.recipient_participant_identity) == (True, f"transfer-{attempt.id}")
    assert (last.metadata, last.summary) == ({"team": "north", "label": "Sales"}, "A room for two.")


@pytest.mark.parametrize("end", [TransferStatus.COMPLETED, TransferStatus.FAILED, TransferStatus.CANCELLED])
async def test_what_is_over_stays_as_it_is(tmp_path: Path, end: TransferStatus) -> None:
    """Nothing is written after it, whoever has a later word."""
    attempt, facts = begun(tmp_path)
    attempt.change(end, None if end is TransferStatus.COMPLETED else "busy")
    written = len(facts)
    for later in TransferStatus:
        attempt.change(later, TransferCause.CALLER_HUNG_UP.value)
    assert len(facts) == written
    assert (attempt.status, attempt.is_open) == (end, False)


async def test_sips_word_is_kept_with_a_failure(tmp_path: Path) -> None:
    """In the row's metadata and on its event."""
    attempt, facts = begun(tmp_path)
    attempt.change(TransferStatus.FAILED, "busy", sip=SipOutcome(TransferCause.BUSY, 486, "Busy Here"))
    [_, failed] = events(facts)
    assert (failed.failure_cause, failed.sip_status_code, failed.sip_status) == ("busy", 486, "Busy Here")
    assert rows(facts)[-1].metadata["sip_status_code"] == 486


async def test_an_operators_summary_and_what_was_said_are_in_the_row(tmp_path: Path) -> None:
    """The summary with the next word on it, the conversation apart from the caller's transcript."""
    attempt, facts = begun(tmp_path)
    attempt.change(TransferStatus.SCREENING)
    attempt.consulted([("agent", "Will you take it?"), ("user", "Yes.")])
    attempt.summary = "It is about invoice 7."
    attempt.change(TransferStatus.BRIDGING)
    last = rows(facts)[-1]
    assert last.summary == attempt.row()["summary"] == "It is about invoice 7."
    assert last.metadata["consultation"] == [
        {"source": "agent", "text": "Will you take it?"},
        {"source": "user", "text": "Yes."},
    ]


async def test_a_blind_attempt_that_is_dialled_instead_stays_one_row(tmp_path: Path) -> None:
    """Of kind blind, with the room it is dialled into and what the carrier had said."""
    attempt, facts = begun(tmp_path, kind="blind")
    assert rows(facts)[0].recipient_participant_identity is None
    attempt.dialled_instead("room-consult-1", "ST_2", SipOutcome(TransferCause.REJECTED_BY_CARRIER, 405, "No"))
    attempt.change(TransferStatus.BRIDGING)
    attempt.change(TransferStatus.COMPLETED)
    assert {row.transfer_id for row in rows(facts)} == {attempt.id}
    last = rows(facts)[-1]
    assert (last.transfer_kind, last.consultation_room_name, last.outbound_trunk_id) == (
        "blind",
        "room-consult-1",
        "ST_2",
    )
    assert last.metadata["refer_sip_status_code"] == 405
    assert last.recipient_participant_identity == f"transfer-{attempt.id}"
