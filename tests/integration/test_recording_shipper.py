"""Recordings of a worker whose control plane is on another host: sent whole, from where it broke off, and only then
deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from agent_worker.control import wire
from agent_worker.control.recording_shipper import RecordingShipper
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import Fact
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store.tables import calls
from agent_worker.testing.serve_process import TOKEN, ServeProcess
from tests.databases import KINDS, fresh_database
from tests.integration.object_store import BUCKET, URL, object_store
from tests.integration.recorded import change, file_of, recorded_story, standing, stands, subscribe, told
from tests.integration.remote_worker import answering
from tests.integration.serving import DESK, Hop, Remote, remote_to, serve_settings, serving
from tests.made_recordings import LEFT, RIGHT, heard, write_recording


async def recorded_remotely(worker: Remote, seconds: float = 2.0, **last: Any) -> tuple[str, bytes]:
    """Have a call whose facts have been delivered, and whose recording is on the worker's disk."""
    story = recorded_story(worker.settings, **last)
    audio = write_recording(file_of(worker.settings, story.call_id), seconds)
    await deliver(worker, story.facts[:-1])
    await deliver(worker, story.facts[-1:])
    return story.call_id, audio


async def deliver(worker: Remote, facts: Sequence[Fact]) -> None:
    """Hand facts over as a journal's shipper does: again, until they are taken."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await worker.control.record(facts)
            except ControlPlaneError as error:
                assert error.retryable


@asynccontextmanager
async def shipping(worker: Remote) -> AsyncIterator[RecordingShipper]:
    shipper = RecordingShipper(
        worker.settings.recordings_dir, worker.settings.journal_dir, worker.control, poll_seconds=0.05
    )
    shipper.start()
    try:
        yield shipper
    finally:
        await shipper.aclose(deadline_seconds=1)


async def gone(path: Path, seconds: float = 120) -> None:
    async with asyncio.timeout(seconds):
        while await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)


def kept_at(settings: Settings, call_id: str) -> Path:
    return file_of(settings, call_id)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_recording_comes_to_where_serve_is(tmp_path: Path, kind: str) -> None:
    """`uploading` until all of it is there, then `ready`, told once; the worker deletes its own after that."""
    with fresh_database(kind, tmp_path) as database:
        settings = serve_settings(tmp_path, database_url=database)
        async with serving(settings) as url, remote_to(url, tmp_path) as worker:
            await subscribe(settings)
            call_id, audio = await recorded_remotely(worker)
            before = await standing(settings, call_id)
            async with shipping(worker):
                await gone(file_of(worker.settings, call_id))
            row = await standing(settings, call_id)
            payloads = await told(settings)
        found = kept_at(settings, call_id).read_bytes()
    assert (before["status"], before["path"], before["host"]) == ("uploading", None, None)
    assert (row["status"], row["location"], row["size_bytes"]) == ("ready", f"{call_id}.ogg", len(audio))
    assert found == audio
    assert heard(found) == [{LEFT}, {RIGHT}]
    assert [payload["recording_status"] for payload in payloads] == ["ready"]


async def test_a_call_that_goes_on_keeps_its_recording(tmp_path: Path) -> None:
    """While its journal is there, a recording is still being written, or not known of yet."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        call_id, _ = await recorded_remotely(worker)
        worker.settings.journal_dir.mkdir(parents=True)
        journal = worker.settings.journal_dir / f"{call_id}.jsonl"
        journal.touch()
        async with shipping(worker):
            await asyncio.sleep(0.5)
            assert file_of(worker.settings, call_id).exists()
            journal.unlink()
            await gone(file_of(worker.settings, call_id))


