"""Recordings in an S3 store: signed requests, uploads in parts, links of the store's own, and what fails there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from agent_worker.errors import RecordingStoreError
from agent_worker.recordings.bucket import PART_BYTES
from agent_worker.recordings.place import pieces
from agent_worker.recordings.store import RecordingStore
from agent_worker.settings import Settings
from tests.integration.api_client import served
from tests.integration.object_store import BUCKET, SECRET, URL, ObjectStore, object_store
from tests.integration.recorded import file_of, record_call, rows_in, stands, subscribe, told
from tests.made_recordings import LEFT, RIGHT, heard, write_recording


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObjectStore]:
    async with object_store() as store:
        for name, value in store.env.items():
            monkeypatch.setenv(name, value)
        yield store


def store_on(folder: Path) -> RecordingStore:
    return RecordingStore(Settings(data_dir=folder, recordings_url=URL))


async def whole(store: RecordingStore, location: str, channels: str = "dual") -> bytes:
    async with store.open(location) as recording:
        return b"".join([piece async for piece in pieces(recording, 0, recording.size, channels)])  # type: ignore[arg-type]


async def test_both_forms_are_kept_and_erased_together(bucket: ObjectStore, tmp_path: Path) -> None:
    """Two objects, each fetched by a link the store checks; deleting twice is no error."""
    audio = write_recording(tmp_path / "call-1.ogg")
    store = store_on(tmp_path)
    location = await store.put(tmp_path / "call-1.ogg", "call-1")
    assert location == f"{URL}/call-1.ogg"
    assert sorted(bucket.objects) == [f"{BUCKET}/recordings/call-1.mono.ogg", f"{BUCKET}/recordings/call-1.ogg"]
    links = [await store.url(location, channels, 300) for channels in ("mono", "dual")]
    async with httpx.AsyncClient(trust_env=False) as client:
        mono, dual = [await client.get(link or "") for link in links]
        forged = await client.get((links[0] or "").replace("X-Amz-Expires=300", "X-Amz-Expires=604800"))
    assert dual.content == audio == await whole(store, location)
    assert mono.content == await whole(store, location, "mono")
    assert heard(mono.content) == [{LEFT, RIGHT}]
    assert forged.status_code == 403
    for _ in range(2):
        await store.delete(location)
    assert bucket.objects == {}
    with pytest.raises(RecordingStoreError, match="no such recording"):
        await whole(store, location)


async def test_a_long_recording_goes_in_parts(bucket: ObjectStore, tmp_path: Path) -> None:
    """Larger than one part: it is put together from parts, and is nowhere before the last."""
    audio = write_recording(tmp_path / "call-1.ogg")
    long = audio + b"\0" * (PART_BYTES * 2 + 12_345 - len(audio))
    (tmp_path / "call-1.ogg").write_bytes(long)
    store = store_on(tmp_path)
    bucket.open.clear()
    putting = asyncio.create_task(store.put(tmp_path / "call-1.ogg", "call-1"))
    await bucket.asked_to_write()
    assert bucket.objects == {}
    bucket.open.set()
    location = await putting
    assert bucket.objects[f"{BUCKET}/recordings/call-1.ogg"] == long
    assert len(bucket.objects[f"{BUCKET}/recordings/call-1.mono.ogg"]) == len(long)
    assert await whole(store, location, "mono") == bucket.objects[f"{BUCKET}/recordings/call-1.mono.ogg"]
    assert bucket.parts == {}


async def test_what_the_store_refuses_is_told_without_secrets(
    bucket: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong key, and a store that is away: an error to try again, whose text has neither key nor signature."""
    write_recording(tmp_path / "call-1.ogg", 0.5)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(RecordingStoreError) as refused:
        await store_on(tmp_path).put(tmp_path / "call-1.ogg", "call-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RecordingStoreError) as away:
        await store_on(tmp_path).put(tmp_path / "call-1.ogg", "call-1")
    for error in (refused.value, away.value):
        assert error.retryable
        assert "another" not in str(error)
        assert "Signature=" not in str(error)
        assert error.__cause__ is None
    assert bucket.objects == {}


async def test_a_call_is_uploaded_and_its_link_leads_to_the_store(bucket: ObjectStore, tmp_path: Path) -> None:
    """`uploading`, then `ready`: the file is gone from the disk, the webhook and the API have the store's own links."""
    async with served(tmp_path, recordings_url=URL) as api:
        await subscribe(api.settings)
        bucket.open.clear()
        call_id, audio = await record_call(api.settings)
        await bucket.asked_to_write()
        early = await api.http.get(f"/v1/calls/{call_id}/recording")
        before = await stands(api.settings, call_id, "uploading")
        reports = [await api.http.get(f"/v1/calls/{call_id}/report")]
        bucket.open.set()
        row = await stands(api.settings, call_id, "ready")
        for _ in range(100):
            if not file_of(api.settings, call_id).exists():
                break
            await asyncio.sleep(0.05)
        found = await api.sync(lambda speko: speko.calls.recording(call_id))
        reports.append(await api.http.get(f"/v1/calls/{call_id}/report"))
        [payload] = await told(api.settings)
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = [await client.get(url) for url in (found.url, payload["recording_url"])]
            seeking = await client.get(found.url, headers={"range": "bytes=100-199"})
    assert (early.status_code, early.json()["code"]) == (404, "RECORDING_NOT_AVAILABLE")
    assert before["location"] is None
    assert [report.json()["artifacts"]["recording"]["status"] for report in reports] == ["uploading", "ready"]
    assert (row["location"], row["size_bytes"], row["path"], row["host"]) == (
        f"{URL}/{call_id}.ogg",
        len(audio),
        None,
        None,
    )
    assert not file_of(api.settings, call_id).exists()
    assert [heard(answer.content) for answer in answers] == [[{LEFT, RIGHT}]] * 2
    assert (seeking.status_code, seeking.content) == (206, answers[0].content[100:200])
    assert parse_qs(urlsplit(found.url).query)["X-Amz-Expires"] == ["300"]
    assert parse_qs(urlsplit(payload["recording_url"]).query)["X-Amz-Expires"] == ["604800"]
    assert SECRET not in found.url
    assert bucket.unsigned == 0


async def test_a_store_that_is_away_is_tried_again(bucket: ObjectStore, tmp_path: Path) -> None:
    """It answers 503 and comes back: the recording is ready then, and was told once."""
    async with served(tmp_path, recordings_url=URL) as api:
        await subscribe(api.settings)
        bucket.broken = True
        call_id, _ = await record_call(api.settings)
        async with asyncio.timeout(60):
            while not any(job["error"] for job in await rows_in(api.settings, "jobs")):  # noqa: ASYNC110 - a row
                await asyncio.sleep(0.1)
        bucket.broken = False
        await stands(api.settings, call_id, "ready", 60)
        assert [payload["recording_status"] for payload in await told(api.settings)] == ["ready"]
    assert sorted(bucket.puts) == [f"{BUCKET}/recordings/{call_id}{form}.ogg" for form in ("", ".mono")][::-1]
