"""Asks the workers registered under a name who they are, without a call: their answers stand in a room's metadata."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

import aiohttp
from livekit import api

from agent_worker.telephony.rooms import delete_room

logger = logging.getLogger("agent_worker.telephony")

PROBE_KEY = "agentWorkerProbe"
"""Job metadata of a probe, and the key of the room's metadata the answers stand under."""

ANSWER_SECONDS = 2.0
"""What a worker spends on an answer; LiveKit waits longer for it to take or leave the job."""

MORE_SECONDS = 0.5
"""How long after one worker's answer the next one may follow: LiveKit asks them one after the other."""

MAX_WORKERS = 100
ROOM_SECONDS = 30


@dataclass(frozen=True)
class WorkerState:
    """What a worker says of itself.

    Attributes:
        state: `ready`, `full` or `draining`.
    """

    worker_id: str
    state: str
    slots: int
    calls: int
    version: str

    @property
    def free(self) -> int:
        """How many more calls it takes now."""
        return max(0, self.slots - self.calls) if self.state != "draining" else 0


@dataclass(frozen=True)
class ProbeAnswer:
    """Who answered to a name.

    Attributes:
        taken_by_other: the probe was taken for a call: that worker is another product, or another version.
    """

    workers: tuple[WorkerState, ...]
    taken_by_other: bool = False


def is_probe(job_metadata: str) -> bool:
    """Return whether a job only asks who is here."""
    return _asked(job_metadata) is not None


async def answer_probe(client: api.LiveKitAPI, room: str, job_metadata: str, state: WorkerState) -> None:
    """Add a worker's state to the answers; a room that is no probe's is left alone, and failing is no error."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            asked = _asked(job_metadata)
            found = await _read(client, room)
            if asked is None or found.get("nonce") != asked:
                return
            answers = [*found.get("workers", []), asdict(state)][:MAX_WORKERS]
            metadata = json.dumps({PROBE_KEY: {"nonce": asked, "workers": answers}})
            await client.room.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=metadata))
    except (api.TwirpError, aiohttp.ClientError, TimeoutError) as error:
        logger.warning("probe not answered", extra={"room": room, "error": type(error).__name__})


async def ask_workers(client: api.LiveKitAPI, agent_name: str, *, seconds: float) -> ProbeAnswer:
    """Return who is registered under a name; where nobody is, that takes all the seconds.

    Raises:
        livekit.api.TwirpError: LiveKit refuses the room or the dispatch.
        aiohttp.ClientError: LiveKit is not there.
    """
    nonce = secrets.token_hex(8)
    metadata = json.dumps({PROBE_KEY: {"nonce": nonce, "workers": []}})
    async with temporary_room(client, f"doctor-probe-{nonce}", metadata=metadata) as room:
        await client.agent_dispatch.create_dispatch(
            api.CreateAgentDispatchRequest(agent_name=agent_name, room=room, metadata=json.dumps({PROBE_KEY: nonce}))
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        workers: tuple[WorkerState, ...] = ()
        while loop.time() < deadline:
            await asyncio.sleep(0.1)
            answers = _workers(await _read(client, room))
            if len(answers) > len(workers):
                workers, deadline = answers, loop.time() + MORE_SECONDS
            if not workers and await _is_taken(client, room):
                return ProbeAnswer((), taken_by_other=True)
        return ProbeAnswer(workers)


@asynccontextmanager
async def temporary_room(client: api.LiveKitAPI, name: str, *, metadata: str = "") -> AsyncIterator[str]:
    """Make a room and delete it afterwards, also where the task is cancelled."""
    await client.room.create_room(
        api.CreateRoomRequest(name=name, empty_timeout=ROOM_SECONDS, departure_timeout=1, metadata=metadata)
    )
    try:
        yield name
    finally:
        await asyncio.shield(delete_room(client, name))


def _asked(job_metadata: str) -> str | None:
    if PROBE_KEY not in job_metadata:
        return None
    try:
        nonce = json.loads(job_metadata).get(PROBE_KEY)
    except (ValueError, AttributeError):
        return None
    return nonce if isinstance(nonce, str) else None


async def _read(client: api.LiveKitAPI, room: str) -> Mapping[str, Any]:
    listing = await client.room.list_rooms(api.ListRoomsRequest(names=[room]))
    if not listing.rooms:
        return {}
    try:
        found = json.loads(listing.rooms[0].metadata or "{}").get(PROBE_KEY)
    except (ValueError, AttributeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _workers(found: Mapping[str, Any]) -> tuple[WorkerState, ...]:
    names = {field.name for field in fields(WorkerState)}
    given = found.get("workers")
    entries = [entry for entry in given if isinstance(entry, Mapping)] if isinstance(given, list) else []
    whole = [{key: entry[key] for key in names} for entry in entries if names <= set(entry)]
    return tuple(WorkerState(**entry) for entry in whole)


async def _is_taken(client: api.LiveKitAPI, room: str) -> bool:
    listing = await client.room.list_participants(api.ListParticipantsRequest(room=room))
    return any(participant.kind == api.ParticipantInfo.Kind.AGENT for participant in listing.participants)
