"""Ending a call, telling its agent something, joining it: what is answered where there is no call to do it to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from spekoai import AsyncSpeko, Speko, SpekoApiError
from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.store.tables import audit_entries
from tests.call_facts import CallStory, whole_call
from tests.integration.live_calls import LIVEKIT, SECRET, api, live_call, record
from tests.integration.serving import make_key, serve_settings, serving

PATHS = ("end", "messages", "web-join")
MESSAGE = {"text": "The doctor is late.", "mode": "respond"}


async def test_a_call_that_is_over_is_told_so(tmp_path: Path) -> None:
    """`end` answers `already_ended` with the time, to both clients; what needs a live call answers 409."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    key = await make_key(settings, scope="operate")
    await record(settings, whole_call())
    async with serving(settings) as url:

        def in_sync() -> Any:
            with Speko(api_key=key, base_url=url) as speko:
                with pytest.raises(SpekoApiError) as refused:
                    speko.calls.web_join("call-1", {"display_name": "Maya"})
                assert (refused.value.status, refused.value.code) == (409, "CALL_NOT_LIVE")
                return speko.calls.end("call-1")

        results = [await asyncio.to_thread(in_sync)]
        async with AsyncSpeko(api_key=key, base_url=url) as speko:
            results.append(await speko.calls.end("call-1"))
            with pytest.raises(SpekoApiError) as refused:
                await speko.calls.web_join("call-1")
            assert (refused.value.status, refused.value.code) == (409, "CALL_NOT_LIVE")
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as client:
            answer = await client.post("/v1/calls/call-1/messages", json=MESSAGE)
    for result in results:
        assert (result.ok, result.status, result.ended_at) == (True, "already_ended", "2026-03-02T09:30:14.000000Z")
    assert (answer.status_code, answer.json()["code"]) == (409, "CALL_NOT_LIVE")


async def test_a_call_that_rings_cannot_be_spoken_to(tmp_path: Path) -> None:
    """Messages and joining answer 409 until the call is answered, and say that it may be tried again."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    story = CallStory()
    story.opened()
    await record(settings, story)
    async with api(settings) as client:
        for path, body in (("messages", MESSAGE), ("web-join", {})):
            answer = await client.post(f"/v1/calls/call-1/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (409, "CALL_NOT_LIVE")
            assert answer.json()["retryable"] is True


async def test_a_token_joins_this_room_only_and_not_for_long(tmp_path: Path) -> None:
    """The token names the call's room, lets its holder speak and listen, and nothing else; the URL is the public one."""
    settings = serve_settings(tmp_path, **LIVEKIT, livekit_public_url="wss://livekit.example.com")
    key = await make_key(settings, scope="operate")
    await record(settings, live_call())
    async with serving(settings) as url, AsyncSpeko(api_key=key, base_url=url) as speko:
        joined = await speko.calls.web_join("call-1", {"display_name": "Maya"})
        again = await speko.calls.web_join("call-1")
    claims = jwt.decode(joined.token, SECRET, algorithms=["HS256"])
    assert joined.url == "wss://livekit.example.com"
    assert joined.room_name == "room-call-1"
    assert joined.identity == claims["sub"] != again.identity
    assert claims["name"] == "Maya"
    assert claims["video"] == {
        "roomJoin": True,
        "room": "room-call-1",
        "canPublish": True,
        "canSubscribe": True,
        "canPublishData": False,
        "canPublishSources": ["microphone"],
        "canUpdateOwnMetadata": False,
    }
    assert claims["exp"] - claims["nbf"] <= 300


async def test_what_is_done_to_a_live_call_is_noted(tmp_path: Path) -> None:
    """An audit entry names the key, the action and the call, and holds no word of the message."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        assert (await client.post("/v1/calls/call-1/web-join")).status_code == 200
        await client.post("/v1/calls/call-1/messages", json=MESSAGE)
        await client.post("/v1/calls/call-1/end")
    control = EmbeddedControlPlane(settings)
    async with control.reading() as connection:
        rows = (await connection.execute(select(audit_entries).order_by(audit_entries.c.created_at))).mappings().all()
    await control.aclose()
    assert [row["action"] for row in rows] == ["call.web_join", "call.message", "call.end"]
    assert {row["resource"] for row in rows} == {"calls/call-1"}
    assert "doctor" not in str([dict(row) for row in rows])


async def test_a_livekit_that_is_away_is_said(tmp_path: Path) -> None:
    """With LiveKit out of reach a command answers 503 with `Retry-After`."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        for path, body in (("end", {}), ("messages", MESSAGE)):
            answer = await client.post(f"/v1/calls/call-1/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "LIVEKIT_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"


async def test_a_control_plane_without_livekit_says_what_to_set(tmp_path: Path) -> None:
    """501 with the names of the variables."""
    settings = serve_settings(tmp_path)
    await record(settings, live_call())
    async with api(settings) as client:
        for path, body in (("end", {}), ("messages", MESSAGE), ("web-join", {})):
            answer = await client.post(f"/v1/calls/call-1/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (501, "NOT_AVAILABLE")
            assert "LIVEKIT_URL" in answer.json()["error"]


@pytest.mark.parametrize("path", PATHS)
async def test_who_may_not_is_refused(tmp_path: Path, path: str) -> None:
    """403 with a key that only reads; 404 for an unknown call and for one of another agent."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings, scope="read") as client:
        answer = await client.post(f"/v1/calls/call-1/{path}", json=MESSAGE)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
    async with api(settings, agent_ids=["other"]) as client:
        for call_id in ("call-1", "nobody"):
            answer = await client.post(f"/v1/calls/{call_id}/{path}", json=MESSAGE)
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [None, {}, {"text": ""}, {"text": "   "}, {"text": "x" * 16_001}, {"text": 7}, {"text": "x", "mode": "shout"}, []],
)
async def test_a_message_that_says_nothing_is_refused(tmp_path: Path, body: Any) -> None:
    """400 in the error shape."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        answer = await client.post("/v1/calls/call-1/messages", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")
