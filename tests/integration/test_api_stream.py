"""A call watched as it happens: the real client follows it live, resumes, and is told of its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from spekoai import Speko

from agent_worker.api.backend import Streaming
from agent_worker.api.server import STOP_SECONDS
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered, EventOccurred
from agent_worker.settings import Settings
from tests.call_facts import CallStory, whole_call
from tests.databases import KINDS, fresh_database, held
from tests.integration.serving import make_key, remote_to, serve_settings, serving
from tests.watching import in_short, watching

PARTIAL = {"metadata": {"partial": True}, "latency_status": "partial"}


@contextlib.asynccontextmanager
async def beside(settings: Settings) -> AsyncIterator[EmbeddedControlPlane]:
    """Lend what a worker beside `serve` writes to the same database with."""
    control = EmbeddedControlPlane(settings)
    try:
        yield control
    finally:
        await control.aclose()


WHOLE = [
    "ended",
    "call.initiated",
    "call.answered",
    "Good morning.",
    "Hello, it's Maya.",
    "Hi Maya.",
    "call.hangup",
    "end",
]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_followed_as_it_happens(kind: str, tmp_path: Path) -> None:
    """Each turn once and when it is final, each event, each change of status, then the end; facts come from a worker beside."""
    with fresh_database(kind, tmp_path) as database:
        settings = serve_settings(tmp_path, database_url=database)
        key = await make_key(settings, scope="read")
        story = CallStory()
        async with serving(settings) as url, beside(settings) as worker:
            story.opened()
            await worker.record(story.facts)
            async with watching(url, key) as client:
                await client.until("connecting")
                await worker.record([story.add(EventOccurred, event_type="call.answered"), story.add(CallAnswered)])
                await client.until("call.answered", "active")
                await worker.record([story.said(0, "agent", "Good mor", **PARTIAL)])
                await worker.record([story.said(0, "agent", "Good morning.")])
                await client.until("Good morning.")
                await worker.record([story.said(0, "agent", "Good morning.", tts_ttfb_ms=80.0)])
                await worker.record([story.said(1, "user", "Hello.")])
                await client.until("Hello.")
                await worker.record([story.ended()])
                told = await client.all()
    assert told == ["connecting", "call.answered", "active", "Good morning.", "Hello.", "ended", "end"]
    [turn] = [happening.turn for happening in client.told if in_short(happening) == "Hello."]
    assert (turn.id, turn.index, turn.source) == ("call-1:1", 1, "user")
    [event] = [happening.event for happening in client.told if happening.type == "event"]
    assert event.session_id == "call-1"
    assert event.occurred_at == "2026-03-02T09:30:02.000000Z"
    assert event.created_at > "2026-03-02T09:30:02"


async def test_facts_that_come_over_http_are_told_too(tmp_path: Path) -> None:
    """The worker is on another host: what it sends to `serve` reaches who watches there."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    async with serving(settings) as url, remote_to(url, tmp_path) as remote:
        await remote.control.record(story.facts)
        async with watching(url, key) as client:
            await client.until("connecting")
            await remote.control.record([story.said(0, "agent", "Good morning.")])
            await client.until("Good morning.")
            await remote.control.finish_call(story.ended())
            assert await client.all() == ["connecting", "Good morning.", "ended", "end"]


async def test_a_call_that_is_over_is_told_whole_to_both_clients(tmp_path: Path) -> None:
    """A stream opened after the end replays everything in order and ends, sync and async."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    async with serving(settings) as url, beside(settings) as worker:
        await worker.record(whole_call().facts)
        async with watching(url, key) as client:
            assert await client.all() == WHOLE

        def follow() -> list[str]:
            with Speko(api_key=key, base_url=url) as speko:
                return [in_short(happening) for happening in speko.sessions.stream("call-1")]

        assert await asyncio.to_thread(follow) == WHOLE


async def test_a_stream_is_resumed_where_it_was_left(tmp_path: Path) -> None:
    """Only later turns, and events from 2 s before the cursor on; an event that came late is not missed."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = whole_call()
    async with serving(settings) as url, beside(settings) as worker:
        await worker.record(story.facts[:-1])
        last = utc_now()
        # it happened before all that is known, and comes to be known after it
        late = EventOccurred(id="call-1:90", call_id="call-1", at=story.start, event_type="tool.called")
        await worker.record([late])
        await worker.record(story.facts[-1:])
        cursor = f"1:{int(last.timestamp() * 1000) + 1000}"
        async with watching(url, key, cursor=cursor) as client:
            told = await client.all()
        async with watching(url, key, cursor=f"2:{int((last + timedelta(hours=1)).timestamp() * 1000)}") as client:
            nothing = await client.all()
    assert "tool.called" in told
    assert "Hi Maya." in told
    assert "Hello, it's Maya." not in told
    assert nothing == ["ended", "end"]


