"""Calls with a recording, as a worker leaves them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.fact import CallAnswered, RecordingChanged
from agent_worker.settings import Settings
from agent_worker.store import tables
from agent_worker.store.recordings import recording_of
from tests.call_facts import START, CallStory
from tests.made_recordings import write_recording

ENDPOINT = {
    "id": "wh_1",
    "name": "all",
    "url": "https://hooks.example.com",
    "events": ["call.recording"],
}


def file_of(settings: Settings, call_id: str) -> Path:
    return settings.recordings_dir.resolve() / f"{call_id}.ogg"


def recorded_story(settings: Settings, call_id: str = "", *, start: datetime = START, **last: Any) -> CallStory:
    """Return the facts of a call whose recording is written whole; `last` changes what is said of it in the end."""
    story = CallStory(call_id or str(uuid.uuid4()), start=start)
    path = str(file_of(settings, story.call_id))
    story.opened()
    story.add(CallAnswered)
    story.add(RecordingChanged, status="pending", path=path)
    story.add(RecordingChanged, **({"status": "uploading", "path": path, "duration_ms": 2_000} | last))
    story.ended()
    return story


async def record_call(settings: Settings, call_id: str = "", seconds: float = 2.0, **last: Any) -> tuple[str, bytes]:
    """Have a call with a real recording on this disk; returns its id and what is in the file."""
    story = recorded_story(settings, call_id, **last)
    audio = write_recording(file_of(settings, story.call_id), seconds)
    await tell(settings, story)
    return story.call_id, audio


async def tell(settings: Settings, story: CallStory) -> None:
    control = EmbeddedControlPlane(settings)
    try:
        await control.record(story.facts[:-1])
        await control.record(story.facts[-1:])
    finally:
        await control.aclose()


async def standing(settings: Settings, call_id: str) -> dict[str, Any]:
    """Return where the recording stands."""
    control = EmbeddedControlPlane(settings)
    try:
        async with control.reading() as connection:
            return await recording_of(connection, call_id) or {}
    finally:
        await control.aclose()


async def stands(
    settings: Settings, call_id: str, status: str | Callable[[dict[str, Any]], bool], seconds: float = 120
) -> dict[str, Any]:
    """Wait until the recording has this status; return where it stands."""
    async with asyncio.timeout(seconds):
        while True:
            row = await standing(settings, call_id)
            if status(row) if callable(status) else row.get("status") == status:
                return row
            await asyncio.sleep(0.05)


async def rows_in(settings: Settings, name: str) -> list[dict[str, Any]]:
    control = EmbeddedControlPlane(settings)
    try:
        async with control.reading() as connection:
            return [dict(row) for row in (await connection.execute(select(tables.metadata.tables[name]))).mappings()]
    finally:
        await control.aclose()


async def change(settings: Settings, statement: Any) -> None:
    control = EmbeddedControlPlane(settings)
    try:
        async with control.writing() as connection:
            await connection.execute(statement)
    finally:
        await control.aclose()


async def subscribe(settings: Settings) -> None:
    """Have an endpoint told of every recording."""
    values = {
        **ENDPOINT,
        "organization_id": settings.organization_id,
        "all_agents": True,
        "agent_ids": [],
        "filter_tags": {},
        "headers": {},
        "auth_headers": [],
        "extraction_fields": [],
        "created_at": START,
        "updated_at": START,
    }
    await change(settings, tables.webhook_endpoints.insert().values(values))


async def told(settings: Settings) -> list[dict[str, Any]]:
    """Return what is sent of recordings, in order."""
    rows = [row for row in await rows_in(settings, "deliveries") if row["event"] == "call.recording"]
    return [row["payload"] for row in sorted(rows, key=lambda row: row["created_at"])]
