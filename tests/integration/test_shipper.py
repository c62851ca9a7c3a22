"""Shipping journals: nothing is lost, whoever dies or is away, and the calls of the dead are ended."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_worker.call.journal import Journal
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper, OnOrphan
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, DisconnectionReason, utc_now
from agent_worker.domain.fact import (
    CallAnswered,
    CallEnded,
    CallOpened,
    EventOccurred,
    Fact,
    RecordingChanged,
    TranscriptSpoken,
    encode,
)
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import queries
from tests.call_facts import START, CallStory, whole_call
from tests.integration.test_store import control_on, rows_of


class Rig:
    """A journal folder, a control plane over a real database, and a shipper between them."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder, lease_seconds=5)
        self.journals = self.settings.journal_dir
        self.journals.mkdir(parents=True)
        self.control = EmbeddedControlPlane(self.settings)

    @asynccontextmanager
    async def shipping(
        self,
        control: Any = None,
        on_orphan: OnOrphan | None = None,
        deadline_seconds: float = 10,
        **options: Any,
    ) -> AsyncIterator[JournalShipper]:
        shipper = JournalShipper(
            self.journals,
            control or self.control,
            worker_id="w1",
            lease_seconds=5,
            on_orphan=on_orphan,
            poll_seconds=0.02,
            **options,
        )
        shipper.start()
        try:
            yield shipper
        finally:
            await shipper.aclose(deadline_seconds)

    def path(self, call_id: str = "call-1") -> Path:
        return self.journals / f"{call_id}.jsonl"

    def write(self, facts: Sequence[Fact], call_id: str = "call-1", tail: bytes = b"") -> Path:
        """Write a journal nobody holds, as a dead process leaves it."""
        self.path(call_id).write_bytes(b"".join(encode(fact) for fact in facts) + tail)
        return self.path(call_id)

    async def call(self, call_id: str = "call-1") -> dict[str, Any] | None:
        async with self.control.reading() as connection:
            return await queries.call_detail(connection, call_id)

    async def events(self, call_id: str = "call-1") -> list[dict[str, Any]]:
        async with self.control.reading() as connection:
            return await queries.call_events(connection, call_id)

    async def seen(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until the call is in the database and the condition holds for it."""
        async with asyncio.timeout(30):
            while True:
                detail = await self.call()
                if detail is not None and condition(detail):
                    return
                await asyncio.sleep(0.02)

    async def ended(self, call_id: str = "call-1") -> dict[str, Any]:
        """Wait until the call is over in the database and its journal is gone; return it."""
        await until(lambda: not self.path(call_id).exists())
        detail = await self.call(call_id)
        assert detail is not None
        return detail


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.control.aclose()


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Unreliable:
    """A control plane that fails as it is told, in front of a real one."""

    def __init__(self, control: EmbeddedControlPlane, fails: Callable[[Sequence[Fact]], Exception | None]) -> None:
        self._control = control
        self._fails = fails
        self.failures = 0
        self.renewed: list[tuple[str, ...]] = []

    async def open_call(self, offer: CallOffer) -> CallPlan | CallRefusal:
        return await self._control.open_call(offer)

    async def record(self, facts: Sequence[Fact]) -> None:
        error = self._fails(facts)
        if error is not None:
            self.failures += 1
            raise error
        await self._control.record(facts)

    async def finish_call(self, ended: CallEnded) -> None:
        await self.record([ended])

    async def renew_leases(self, call_ids: Sequence[str], *, worker_id: str, until: datetime) -> None:
        self.renewed.append(tuple(call_ids))
        await self._control.renew_leases(call_ids, worker_id=worker_id, until=until)

    async def aclose(self) -> None:
        await self._control.aclose()


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
    facts = whole_call().facts[:7]
    torn = encode(whole_call().facts[8])[:40]
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
    holder = sqlite3.connect(rig.settings.data_dir / "agent-worker.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    async with rig.shipping():
        for number in range(3):
            journal = Journal(rig.journals, f"call-{number}")
            for fact in whole_call(f"call-{number}").facts:
                os.write(journal._file, encode(fact))
            journal.close()
        await asyncio.sleep(6)  # longer than a write waits for the lock
        assert len(list(rig.journals.iterdir())) == 3
        holder.execute("COMMIT")
        holder.close()
        for number in range(3):
            detail = await rig.ended(f"call-{number}")
            assert detail["status"] == "ended"
            assert len(detail["transcript"]["entries"]) == 3
            assert len(await rig.events(f"call-{number}")) == 3
    assert _names(rig.journals) == []  # not one line was put aside


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
    assert _names(rig.journals) == []  # not one line was put aside


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


WRITER = """
import sys, time
from pathlib import Path
from agent_worker.call.journal import Journal
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered, CallOpened, RecordingChanged, TranscriptSpoken

recording = Path(sys.argv[2])
recording.write_bytes(b"OggS half a recording")
journal = Journal(Path(sys.argv[1]), "call-1")
journal.write(CallOpened, organization_id="org_local", direction="inbound", room_name="room-1")
journal.write(RecordingChanged, status="pending", path=str(recording))
journal.write(CallAnswered)
journal.write(TranscriptSpoken, index=0, source="user", text="Hello?", started_at=utc_now())
print("written", flush=True)
time.sleep(600)
"""


@asynccontextmanager
async def _live_writer(rig: Rig, root: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    recording = rig.settings.data_dir / "recording.ogg"
    process = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", WRITER, str(rig.journals), str(recording)],
        cwd=root,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"written\n"
        yield process
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def test_the_call_of_a_killed_process_is_told_ended_and_reported(rig: Rig, root: Path) -> None:
    """After SIGKILL of the writer: the caller is told first, then recording, hangup, end and report are there."""
    told: list[tuple[str, bool]] = []

    async def on_orphan(opened: CallOpened) -> None:
        detail = await rig.call()
        told.append((opened.room_name, detail is not None and detail["ended_at"] is None))

    async with rig.shipping(on_orphan=on_orphan), _live_writer(rig, root) as process:
        await rig.seen(lambda call: bool(call["transcript"]["entries"]))
        await asyncio.sleep(1.5)  # long enough for a live call to be mistaken for a dead one
        assert told == []
        os.kill(process.pid, signal.SIGKILL)
        detail = await rig.ended()
    assert told == [("room-1", True)]
    assert detail["metadata"]["disconnection_reason"] == "worker_lost"
    assert (detail["status"], detail["failure_cause"]) == ("failed", "worker_lost")
    assert detail["recording_status"] == "ready"
    assert detail["report"]["outcome"] == "failed"
    hangup = (await rig.events())[-1]
    assert (hangup["event_type"], hangup["status"], hangup["failure_cause"]) == (
        "call.hangup",
        "failed",
        "worker_lost",
    )
    async with rig.control.reading() as connection:
        recording = await queries.call_recording(connection, "call-1")
    assert recording is not None
    assert recording["detail"] == "partial"


async def test_everything_killed_at_once_is_finished_by_the_next_start(rig: Rig, root: Path) -> None:
    """Writer dead, no shipper running: the next shipper ends the call, dated to its last sign of life."""
    async with _live_writer(rig, root) as process:
        os.kill(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
    last = json.loads(rig.path().read_bytes().splitlines()[-1])["at"]
    async with rig.shipping():
        detail = await rig.ended()
    assert detail["metadata"]["disconnection_reason"] == "worker_lost"
    assert datetime.fromisoformat(detail["ended_at"]) == datetime.fromisoformat(last)
    assert len(detail["transcript"]["entries"]) == 1


SHIPPER = """
import asyncio, sys
from pathlib import Path
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.settings import Settings

async def main(folder):
    settings = Settings(data_dir=Path(folder))
    control = EmbeddedControlPlane(settings)
    shipper = JournalShipper(settings.journal_dir, control, worker_id="w1", lease_seconds=5)
    shipper.start()
    await asyncio.sleep(600)

asyncio.run(main(sys.argv[1]))
"""


async def test_a_killed_shipper_is_replaced_without_loss_or_repetition(
    rig: Rig, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL in the middle of forty journals: after the next start the rows are those of one clean delivery."""
    stories = [whole_call(f"call-{n}", start=START + timedelta(hours=n)) for n in range(40)]
    for story in stories:
        rig.write(story.facts, story.call_id)
    process = await asyncio.to_thread(
        subprocess.Popen, [sys.executable, "-c", SHIPPER, str(rig.settings.data_dir)], cwd=root
    )
    try:
        await until(lambda: len(_names(rig.journals)) < 38)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    left = len(_names(rig.journals))
    async with rig.shipping():
        await until(lambda: _names(rig.journals) == [])
    async with control_on("sqlite", tmp_path_factory.mktemp("clean")) as clean:
        for story in stories:
            await clean.record(story.facts)
        assert await rows_of(rig.control) == await rows_of(clean)
    assert left > 0


@pytest.mark.parametrize("trouble", ["raises", "hangs"])
async def test_a_caller_who_cannot_be_told_does_not_keep_the_call_open(rig: Rig, trouble: str) -> None:
    """Whatever telling the caller comes to, the call is ended; other journals go on meanwhile."""
    began = asyncio.Event()

    async def on_orphan(_opened: CallOpened) -> None:
        began.set()
        if trouble == "raises":
            raise RuntimeError("no server")
        await asyncio.Event().wait()

    rig.write(whole_call().facts[:5])
    async with rig.shipping(on_orphan=on_orphan, orphan_seconds=1.0):
        await began.wait()
        rig.write(whole_call("call-2").facts, "call-2")
        assert (await rig.ended("call-2"))["status"] == "ended"
        assert (await rig.ended())["metadata"]["disconnection_reason"] == "worker_lost"


async def test_a_recording_that_was_never_written_is_failed(rig: Rig) -> None:
    """A recording announced by a process that died before its first byte does not stay `pending`."""
    story = CallStory()
    story.opened()
    story.add(RecordingChanged, status="pending", path=str(rig.settings.data_dir / "missing.ogg"))
    rig.write(story.facts)
    async with rig.shipping():
        assert (await rig.ended())["recording_status"] == "failed"


async def test_a_new_empty_journal_is_left_to_its_writer_and_an_old_one_deleted(rig: Rig) -> None:
    """A writer makes the file a moment before it locks it; a file nobody ever wrote to is litter."""
    rig.write([], "new")
    old = rig.write([], "old")
    os.utime(old, (time.time() - 60, time.time() - 60))
    async with rig.shipping():
        await until(lambda: not old.exists())
        await asyncio.sleep(0.7)
        assert rig.path("new").exists()
    assert await rig.call("old") is None


async def test_leases_are_renewed_for_living_writers_only(rig: Rig) -> None:
    """A call whose journal is held is vouched for; one that ended is not."""
    control = Unreliable(rig.control, lambda _facts: None)
    journal = Journal(rig.journals, "alive")
    journal.write(CallOpened, organization_id="org_local", direction="inbound", room_name="room")
    rig.write(whole_call("over").facts, "over")
    async with rig.shipping(control):
        await until(lambda: len(control.renewed) > 1)
        assert set(control.renewed) == {("alive",)}
        assert await rig.control.expired_leases(utc_now()) == []
        journal.write(CallEnded, disconnection_reason=DisconnectionReason.AGENT_HANGUP)
        journal.close()
        await rig.ended("alive")


async def test_closing_delivers_what_is_left(rig: Rig) -> None:
    """A worker that stops hands over every journal first, those of dead processes included."""
    shipper = JournalShipper(rig.journals, rig.control, worker_id="w1", lease_seconds=5)
    rig.write(whole_call("over").facts, "over")
    rig.write(whole_call("lost").facts[:4], "lost")
    await shipper.aclose()
    assert list(rig.journals.iterdir()) == []
    reasons = [(await rig.call(name) or {})["metadata"]["disconnection_reason"] for name in ("over", "lost")]
    assert reasons == ["user_hangup", "worker_lost"]


async def test_closing_ends_at_its_deadline_and_leaves_the_rest_on_disk(rig: Rig) -> None:
    """With the control plane down, a worker still stops; the next start finds the journals."""
    control = Unreliable(rig.control, lambda _facts: ControlPlaneError("down", "Down.", retryable=True))
    rig.write(whole_call().facts)
    shipper = JournalShipper(rig.journals, control, worker_id="w1", lease_seconds=5)
    shipper.start()
    await until(lambda: control.failures > 0)
    async with asyncio.timeout(10):
        await shipper.aclose(deadline_seconds=0.5)
    assert rig.path().exists()
    async with rig.shipping():
        assert (await rig.ended())["status"] == "ended"


async def test_no_folder_is_no_error(tmp_path: Path) -> None:
    """Before the first call there is no journal folder, and nothing to do."""
    control = EmbeddedControlPlane(Settings(data_dir=tmp_path))
    shipper = JournalShipper(tmp_path / "journal", control, worker_id="w1", lease_seconds=5)
    shipper.start()
    await asyncio.sleep(0.1)
    await shipper.aclose()
    assert _names(tmp_path) == []
