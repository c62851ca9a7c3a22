"""A recording over the API: a link for some minutes, bytes a player can seek in, and nothing for anybody else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from spekoai import SpekoApiError

from agent_worker.app import create_app
from agent_worker.domain.call import utc_now
from agent_worker.errors import SettingsError
from agent_worker.recordings.links import Link, LinkSigner
from agent_worker.store.tables import calls
from agent_worker.webhooks.signing import webhook_secret
from tests.databases import KINDS
from tests.integration.api_client import Served, served
from tests.integration.recorded import (
    change,
    file_of,
    record_call,
    recorded_story,
    standing,
    subscribe,
    tell,
    told,
)
from tests.integration.serving import serve_settings
from tests.made_recordings import LEFT, RIGHT, heard, write_recording


@asynccontextmanager
async def a_player() -> AsyncIterator[httpx.AsyncClient]:
    """Lend a client without a key."""
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/json"
    assert "Traceback" not in answer.text
    return answer.status_code, answer.json()["code"]


async def link_to(api: Served, call_id: str, channels: str = "mono") -> str:
    answer = await api.http.get(f"/v1/calls/{call_id}/recording", params={"channels": channels})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


@pytest.mark.parametrize("kind", KINDS)
async def test_the_official_client_gets_a_link_that_plays(tmp_path: Path, kind: str) -> None:
    """Sync and async; the mix by default, both sides apart where asked for, and a redirect for a session."""
    async with served(tmp_path, kind) as api, a_player() as player:
        call_id, audio = await record_call(api.settings)
        first = await api.sync(lambda speko: speko.calls.recording(call_id))
        second = await api.later(lambda speko: speko.calls.recording(call_id))
        mixed = [await player.get(found.url) for found in (first, second)]
        apart = await player.get(await link_to(api, call_id, "dual"))
        led = await api.http.get(f"/v1/sessions/{call_id}/recording")
        followed = await player.get(led.headers["location"])
        detail = await standing(api.settings, call_id)
    assert [answer.status_code for answer in (*mixed, apart, led, followed)] == [200, 200, 200, 302, 200]
    assert heard(mixed[0].content) == [{LEFT, RIGHT}]
    assert mixed[0].content == mixed[1].content == followed.content
    assert apart.content == audio
    assert heard(apart.content) == [{LEFT}, {RIGHT}]
    assert mixed[0].headers["content-type"] == "audio/ogg"
    assert mixed[0].headers["content-disposition"] == f'inline; filename="{call_id}.ogg"'
    assert (detail["status"], detail["size_bytes"], detail["duration_ms"]) == ("ready", len(audio), 2_000)


@pytest.mark.parametrize("kind", KINDS)
async def test_there_is_none_before_it_is_ready_nor_after_it_was_purged(tmp_path: Path, kind: str) -> None:
    """404 `RECORDING_NOT_AVAILABLE` while the call goes on, where it failed or was not made, and once it is purged."""
    async with served(tmp_path, kind) as api, a_player() as player:
        live = recorded_story(api.settings)
        await tell(api.settings, type(live)(live.call_id))  # nothing yet: an unknown call
        unknown = await api.http.get(f"/v1/calls/{live.call_id}/recording")
        live.facts = live.facts[:4]
        await tell(api.settings, live)
        silent = recorded_story(api.settings, start=utc_now(), status="suppressed", path=None)
        await tell(api.settings, silent)
        ready, _ = await record_call(api.settings, "call-ready")
        url = await link_to(api, ready)
        await change(api.settings, calls.update().where(calls.c.id == ready).values(purged_at=utc_now()))
        answers = [
            await api.http.get(f"/v1/{kind_of}/{call_id}/recording")
            for kind_of in ("calls", "sessions")
            for call_id in (live.call_id, silent.call_id, ready)
        ]
        gone = await player.get(url)
        unknown_session = await api.http.get("/v1/sessions/nobody/recording")
        with pytest.raises(SpekoApiError) as error:
            await api.sync(lambda speko: speko.calls.recording(ready))
    assert problem(unknown) == (404, "NOT_FOUND")
    assert {problem(answer) for answer in [*answers, gone, unknown_session]} == {(404, "RECORDING_NOT_AVAILABLE")}
    assert error.value.code == "RECORDING_NOT_AVAILABLE"


async def test_a_player_can_seek(tmp_path: Path) -> None:
    """As a browser does: all of it from 0, then from where the finger is; each piece is that piece of the whole."""
    async with served(tmp_path) as api, a_player() as player:
        call_id, audio = await record_call(api.settings, seconds=20)
        for channels in ("mono", "dual"):
            url = await link_to(api, call_id, channels)
            whole = await player.get(url)
            opening = await player.get(url, headers={"range": "bytes=0-"})
            middle = await player.get(
                url, headers={"range": f"bytes={len(audio) // 2}-", "if-range": whole.headers["etag"]}
            )
            end = await player.get(url, headers={"range": "bytes=-100"})
            head = await player.head(url, headers={"range": "bytes=10-19"})
            assert [a.status_code for a in (whole, opening, middle, end, head)] == [200, 206, 206, 206, 206]
            assert len(whole.content) == len(audio)
            assert whole.headers["accept-ranges"] == "bytes"
            assert opening.content == whole.content
            assert opening.headers["content-range"] == f"bytes 0-{len(audio) - 1}/{len(audio)}"
            assert middle.content == whole.content[len(audio) // 2 :]
            assert end.content == whole.content[-100:]
            assert (head.content, head.headers["content-length"]) == (b"", "10")
            several = await player.get(url, headers={"range": "bytes=0-1,5-6"})
            changed = await player.get(url, headers={"range": "bytes=5-", "if-range": '"another"'})
            assert [(a.status_code, a.content == whole.content) for a in (several, changed)] == [(200, True)] * 2
            behind = await player.get(url, headers={"range": f"bytes={len(audio)}-"})
            assert problem(behind) == (416, "RANGE_NOT_SATISFIABLE")
            assert behind.headers["content-range"] == f"bytes */{len(audio)}"
            same = await player.get(url, headers={"if-none-match": whole.headers["etag"]})
            assert (same.status_code, same.content) == (304, b"")


async def test_a_link_is_good_for_one_recording_until_it_expires(tmp_path: Path) -> None:
    """One that expired, was made by somebody else, or stands for a path, opens nothing."""
    async with served(tmp_path, recording_link_seconds=77) as api, a_player() as player:
        call_id, _ = await record_call(api.settings)
        answer = (await api.http.get(f"/v1/calls/{call_id}/recording")).json()
        token = answer["url"].rpartition("/")[2]
        signer = LinkSigner(webhook_secret(api.settings))
        link = signer.read(token)
        assert link is not None
        assert 60 <= link.expires - time.time() <= 77

        async def opened(other: str) -> tuple[int, str]:
            return problem(await player.get(f"{api.url}/recordings/{other}"))

        assert await opened(signer.token(Link(call_id, "mono", int(time.time())))) == (403, "LINK_EXPIRED")
        forged = LinkSigner("another secret").token(Link(call_id, "mono", link.expires))
        for other in (forged, token[:-2], token + "x", "x", "%00", "a" * 900):
            assert await opened(other) == (403, "LINK_INVALID")
        assert problem(await player.get(f"{api.url}/recordings/{'a' * 5_000}")) == (400, "VALIDATION_ERROR")
        for walked in ("../webhook-secret", "..", "call-2", "/etc/passwd"):
            assert await opened(signer.token(Link(walked, "mono", link.expires))) == (404, "RECORDING_NOT_AVAILABLE")
        for path in (
            "/recordings/..%2f..%2fwebhook-secret",
            "/recordings/%2e%2e/x",
            "/recordings/",
            f"/recordings/{token}/..",
        ):
            assert (await player.get(f"{api.url}{path}")).status_code in (403, 404)
        assert (await player.get(answer["url"])).status_code == 200
        assert (await player.post(answer["url"])).status_code == 405


async def test_a_file_that_is_gone_or_replaced_by_a_link_is_not_available(tmp_path: Path) -> None:
    """What was deleted by hand answers 404, and a symbolic link in its place is not followed."""
    async with served(tmp_path) as api, a_player() as player:
        call_id, _ = await record_call(api.settings)
        url = await link_to(api, call_id)
        file = file_of(api.settings, call_id)
        file.unlink()
        assert problem(await player.get(url)) == (404, "RECORDING_NOT_AVAILABLE")
        file.symlink_to(api.settings.data_dir / "webhook-secret")
        assert problem(await player.get(url)) == (404, "RECORDING_NOT_AVAILABLE")


async def test_a_key_of_another_agent_finds_no_recording(tmp_path: Path) -> None:
    """What belongs to agents a key may not see is not there; no key, no link."""
    async with served(tmp_path) as api, await api.with_key(scope="read", agent_ids=["another"]) as other:
        call_id, _ = await record_call(api.settings)
        assert problem(await other.get(f"/v1/calls/{call_id}/recording")) == (404, "NOT_FOUND")
        assert problem(await other.get(f"/v1/sessions/{call_id}/recording")) == (404, "RECORDING_NOT_AVAILABLE")
        async with a_player() as player:
            answer = await player.get(f"{api.url}/v1/calls/{call_id}/recording")
        assert problem(answer) == (401, "UNAUTHORIZED")
        odd = await api.http.get(f"/v1/calls/{call_id}/recording", params={"channels": "stereo"})
        assert problem(odd) == (400, "VALIDATION_ERROR")


async def test_a_host_header_makes_no_odd_link(tmp_path: Path) -> None:
    """What is no host is not repeated in a link."""
    async with served(tmp_path) as api:
        call_id, _ = await record_call(api.settings)
        for host in ("evil.example.com/x?", 'a"b', "x y", "user@evil", "", "a" * 300):
            answer = await api.http.get(f"/v1/calls/{call_id}/recording", headers={"host": host})
            if answer.status_code == 200:
                assert answer.json()["url"].startswith("http://127.0.0.1:0/recordings/")
            else:
                assert answer.status_code == 400


async def test_links_say_the_address_others_reach_it_by(tmp_path: Path) -> None:
    """`AGENT_WORKER_PUBLIC_URL` goes before whatever a request says, and stands in the webhook's link."""
    async with served(tmp_path, public_url="https://calls.example.com/api/") as api, a_player() as player:
        await subscribe(api.settings)
        call_id, audio = await record_call(api.settings)
        url = await link_to(api, call_id)
        [payload] = await told(api.settings)
        assert url.startswith("https://calls.example.com/api/recordings/")
        assert payload["recording_url"].startswith("https://calls.example.com/api/recordings/")
        token = payload["recording_url"].rpartition("/")[2]
        link = LinkSigner(webhook_secret(api.settings)).read(token)
        assert link is not None
        assert link.expires - time.time() > 6.9 * 24 * 3_600
        answer = await player.get(f"{api.url}/recordings/{token}")
        assert len(answer.content) == len(audio)
    assert (payload["type"], payload["recording_status"], payload["recording_duration_ms"]) == (
        "call.recording",
        "ready",
        2_000,
    )