class Cut(Hop):
    """A hop that closes connections after so many bytes to `serve`, and counts what passes."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.left: int | None = None
        self.passed = 0
        self.cuts = 0

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False) -> None:
        if answers:
            return await super()._copy(source, sink, answers=True)
        while data := await source.read(16_384):
            if self.left is not None and len(data) > self.left:
                sink.write(data[: self.left])
                await sink.drain()
                self.passed += self.left
                self.left = None
                self.cuts += 1
                return None
            if self.left is not None:
                self.left -= len(data)
            self.passed += len(data)
            sink.write(data)
            await sink.drain()
        return None


async def test_a_connection_cut_in_the_middle_goes_on_from_there(tmp_path: Path) -> None:
    """What had arrived is not sent again, and the file that comes out is the one that went in."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url:
        async with Cut(int(url.rpartition(":")[2])) as hop, remote_to(hop.url, tmp_path) as worker:
            call_id, audio = await recorded_remotely(worker, seconds=180)
            path = file_of(worker.settings, call_id)
            assert len(audio) > 400_000
            hop.passed, hop.left = 0, 250_000
            with pytest.raises(ControlPlaneError) as error:
                await worker.control.send_recording(call_id, path)
            assert error.value.retryable
            held = await arrived(url, call_id, 100_000)
            assert 100_000 < held.held < len(audio)
            assert not held.settled
            hop.passed = 0
            await worker.control.send_recording(call_id, path)
            assert hop.cuts == 1
            assert hop.passed < len(audio) - held.held + 20_000
        assert (await standing(settings, call_id))["status"] == "ready"
    assert kept_at(settings, call_id).read_bytes() == audio
    assert list((settings.recordings_dir / "incoming").iterdir()) == []


async def arrived(url: str, call_id: str, least: int) -> wire.Held:
    """Wait until more than so many bytes are kept there: what was sent is on its way for a moment."""
    async with asyncio.timeout(120):
        while (held := await how_much(url, call_id)).held <= least:  # noqa: ASYNC110 - another host has no event
            await asyncio.sleep(0.05)
    return held


