"""Puts what LiveKit's server says among the events of the call whose room it is about.

A room begins before its call is known here, so what comes early waits as a job; what is about other people's rooms
is forgotten after a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import EventOccurred
from agent_worker.errors import ControlPlaneError

if TYPE_CHECKING:
    from agent_worker.control.embedded import EmbeddedControlPlane
    from agent_worker.store.jobs import Job

LIVEKIT_EVENT = "livekit_event"
RETRY = timedelta(seconds=1)
PATIENCE = timedelta(seconds=60)
"""How long after an event its call may still come to be known: journals are delivered within seconds."""


class UnknownRoomError(ControlPlaneError):
    """No call of this room is known yet."""


class ServerEvents:
    """Takes events, each once however often it is sent."""

    def __init__(self, control: EmbeddedControlPlane) -> None:
        self._control = control

    async def take(self, event_id: str, name: str, room: str, at: datetime, payload: Mapping[str, Any]) -> None:
        """Add an event to its call, or keep it until the call is known.

        Raises:
            ControlPlaneError: the database does not take it.
        """
        from agent_worker.store.jobs import enqueue

        if await self._add(event_id, name, room, at, payload):
            return
        now = utc_now()
        if now - at < PATIENCE:
            said = {"id": event_id, "name": name, "room": room, "at": at.isoformat(), "payload": dict(payload)}
            async with self._control.writing() as connection:
                await enqueue(connection, LIVEKIT_EVENT, event_id, now=now, payload=said, due_at=now + RETRY)

    async def run(self, job: Job) -> None:
        """Add an event that came before its call.

        Raises:
            UnknownRoomError: the call is not known yet.
        """
        said = job.payload
        at = datetime.fromisoformat(said["at"])
        if not await self._add(said["id"], said["name"], said["room"], at, said["payload"]) and (
            utc_now() - at < PATIENCE
        ):
            raise UnknownRoomError("room_unknown", "No call of this room is known yet.", retryable=True)

    async def _add(self, event_id: str, name: str, room: str, at: datetime, payload: Mapping[str, Any]) -> bool:
        from agent_worker.store.live import call_of_room

        async with self._control.reading() as connection:
            call_id = await call_of_room(connection, room, at)
        if call_id is None:
            return False
        fact = EventOccurred(
            id=f"{call_id}:livekit-{event_id}",
            call_id=call_id,
            at=at,
            event_type=name,
            provider="livekit",
            payload=dict(payload),
        )
        await self._control.record([fact])
        return True
