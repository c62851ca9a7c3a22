"""Shipping journals: nothing is lost while a database or a journal makes trouble."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os

import pytest

from agent_worker.call.journal import Journal
from agent_worker.domain.call import DisconnectionReason, utc_now
from agent_worker.domain.fact import (
    CallAnswered,
    CallEnded,
    CallOpened,
    EventOccurred,
    TranscriptSpoken,
    encode,
)
from agent_worker.errors import ControlPlaneError
from tests.call_facts import CallStory, whole_call
from tests.databases import held
from tests.integration.shipping import Rig, Unreliable, names


async def test_facts_arrive_while_the_call_goes_on_and_the_journal_goes_when_it_ends(rig: Rig) -> None:
    """A live call can be read before it is over; its journal is deleted only after its end arrived."""
    journal = Journal(rig.journals, "call-1")
    async with rig.shipping():
        journal.write(CallOpened, organization_id="org_local", direction="inbound", room_name="room")
        journal.write(CallAnswered)
        await rig.seen(lambda call: call["status"] == "active")
        journal.write(TranscriptSpoken, index=0, source="user", text="Hi", started_at=utc_now())
        journal.write(CallEnded, disconnection_reason=DisconnectionReason.USER_HANGUP)
        await rig.seen(lambda call: call["status"] == "ended")
        assert rig.path().exists()  # its writer still holds it
        journal.close()
        detail = await rig.ended()
    assert detail["report"]["outcome"] == "completed"
    assert [entry["text"] for entry in detail["transcript"]["entries"]] == ["Hi"]


async def test_half_a_line_of_a_live_writer_waits_for_the_other_half(rig: Rig) -> None:
    """A line is read once its newline is there; nothing is rejected meanwhile."""
    story = whole_call()
    lines = b"".join(encode(fact) for fact in story.facts)
    journal = Journal(rig.journals, "call-1")
    async with rig.shipping():
        with rig.path().open("ab", buffering=0) as file:
            for start in range(0, len(lines), 97):
                file.write(lines[start : start + 97])
                await asyncio.sleep(0.005)
        journal.close()
        detail = await rig.ended()
    assert detail["status"] == "ended"
    assert len(detail["transcript"]["entries"]) == 3
    assert list(rig.journals.iterdir()) == []


async def test_a_torn_last_line_of_a_dead_writer_is_put_aside_and_the_call_ended(rig: Rig) -> None:
    """What was whole is delivered, what was torn is kept for a person, and the call is `worker_lost`."""
    facts = whole_call().facts[:8]
    torn = encode(whole_call().facts[9])[:40]
    rig.write(facts, tail=torn)
    async with rig.shipping():
        detail = await rig.ended()
    assert detail["metadata"]["disconnection_reason"] == "worker_lost"
    assert (detail["status"], detail["report"]["outcome"]) == ("failed", "failed")
    assert len(detail["transcript"]["entries"]) == 2
    assert (rig.journals / "call-1.jsonl.rejected").read_bytes() == torn + b"\n"


async def test_lines_that_are_no_facts_are_put_aside_once_and_never_logged(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Junk between facts costs the junk alone, also when the whole journal is read again after a restart."""
    facts = whole_call().facts
    path = rig.write(facts[:3], tail=b'{"kind": "secret words"}\nnot json either\n')
    writer = os.open(path, os.O_WRONLY | os.O_APPEND)
    fcntl.flock(writer, fcntl.LOCK_EX)
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            async with rig.shipping():
                await rig.seen(lambda call: call["status"] == "connecting")
        os.write(writer, b"".join(encode(fact) for fact in facts[3:]))
        os.close(writer)
        async with rig.shipping():
            detail = await rig.ended()
    assert len(detail["transcript"]["entries"]) == 3
    rejected = (rig.journals / "call-1.jsonl.rejected").read_bytes()
    assert rejected == b'{"kind": "secret words"}\nnot json either\n'
    assert any("journal lines rejected" in record.message for record in caplog.records)
    assert "secret words" not in caplog.text


async def test_a_database_locked_for_seconds_loses_nothing(rig: Rig) -> None:
    """Calls that happen and end while somebody holds the database are all there once it is let go."""
    await rig.control.record([CallStory("earlier").opened()])
    async with rig.shipping():
        async with held(rig.settings.database):
            for number in range(3):
                journal = Journal(rig.journals, f"call-{number}")
                for fact in whole_call(f"call-{number}").facts:
                    os.write(journal._file, encode(fact))
                journal.close()
            await asyncio.sleep(6)  # longer than a write waits for the lock
            assert len(list(rig.journals.iterdir())) == 3
        for number in range(3):
            detail = await rig.ended(f"call-{number}")
            assert detail["status"] == "ended"
            assert len(detail["transcript"]["entries"]) == 3
            assert len(await rig.events(f"call-{number}")) == 3
    assert names(rig.journals) == []  # not one line was put aside


async def test_a_control_plane_that_is_down_is_asked_until_it_answers(rig: Rig) -> None:
    """Retryable errors cost time, not facts."""
    down = iter([True] * 3)
    control = Unreliable(
        rig.control,
        lambda _facts: ControlPlaneError("down", "Down.", retryable=True) if next(down, False) else None,
    )
    rig.write(whole_call().facts)
    async with rig.shipping(control):
        detail = await rig.ended()
    assert control.failures == 3
    assert len(detail["transcript"]["entries"]) == 3
    assert detail["metadata"]["from"] == "+12015550101"
    assert names(rig.journals) == []  # not one line was put aside


async def test_one_fact_that_is_refused_for_good_takes_no_other_with_it(rig: Rig) -> None:
    """The facts around it are applied; the refused line is kept beside the journal."""
    story = CallStory()
    story.opened()
    story.said(0, "user", "before")
    bad = story.add(EventOccurred, event_type="odd", sip_status_code=2**80)
    story.said(1, "user", "after")
    story.ended()
    rig.write(story.facts)
    async with rig.shipping():
        detail = await rig.ended()
    assert [entry["text"] for entry in detail["transcript"]["entries"]] == ["before", "after"]
    assert (rig.journals / "call-1.jsonl.rejected").read_bytes() == encode(bad)


async def test_a_journal_that_always_fails_does_not_keep_the_others(rig: Rig) -> None:
    """An unexpected error in one call's delivery is that call's alone."""
    control = Unreliable(rig.control, lambda facts: RuntimeError("odd") if facts[0].call_id == "bad" else None)
    rig.write(whole_call("bad").facts, "bad")
    for number in range(3):
        rig.write(whole_call(f"call-{number}").facts, f"call-{number}")
    async with rig.shipping(control, deadline_seconds=0.5):
        for number in range(3):
            await rig.ended(f"call-{number}")
    assert rig.path("bad").exists()