async def how_much(url: str, call_id: str) -> wire.Held:
    async with httpx.AsyncClient(trust_env=False, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        answer = await client.get(url + wire.RECORDING.format(call_id=call_id))
    return wire.Held.model_validate_json(answer.content)


async def test_a_serve_that_is_killed_in_the_middle_goes_on_after_a_restart(tmp_path: Path) -> None:
    """kill -9 of `serve`, then of nothing: what had arrived is there, and goes on to the object store."""
    async with object_store() as bucket:
        env = {**bucket.env, "AGENT_WORKER_RECORDINGS_URL": URL}
        async with ServeProcess(tmp_path / "serve", [DESK], env=env) as serve:
            settings = Settings(data_dir=serve.data_dir)
            async with Cut(serve.port) as hop, remote_to(hop.url, tmp_path) as worker:
                await subscribe(settings)
                call_id, audio = await recorded_remotely(worker, seconds=60)
                hop.left = 100_000
                with pytest.raises(ControlPlaneError):
                    await worker.control.send_recording(call_id, file_of(worker.settings, call_id))
                await arrived(serve.url, call_id, 50_000)
                await serve.kill()
                await serve.start()
                assert (await how_much(serve.url, call_id)).held > 50_000
                async with shipping(worker):
                    await gone(file_of(worker.settings, call_id))
            row = await stands(settings, call_id, "ready")
            payloads = await told(settings)
        assert bucket.objects[f"{BUCKET}/recordings/{call_id}.ogg"] == audio
    assert row["location"] == f"{URL}/{call_id}.ogg"
    assert [payload["recording_status"] for payload in payloads] == ["ready"]


async def test_a_proxy_that_takes_little_gets_little_pieces(tmp_path: Path) -> None:
    """One that answers 413 to all of it at once is given half a megabyte at a time."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, trust_env=False) as behind:
        largest = 0

        async def pass_on(request: web.Request) -> web.Response:
            nonlocal largest
            length = request.content_length or 0
            if length > 600_000:
                return web.Response(status=413, text="<html>too large</html>")
            largest = max(largest, length)
            headers = {
                name: request.headers[name] for name in ("authorization", "content-type") if name in request.headers
            }
            body = await request.read()
            answer = await behind.request(request.method, str(request.rel_url), content=body, headers=headers)
            return web.Response(status=answer.status_code, body=answer.content, content_type="application/json")

        async with answering(pass_on) as proxy, remote_to(proxy, tmp_path) as worker:
            call_id, audio = await recorded_remotely(worker)
            long = audio + b"\0" * 1_500_000
            file_of(worker.settings, call_id).write_bytes(long)
            await worker.control.send_recording(call_id, file_of(worker.settings, call_id))
    assert kept_at(settings, call_id).read_bytes() == long
    assert largest == 512 * 1024


async def test_what_nobody_may_have_is_deleted_and_what_nobody_knows_is_kept(tmp_path: Path) -> None:
    """Purged, or of a call without a recording: the worker's file goes. Of a call that is unknown: it stays."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        purged, _ = await recorded_remotely(worker)
        await change(settings, calls.update().where(calls.c.id == purged).values(purged_at=utc_now()))
        silent = recorded_story(worker.settings, start=utc_now(), status="suppressed", path=None)
        await deliver(worker, silent.facts)
        unwanted = [file_of(worker.settings, call_id) for call_id in (purged, silent.call_id)]
        write_recording(unwanted[1])
        unknown = file_of(worker.settings, "unknown")
        write_recording(unknown)
        (unknown.parent / "notes.txt").write_text("not a recording")
        async with shipping(worker):
            for path in unwanted:
                await gone(path)
            await asyncio.sleep(0.5)
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.send_recording("unknown", unknown)
    assert not error.value.retryable
    assert sorted(path.name for path in unknown.parent.iterdir()) == ["notes.txt", "unknown.ogg"]
    assert not settings.recordings_dir.exists() or not list(settings.recordings_dir.glob("*.ogg"))


async def test_a_file_that_changed_on_the_way_is_sent_anew(tmp_path: Path) -> None:
    """What arrived is not what was said to come: none of it is kept, and the next attempt begins at 0."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        call_id, audio = await recorded_remotely(worker)
        part = settings.recordings_dir / "incoming" / f"{call_id}.ogg.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"\0" * 1_000)  # as a disk that lost its power leaves it
        path = file_of(worker.settings, call_id)
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.send_recording(call_id, path)
        assert error.value.retryable
        await worker.control.send_recording(call_id, path)
    assert kept_at(settings, call_id).read_bytes() == audio


NO_DIGEST = "0" * 64


async def test_bad_pieces_are_refused_and_write_nothing(tmp_path: Path) -> None:
    """Unknown calls, walks out of the folder, sizes out of range, more than was said; and nobody without the token."""
    settings = serve_settings(tmp_path)
    async with (
        serving(settings) as url,
        remote_to(url, tmp_path) as worker,
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        await deliver(worker, recorded_story(worker.settings, "call-1").facts)
        for call_id, query, status, code in (
            ("unknown", f"offset=0&size=4&digest={NO_DIGEST}", 404, "CALL_UNKNOWN"),
            ("..%2fsecret", f"offset=0&size=4&digest={NO_DIGEST}", 404, "NOT_FOUND"),
            ("..", f"offset=0&size=4&digest={NO_DIGEST}", 404, "NOT_FOUND"),
            ("a%00b", f"offset=0&size=4&digest={NO_DIGEST}", 404, "CALL_UNKNOWN"),
            ("call-1", f"offset=-1&size=4&digest={NO_DIGEST}", 400, "VALIDATION_ERROR"),
            ("call-1", f"offset=0&size={2**40}&digest={NO_DIGEST}", 400, "VALIDATION_ERROR"),
            ("call-1", "offset=0&size=4&digest=xyz", 400, "VALIDATION_ERROR"),
            ("call-1", "", 400, "VALIDATION_ERROR"),
            ("call-1", f"offset=0&size=2&digest={NO_DIGEST}", 413, "TOO_LARGE"),
        ):
            path = f"{wire.RECORDING.format(call_id=call_id)}?{query}"
            nobody = await client.put(path, content=b"four")
            assert nobody.status_code in (401, 404)
            answer = await client.put(path, content=b"four", headers={"authorization": f"Bearer {TOKEN}"})
            assert (answer.status_code, answer.json()["code"]) == (status, code), call_id
        assert (await standing(settings, "call-1"))["status"] == "uploading"
    assert not list(settings.recordings_dir.glob("*.ogg"))
