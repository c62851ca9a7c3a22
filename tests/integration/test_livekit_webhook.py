"""What LiveKit's server says of rooms becomes events of the calls in them, once, and only where it is signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from livekit import api

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store.queries import call_events
from tests.call_facts import CallStory
from tests.integration.serving import serve_settings, serving

KEY, SECRET = "key", "a-secret-of-livekit-that-is-long-enough"
LIVEKIT = {"LIVEKIT_URL": "ws://127.0.0.1:9", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET}
PATH = "/v1/livekit/webhook"


def event(name: str, number: int = 1, room: str = "room-call-1", **more: Any) -> dict[str, Any]:
    at = str(int(utc_now().timestamp()))
    return {"event": name, "id": f"EV_{number}", "createdAt": at, "room": {"name": room, "sid": "RM_1"}, **more}


def signed(body: bytes, *, secret: str = SECRET, of: bytes | None = None) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(body if of is None else of).digest()).decode()
    token = api.AccessToken(KEY, secret).with_sha256(digest).with_ttl(timedelta(minutes=5)).to_jwt()
    return {"authorization": token, "content-type": "application/webhook+json"}


async def send(client: httpx.AsyncClient, said: Mapping[str, Any], **how: Any) -> int:
    body = json.dumps(said).encode()
    return (await client.post(PATH, content=body, headers=signed(body, **how))).status_code


async def events_of(settings: Settings, call_id: str = "call-1") -> list[dict[str, Any]]:
    control = EmbeddedControlPlane(settings)
    async with control.reading() as connection:
        found = await call_events(connection, call_id)
    await control.aclose()
    return found


async def test_events_join_the_calls_own(tmp_path: Path) -> None:
    """By the name of the room, with the provider `livekit`, once however often sent, and without anybody's number."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    story = CallStory(start=utc_now())
    story.opened()
    control = EmbeddedControlPlane(settings)
    await control.record(story.facts)
    await control.aclose()
    caller = {"identity": "sip_+12015550101", "name": "Phone +12015550101", "sid": "PA_1", "kind": "SIP"}
    left = {**caller, "disconnectReason": "CLIENT_INITIATED"}
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        sent = [
            event("participant_joined", 1, participant=caller),
            event("participant_left", 2, participant=left),
            event("participant_left", 2, participant=left),
            event("track_published", 3, participant=caller),
            event("room_finished", 4),
            event("room_finished", 5, room="somebody-else's"),
        ]
        assert [await send(client, said) for said in sent] == [204] * 6
    found = await events_of(settings)
    assert [(one["provider"], one["event_type"]) for one in found] == [
        ("livekit", "participant_joined"),
        ("livekit", "participant_left"),
        ("livekit", "room_finished"),
    ]
    assert found[1]["payload"] == {
        "room_sid": "RM_1",
        "participant_sid": "PA_1",
        "kind": "sip",
        "disconnect_reason": "client_initiated",
    }
    assert "+1201" not in json.dumps(found)


async def test_what_comes_before_its_call_waits_for_it(tmp_path: Path) -> None:
    """The room is there before the worker's first fact is; `room_started` is on the call all the same."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        assert await send(client, event("room_started")) == 204
        story = CallStory(start=utc_now())
        story.opened()
        control = EmbeddedControlPlane(settings)
        await control.record(story.facts)
        await control.aclose()
        for _ in range(100):
            if found := await events_of(settings):
                break
            await asyncio.sleep(0.1)
    assert [one["event_type"] for one in found] == ["room_started"]


async def test_names_of_rooms_that_come_again_are_not_mixed_up(tmp_path: Path) -> None:
    """An event of today is no event of a call that was over yesterday in a room of the same name."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    story = CallStory(start=utc_now() - timedelta(days=1))
    story.opened()
    story.ended()
    control = EmbeddedControlPlane(settings)
    await control.record(story.facts)
    await control.aclose()
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        assert await send(client, event("room_finished")) == 204
    assert await events_of(settings) == []


@pytest.mark.parametrize("how", ["none", "wrong secret", "changed body", "our own key", "no hash", "no token"])
async def test_what_livekit_did_not_sign_is_refused(tmp_path: Path, how: str) -> None:
    """401 in the error shape, and nothing is kept."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    story = CallStory(start=utc_now())
    story.opened()
    control = EmbeddedControlPlane(settings)
    await control.record(story.facts)
    await control.aclose()
    body = json.dumps(event("room_finished")).encode()
    headers = {
        "none": {},
        "wrong secret": signed(body, secret="another-secret-that-is-long-enough-too"),
        "changed body": signed(body, of=b"{}"),
        "our own key": {"authorization": "Bearer aw_live_x"},
        "no hash": {"authorization": api.AccessToken(KEY, SECRET).to_jwt()},
        "no token": {"authorization": "Bearer"},
    }[how]
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHORIZED")
    assert await events_of(settings) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"event": 7}', b'{"event": "room_finished"}']
)
async def test_a_signed_body_that_says_nothing_changes_nothing(tmp_path: Path, body: bytes) -> None:
    """Never a 5xx."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.post(PATH, content=body, headers=signed(body))
        large = await client.post(PATH, content=b" " * 70_000, headers=signed(body))
    assert answer.status_code in (204, 401)
    assert large.status_code == 413
