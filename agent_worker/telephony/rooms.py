"""Rooms: taking one down is how a phone call is ended on LiveKit."""

from __future__ import annotations

import asyncio
import logging
from functools import lru_cache

import aiohttp
from livekit import api

from agent_worker.domain.transfer import MOST_ATTEMPTS

logger = logging.getLogger("agent_worker.telephony")

ATTEMPTS = 4
ATTEMPT_SECONDS = 2.0

WEB_IDENTITY_PREFIX = "web-"
"""Begins the identity of whoever joins a call from a browser; the call's own parties are never called so."""


def agent_identity(job_id: str) -> str:
    """Return what a worker is called in the room of a call it has taken."""
    return f"agent-{job_id}"


def is_web(identity: str) -> bool:
    """Return whether this is somebody who joined from a browser."""
    return identity.startswith(WEB_IDENTITY_PREFIX)


def consultation_room(room: str, attempt: int) -> str:
    """Return the name of the room in which a person is asked, for an attempt counted from 1 over the whole call."""
    return f"{room}-consult-{attempt}"


async def delete_consultations(client: api.LiveKitAPI, room_name: str) -> None:
    """Delete the rooms in which people were asked to take a call whose process is gone: nobody else would."""
    names = [consultation_room(room_name, attempt) for attempt in range(1, MOST_ATTEMPTS + 1)]
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            listing = await client.room.list_rooms(api.ListRoomsRequest(names=names))
    except (api.TwirpError, TimeoutError, aiohttp.ClientError) as error:
        logger.warning("rooms not listed", extra={"error": type(error).__name__})
        return
    await asyncio.gather(*(delete_room(client, room.name) for room in listing.rooms if room.name in names))


async def move_participant(client: api.LiveKitAPI, room_name: str, identity: str, to_room: str) -> bool:
    """Move a participant into another room; returns whether the server did. Only LiveKit Cloud can."""
    asked = api.MoveParticipantRequest(room=room_name, identity=identity, destination_room=to_room)
    try:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await client.room.move_participant(asked)
    except (api.TwirpError, TimeoutError, aiohttp.ClientError) as error:
        _not_moved(getattr(error, "message", type(error).__name__))
        return False
    return True


@lru_cache(maxsize=4)
def _not_moved(why: str) -> None:
    """Log it once in each process."""
    logger.warning("MoveParticipant refused, the worker relays", extra={"error": why})


async def delete_room(client: api.LiveKitAPI, room_name: str) -> bool:
    """Delete the room, which hangs up every leg in it; retried for up to about 9 s.

    Returns:
        Whether the room is gone (also true where it was gone before).
    """
    for attempt in range(ATTEMPTS):
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await client.room.delete_room(api.DeleteRoomRequest(room=room_name))
            return True
        except api.TwirpError as error:
            if error.code == api.TwirpErrorCode.NOT_FOUND:
                return True
            logger.warning("room not deleted", extra={"room": room_name, "code": error.code})
        except (TimeoutError, aiohttp.ClientError) as error:
            logger.warning("room not deleted", extra={"room": room_name, "error": type(error).__name__})
        await asyncio.sleep(0.2 * 2**attempt)
    return False
