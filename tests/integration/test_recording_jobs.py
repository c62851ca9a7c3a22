"""What becomes of a recording when things go wrong: kill -9, a purge in the middle, a host that never comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.job_runner import GiveUp
from agent_worker.control.recording_jobs import MOST_ATTEMPTS, RecordingJobs
from agent_worker.control.recording_shipper import recording_shipper
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import RecordingChanged
from agent_worker.errors import RecordingStoreError
from agent_worker.settings import Settings
from agent_worker.store import jobs
from agent_worker.store.tables import calls
from agent_worker.testing.serve_process import ServeProcess
from tests.databases import KINDS, fresh_database
from tests.integration.object_store import BUCKET, URL, ObjectStore, object_store
from tests.integration.recorded import (
    change,
    file_of,
    record_call,
    recorded_story,
    rows_in,
    standing,
    stands,
    subscribe,
    tell,
    told,
)
from tests.integration.serving import DESK
from tests.made_recordings import write_recording


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    async with object_store() as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url, recordings_url=URL)


@asynccontextmanager
async def control_of(settings: Settings) -> AsyncIterator[EmbeddedControlPlane]:
    control = EmbeddedControlPlane(settings)
    try:
        yield control
    finally:
        await control.aclose()


@asynccontextmanager
async def working(settings: Settings) -> AsyncIterator[None]:
    """Do what a worker's parent process does about recordings."""
    async with control_of(settings) as control:
        shipper = recording_shipper(control, settings)
        shipper.start()
        try:
            yield
        finally:
            await shipper.aclose()


async def do_once(settings: Settings, kind: str, attempts: int | None = None) -> None:
    """Do the one job of this kind, in the name of its host."""
    async with control_of(settings) as control:
        now = utc_now()
        async with control.writing() as connection:
            [claimed] = await jobs.claim(
                connection,
                [kind],
                by="test",
                host=control.recordings.disk,
                now=now + timedelta(days=30),
                until=now + timedelta(days=31),
                limit=1,
            )
        job = claimed if attempts is None else jobs.Job(**{**vars(claimed), "attempts": attempts})
        work = RecordingJobs(control).handlers()[kind](job)
        try:
            await work
        finally:
            async with control.writing() as connection:
                await jobs.finish(connection, claimed, by="test")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - a process or a row, neither of which has events
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_serve_that_is_killed_in_the_middle_of_an_upload_loses_nothing(tmp_path: Path, kind: str) -> None:
    """kill -9 while the store has not answered: no half object, then ready once, told once, after a restart."""
    with fresh_database(kind, tmp_path) as database:
        async with object_store() as bucket:
            env = {**bucket.env, "AGENT_WORKER_RECORDINGS_URL": URL, "AGENT_WORKER_DATABASE_URL": database}
            async with ServeProcess(tmp_path, [DESK], env=env) as serve:
                settings = Settings(data_dir=serve.data_dir, database_url=database, recordings_url=URL)
                await subscribe(settings)
                bucket.open.clear()
                call_id, audio = await record_call(settings)
                await bucket.asked_to_write()
                await serve.kill()
                assert bucket.objects == {}
                assert (await standing(settings, call_id))["status"] == "uploading"
                bucket.open.set()
                await serve.start()
                row = await stands(settings, call_id, "ready", 60)
                await until(lambda: _is_gone(file_of(settings, call_id)))
                payloads = await told(settings)
            assert bucket.objects[f"{BUCKET}/recordings/{call_id}.ogg"] == audio
    assert row["location"] == f"{URL}/{call_id}.ogg"
    assert [payload["recording_status"] for payload in payloads] == ["ready"]


async def _is_gone(path: Path) -> bool:
    return not await asyncio.to_thread(path.exists)


async def test_a_worker_alone_uploads_and_finishes_before_it_stops(settings: Settings, bucket: ObjectStore) -> None:
    """`start` without `serve`: the worker's parent does it, and one that is told to stop does what is left first."""
    call_id, audio = await record_call(settings)
    async with working(settings):
        pass
    row = await standing(settings, call_id)
    assert (row["status"], row["size_bytes"]) == ("ready", len(audio))
    assert not file_of(settings, call_id).exists()


async def test_another_host_leaves_it_alone(settings: Settings, bucket: ObjectStore, tmp_path: Path) -> None:
    """A file on a disk is its host's to bring, whoever shares the database."""
    call_id, _ = await record_call(settings)
    async with working(settings.model_copy(update={"data_dir": tmp_path / "other"})):
        await asyncio.sleep(1.5)
    assert (await standing(settings, call_id))["status"] == "uploading"
    assert bucket.asked == 0


async def test_done_twice_it_is_told_once(settings: Settings, bucket: ObjectStore) -> None:
    """A process that was killed between the row and the tidying up: the next deletes the file and says nothing."""
    await subscribe(settings)
    call_id, audio = await record_call(settings)
    await do_once(settings, "upload_recording")
    write_recording(file_of(settings, call_id))
    async with control_of(settings) as control, control.writing() as connection:
        path = str(file_of(settings, call_id))
        await jobs.enqueue(
            connection,
            "upload_recording",
            call_id,
            now=utc_now(),
            call_id=call_id,
            host=control.recordings.disk,
            payload={"path": path},
        )
    await do_once(settings, "upload_recording")
    assert not file_of(settings, call_id).exists()
    assert [payload["recording_status"] for payload in await told(settings)] == ["ready"]
    assert len(bucket.puts) == 2
    assert bucket.objects[f"{BUCKET}/recordings/{call_id}.ogg"] == audio


