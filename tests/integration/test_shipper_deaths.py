"""Shipping journals of the dead: their calls are told, ended and reported, whoever was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent_worker.call.journal import Journal
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.call import DisconnectionReason, utc_now
from agent_worker.domain.fact import (
    CallEnded,
    CallOpened,
    RecordingChanged,
)
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import queries
from tests.call_facts import START, CallStory, whole_call
from tests.integration.shipping import Rig, Unreliable, names, until
from tests.integration.test_store import control_on, of_the_calls, rows_of

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
    recording = rig.settings.recordings_dir.resolve() / "call-1.ogg"
    recording.parent.mkdir()
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

async def main(folder, database_url):
    settings = Settings(data_dir=Path(folder), database_url=database_url)
    control = EmbeddedControlPlane(settings)
    shipper = JournalShipper(settings.journal_dir, control, worker_id="w1", lease_seconds=5)
    shipper.start()
    await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_shipper_is_replaced_without_loss_or_repetition(
    rig: Rig, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """SIGKILL in the middle of forty journals: after the next start the rows are those of one clean delivery."""
    stories = [whole_call(f"call-{n}", start=START + timedelta(hours=n)) for n in range(40)]
    for story in stories:
        rig.write(story.facts, story.call_id)
    command = [sys.executable, "-c", SHIPPER, str(rig.settings.data_dir), rig.settings.database]
    process = await asyncio.to_thread(subprocess.Popen, command, cwd=root)
    try:
        await until(lambda: len(names(rig.journals)) < 38)
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)
    left = len(names(rig.journals))
    async with rig.shipping():
        await until(lambda: names(rig.journals) == [])
    async with control_on("sqlite", tmp_path_factory.mktemp("clean")) as clean:
        for story in stories:
            await clean.record(story.facts)
        assert of_the_calls(await rows_of(rig.control)) == of_the_calls(await rows_of(clean))
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
    assert names(tmp_path) == []