@pytest.mark.parametrize(
    "url", ["calls.example.com", "ftp://calls.example.com", "https://", "https://a/?b", "https://a b"]
)
def test_a_public_url_that_is_none_is_told_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="AGENT_WORKER_PUBLIC_URL"):
        create_app(serve_settings(tmp_path, public_url=url))


async def test_the_same_facts_again_announce_nothing_again(tmp_path: Path) -> None:
    """A batch that is delivered twice leaves the recording ready, and its webhook is one."""
    async with served(tmp_path) as api:
        await subscribe(api.settings)
        story = recorded_story(api.settings)
        write_recording(file_of(api.settings, story.call_id))
        before: dict[str, Any] = {}
        for _ in range(3):
            await tell(api.settings, story)
            now = await standing(api.settings, story.call_id)
            assert before in ({}, now)
            before = now
        assert [payload["recording_status"] for payload in await told(api.settings)] == ["ready"]
        assert before["location"] == f"{story.call_id}.ogg"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_recording_that_failed_is_told_with_no_link(tmp_path: Path, kind: str) -> None:
    """A file that cannot be finished, one that is gone, one with nothing in it: `failed`, told once, without a URL."""
    async with served(tmp_path, kind) as api:
        await subscribe(api.settings)
        said = recorded_story(api.settings, "said", status="failed", detail="no space left")
        gone = recorded_story(api.settings, "gone", start=utc_now())
        await tell(api.settings, said)
        await tell(api.settings, gone)
        rows = [await standing(api.settings, call_id) for call_id in ("said", "gone")]
        payloads = await told(api.settings)
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert sorted((p["call_id"], p["recording_status"], p["recording_url"]) for p in payloads) == [
        ("gone", "failed", None),
        ("said", "failed", None),
    ]


async def test_a_disk_that_holds_no_secret_keeps_no_recording_back(tmp_path: Path) -> None:
    """Where no link can be made for the webhook, the recording is ready all the same."""
    async with served(tmp_path) as api:
        (api.settings.data_dir / "webhook-secret").unlink(missing_ok=True)
        (api.settings.data_dir / "webhook-secret").mkdir(parents=True)
        call_id, _ = await record_call(api.settings)
        assert (await standing(api.settings, call_id))["status"] == "ready"