async def test_after_the_last_attempt_it_has_failed_and_is_told(settings: Settings, bucket: ObjectStore) -> None:
    """Three days without the store: `failed`, no link; the file stays for its owner."""
    await subscribe(settings)
    bucket.broken = True
    call_id, _ = await record_call(settings)
    with pytest.raises(RecordingStoreError):
        await do_once(settings, "upload_recording", attempts=MOST_ATTEMPTS - 1)
    assert (await standing(settings, call_id))["status"] == "uploading"
    async with control_of(settings) as control, control.writing() as connection:
        await jobs.enqueue(
            connection,
            "upload_recording",
            call_id,
            now=utc_now(),
            call_id=call_id,
            host=control.recordings.disk,
            payload={"path": str(file_of(settings, call_id))},
        )
    with pytest.raises(GiveUp):
        await do_once(settings, "upload_recording", attempts=MOST_ATTEMPTS)
    assert (await standing(settings, call_id))["status"] == "failed"
    assert [(p["recording_status"], p["recording_url"]) for p in await told(settings)] == [("failed", None)]
    assert file_of(settings, call_id).exists()


async def test_a_file_that_vanished_has_failed(settings: Settings, bucket: ObjectStore) -> None:
    """Deleted by hand before it was brought: nothing to wait for."""
    await subscribe(settings)
    call_id, _ = await record_call(settings)
    file_of(settings, call_id).unlink()
    await do_once(settings, "upload_recording")
    assert (await standing(settings, call_id))["status"] == "failed"
    assert [payload["recording_url"] for payload in await told(settings)] == [None]


async def test_a_call_purged_in_the_middle_of_its_upload_leaves_nothing(
    settings: Settings, bucket: ObjectStore
) -> None:
    """What was on its way is deleted where it arrived and where it came from, and nobody is told."""
    await subscribe(settings)
    bucket.open.clear()
    call_id, _ = await record_call(settings)
    bringing = asyncio.create_task(do_once(settings, "upload_recording"))
    await bucket.asked_to_write()
    await change(settings, calls.update().where(calls.c.id == call_id).values(purged_at=utc_now()))
    bucket.open.set()
    await bringing
    assert bucket.objects == {}
    assert not file_of(settings, call_id).exists()
    assert await told(settings) == []


async def test_erasing_deletes_every_form_and_may_be_done_again(settings: Settings, bucket: ObjectStore) -> None:
    """In the store and on the disk; nothing but a recording is ever deleted, whatever the job says."""
    call_id, _ = await record_call(settings)
    await do_once(settings, "upload_recording")
    location = (await standing(settings, call_id))["location"]
    left = write_recording(file_of(settings, "left"))
    secret = settings.data_dir / "webhook-secret"
    secret.write_text("whsec_x")
    assert left
    assert len(bucket.objects) == 2

    async def erase(path: Path | None, location: str | None) -> None:
        async with control_of(settings) as control, control.writing() as connection:
            payload: dict[str, Any] = {"path": path and str(path), "location": location}
            await jobs.enqueue(connection, "erase_recording", call_id, now=utc_now(), payload=payload, again=True)
        await do_once(settings, "erase_recording")

    for _ in range(2):
        await erase(file_of(settings, "left"), location)
    assert bucket.objects == {}
    assert not file_of(settings, "left").exists()
    for other in (secret, file_of(settings, "left").parent / ".." / "webhook-secret", Path("/etc/hostname")):
        with pytest.raises(GiveUp):
            await erase(other, None)
    assert secret.exists()
    await erase(None, None)


async def test_a_recording_whose_host_never_comes_back_has_failed(settings: Settings, bucket: ObjectStore) -> None:
    """The call was closed by the sweeper while it was recorded: no status stays `pending` for ever."""
    await subscribe(settings)
    story = recorded_story(settings)
    story.facts = story.facts[:4]
    assert isinstance(story.facts[-1], RecordingChanged)
    story.ended()
    await tell(settings, story)
    row = await standing(settings, story.call_id)
    assert row["status"] == "pending"
    [job] = [job for job in await rows_in(settings, "jobs") if job["kind"] == "expire_recording"]
    assert job["due_at"] - utc_now() > timedelta(hours=71)
    await do_once(settings, "expire_recording")
    assert (await standing(settings, story.call_id))["status"] == "failed"
    assert [payload["recording_url"] for payload in await told(settings)] == [None]


async def test_a_host_that_comes_back_late_brings_it_and_is_not_told_of_twice(
    settings: Settings, bucket: ObjectStore
) -> None:
    """After `failed` was told the recording still becomes available; the webhook has said its one word."""
    await subscribe(settings)
    call_id, _ = await record_call(settings)
    await do_once(settings, "expire_recording")
    assert (await standing(settings, call_id))["status"] == "failed"
    await do_once(settings, "upload_recording")
    assert (await standing(settings, call_id))["status"] == "ready"
    assert [payload["recording_status"] for payload in await told(settings)] == ["failed"]
