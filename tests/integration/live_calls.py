"""Calls that are live on a LiveKit where nobody listens, and `serve` in front of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.fact import CallAnswered
from agent_worker.settings import Settings
from tests.call_facts import CallStory
from tests.integration.serving import make_key, serving

SECRET = "a-secret-of-livekit-that-is-long-enough"
# port 9 of this machine: nobody listens there
LIVEKIT = {"LIVEKIT_URL": "ws://127.0.0.1:9", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": SECRET}


@contextlib.asynccontextmanager
async def api(settings: Settings, *, scope: str = "operate", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run `serve`; yields a client with a key of this scope."""
    key = await make_key(settings, scope=scope, **options)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        client.headers["authorization"] = f"Bearer {key}"
        yield client


async def record(settings: Settings, story: CallStory) -> None:
    """Hand in a call's facts."""
    control = EmbeddedControlPlane(settings)
    await control.record(story.facts)
    await control.aclose()


def live_call() -> CallStory:
    """Return a call that was picked up and goes on."""
    story = CallStory()
    story.opened(job_id="AJ_1")
    story.add(CallAnswered)
    return story