async def test_the_server_rotates_and_the_client_sees_nothing_twice(tmp_path: Path) -> None:
    """The stream is closed with `timeout` every half second; the client comes again and misses nothing."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    said = [f"Line {number}." for number in range(12)]
    async with serving(settings, streaming=Streaming(rotate_seconds=0.5)) as url, beside(settings) as worker:
        await worker.record(story.facts)
        async with watching(url, key) as client:
            for number, text in enumerate(said):
                event = story.add(EventOccurred, event_type=f"tool.{number}")
                await worker.record([event, story.said(number, "user", text)])
                await asyncio.sleep(0.15)
            await worker.record([story.ended()])
            told = await client.all()
    assert [word for word in told if word.startswith("Line")] == said
    assert [word for word in told if word.startswith("tool.")] == [f"tool.{number}" for number in range(12)]
    assert told.count("connecting") > 1


async def test_a_turn_waits_for_the_one_before_it(tmp_path: Path) -> None:
    """What is said while an earlier turn is still being spoken comes behind it, so that a cursor loses neither."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    async with serving(settings) as url, beside(settings) as worker:
        await worker.record([*story.facts, story.said(0, "user", "I would", **PARTIAL)])
        async with watching(url, key) as client:
            await client.until("connecting")
            await worker.record([story.said(1, "agent", "Are you still there?")])
            await asyncio.sleep(0.3)
            await worker.record([story.said(0, "user", "I would like a room.")])
            await client.until("I would like a room.", "Are you still there?")
            # a turn nobody finishes delays the others for a while only, and is told as it stands at the end
            await worker.record([story.said(2, "user", "Well", **PARTIAL), story.said(3, "agent", "Goodbye.")])
            await client.until("Goodbye.")
            await worker.record([story.ended()])
            told = await client.all()
    assert told[-3:] == ["Well", "ended", "end"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_survives_a_database_that_goes_away(kind: str, tmp_path: Path) -> None:
    """While the database takes nothing, and PostgreSQL says nothing either, streams stay open; then they go on."""
    with fresh_database(kind, tmp_path) as database:
        settings = serve_settings(tmp_path, database_url=database)
        key = await make_key(settings, scope="read")
        story = CallStory()
        story.opened()
        async with serving(settings) as url, beside(settings) as worker:
            await worker.record(story.facts)
            async with watching(url, key) as client:
                await client.until("connecting")
                async with held(database):
                    await asyncio.sleep(6)
                await worker.record([story.said(0, "agent", "Good morning."), story.ended()])
                assert await client.all() == ["connecting", "Good morning.", "ended", "end"]


async def test_frames_are_what_the_contract_says(tmp_path: Path) -> None:
    """LF LF between frames, ASCII inside, nothing cached, the contract's keys."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    async with serving(settings) as url, beside(settings) as worker, httpx.AsyncClient(base_url=url) as client:
        await worker.record([*story.facts, story.said(0, "user", "Zoë\u2028said\x85so 🙂"), story.ended()])
        answer = await client.get("/v1/sessions/call-1/stream", headers={"authorization": f"Bearer {key}"})
        async with watching(url, key) as speko:
            await speko.all()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert "\r" not in answer.text
    assert answer.text.isascii()
    blocks = [block for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    assert [block.split("\n")[0] for block in blocks] == ["event: status", "event: transcript", "event: end"]
    assert blocks[-1] == 'event: end\ndata: {"reason": "session_ended"}'
    assert in_short(speko.told[1]) == "Zoë\u2028said\x85so 🙂"


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1:", ":5", "-2:0", "1:-5", "1.5:0", "1:2:3", "9" * 50 + ":0", "1:" + "9" * 40]
)
async def test_a_cursor_that_is_none_is_refused(tmp_path: Path, cursor: str) -> None:
    """400 in the error shape, and no stream."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    async with serving(settings) as url, beside(settings) as worker, httpx.AsyncClient(base_url=url) as client:
        await worker.record(whole_call().facts)
        headers = {"authorization": f"Bearer {key}"}
        answer = await client.get("/v1/sessions/call-1/stream", params={"cursor": cursor}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")


async def test_a_call_nobody_knows_is_not_found(tmp_path: Path) -> None:
    """404 for an unknown call and for one of an agent the key does not see."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read", agent_ids=["somebody-else"])
    async with serving(settings) as url, beside(settings) as worker, httpx.AsyncClient(base_url=url) as client:
        await worker.record(whole_call().facts)
        for call_id in ("call-1", "nobody"):
            path = f"/v1/sessions/{call_id}/stream"
            answer = await client.get(path, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_streams_are_bounded_and_places_are_given_back(tmp_path: Path) -> None:
    """A third stream of a key is refused with `Retry-After`; once a client is gone its place is free."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    limits = Streaming(per_key=2, heartbeat_seconds=0.2)
    headers = {"authorization": f"Bearer {key}"}
    path = "/v1/sessions/call-1/stream"
    async with (
        serving(settings, streaming=limits) as url,
        beside(settings) as worker,
        httpx.AsyncClient(base_url=url) as client,
    ):
        await worker.record(story.facts)
        async with client.stream("GET", path, headers=headers) as first:
            async with client.stream("GET", path, headers=headers) as second:
                assert (first.status_code, second.status_code) == (200, 200)
                refused = await client.get(path, headers=headers)
                assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
                assert refused.headers["retry-after"] == "5"
            async with asyncio.timeout(10):
                while True:
                    async with client.stream("GET", path, headers=headers) as third:
                        if third.status_code == 200:
                            break
                    await asyncio.sleep(0.05)


async def test_a_server_that_stops_asks_its_watchers_to_come_again(tmp_path: Path) -> None:
    """Stopping does not wait for live streams to end by themselves, and the stream says `timeout`."""
    settings = serve_settings(tmp_path)
    key = await make_key(settings, scope="read")
    story = CallStory()
    story.opened()
    told = ""

    async def follow(url: str, watched: asyncio.Event) -> None:
        nonlocal told
        headers = {"authorization": f"Bearer {key}"}
        path = f"{url}/v1/sessions/call-1/stream"
        async with httpx.AsyncClient() as client, client.stream("GET", path, headers=headers) as answer:
            async for text in answer.aiter_text():
                told += text
                watched.set()

    watched = asyncio.Event()
    async with serving(settings) as url, beside(settings) as worker:
        await worker.record(story.facts)
        following = asyncio.create_task(follow(url, watched))
        await watched.wait()
        stopped_at = time.monotonic()
    await following
    assert time.monotonic() - stopped_at < STOP_SECONDS
    assert told.endswith('event: end\ndata: {"reason": "timeout"}\n\n')
