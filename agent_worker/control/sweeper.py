"""Closes calls whose worker host is gone: nobody renews their lease, and nobody is left to end them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from agent_worker.domain.call import CallStatus, DisconnectionReason, utc_now
from agent_worker.domain.fact import CallEnded, EventOccurred, Fact
from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.control")

CLOSE_ROOM_SECONDS = 10.0
ROOM_ATTEMPTS = 20
"""Sweeps in which a room that could not be deleted is tried again."""


class ExpiredLease(NamedTuple):
    """A live call nobody has vouched for since `lease_until`."""

    call_id: str
    room_name: str
    lease_until: datetime


class Leases(Protocol):
    """What the sweeper needs of a control plane."""

    async def expired_leases(self, now: datetime) -> list[ExpiredLease]:
        """Return the live calls whose lease ran out before `now`."""

    async def record(self, facts: Sequence[Fact]) -> None:
        """Apply facts."""


class Sweeper:
    """Ends lost calls.

    A lease that is found run out has to stay so for `grace_seconds`: when the database was away, no worker
    could renew, and every live call looks lost until they all have had time to.

    Args:
        close_room: deletes a LiveKit room, which hangs up every leg in it.
        grace_seconds: as long as a lease lasts, or longer.
        monotonic: clock in seconds.
    """

    def __init__(
        self,
        leases: Leases,
        close_room: Callable[[str], Awaitable[object]],
        *,
        grace_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._close_room = close_room
        self._grace = grace_seconds
        self._monotonic = monotonic
        self._seen: dict[str, tuple[datetime, float]] = {}
        self._open_rooms: dict[str, int] = {}

    async def run(self, every_seconds: float = 5.0) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.sweep()
            except ControlPlaneError as error:
                logger.warning("sweep put off", extra={"code": error.code})
            await asyncio.sleep(every_seconds)

    async def sweep(self) -> list[str]:
        """Close what is lost; returns the ids of the calls that were closed.

        Raises:
            ControlPlaneError: the database is down; leases are given their grace anew once it is back.
        """
        await self._retry_rooms()
        try:
            lost = self._past_grace(await self._leases.expired_leases(utc_now()))
            for lease in lost:
                # the room first: it is safe to do twice, and a sweeper that dies in between does it again
                await self._close(lease.room_name)
                await self._leases.record(closing_facts(lease))
                logger.warning("call closed, its worker is gone", extra={"call_id": lease.call_id})
        except ControlPlaneError:
            self._seen.clear()
            raise
        return [lease.call_id for lease in lost]

    def _past_grace(self, expired: Sequence[ExpiredLease]) -> list[ExpiredLease]:
        now = self._monotonic()
        seen: dict[str, tuple[datetime, float]] = {}
        for lease in expired:
            known = self._seen.get(lease.call_id)
            # a lease that was renewed and ran out again starts over
            seen[lease.call_id] = known if known and known[0] == lease.lease_until else (lease.lease_until, now)
        self._seen = seen
        return [lease for lease in expired if now - seen[lease.call_id][1] >= self._grace]

    async def _retry_rooms(self) -> None:
        for room, left in list(self._open_rooms.items()):
            del self._open_rooms[room]
            await self._close(room, left - 1)

    async def _close(self, room: str, attempts: int = ROOM_ATTEMPTS) -> None:
        if not room:
            return
        try:
            async with asyncio.timeout(CLOSE_ROOM_SECONDS):
                await self._close_room(room)
        except Exception as error:  # noqa: BLE001 - whatever deleting a room raises, the call's row must be closed
            logger.warning("room not deleted", extra={"room": room, "error": type(error).__name__})
            if attempts > 0:
                self._open_rooms[room] = attempts


def closing_facts(lease: ExpiredLease) -> list[Fact]:
    """Return the verdict on a lost call, dated to its last sign of life; its own journal may correct it."""
    reason = DisconnectionReason.WORKER_LOST
    return [
        EventOccurred(
            id=f"{lease.call_id}:swept.hangup",
            call_id=lease.call_id,
            at=lease.lease_until,
            event_type="call.hangup",
            status=CallStatus.FAILED.value,
            failure_cause=reason.value,
            payload={"disconnection_reason": reason.value},
        ),
        CallEnded(
            id=f"{lease.call_id}:swept",
            call_id=lease.call_id,
            at=lease.lease_until,
            disconnection_reason=reason,
            failure_cause=reason.value,
        ),
    ]
