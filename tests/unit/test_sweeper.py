"""The sweeper: what is lost is closed, what merely could not say so is not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest

from agent_worker.control.sweeper import ExpiredLease, Sweeper
from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.fact import CallEnded, EventOccurred, Fact
from agent_worker.errors import ControlPlaneError
from tests.call_facts import START

LEASE = ExpiredLease("call-1", "room-1", START)


class Leases:
    """Leases in memory, and what was recorded."""

    def __init__(self, *expired: ExpiredLease) -> None:
        self.expired = list(expired)
        self.recorded: list[Fact] = []
        self.down = False

    async def expired_leases(self, now: datetime) -> list[ExpiredLease]:
        if self.down:
            raise ControlPlaneError("down", "Down.", retryable=True)
        return list(self.expired)

    async def record(self, facts: Sequence[Fact]) -> None:
        self.recorded += facts
        self.expired = [lease for lease in self.expired if lease.call_id not in {f.call_id for f in facts}]


class World:
    """A clock that is set by hand, and rooms."""

    def __init__(self) -> None:
        self.now = 100.0
        self.closed: list[str] = []
        self.livekit_is_down = False

    def clock(self) -> float:
        return self.now

    async def close_room(self, room: str) -> None:
        if self.livekit_is_down:
            raise ConnectionError
        self.closed.append(room)


async def test_a_lease_that_stays_run_out_ends_the_call_and_its_room() -> None:
    """After the grace the room is deleted and the call ends with `worker_lost`, dated to its last sign of life."""
    world, leases = World(), Leases(LEASE)
    sweeper = Sweeper(leases, world.close_room, grace_seconds=30, monotonic=world.clock)
    assert await sweeper.sweep() == []
    world.now += 29
    assert await sweeper.sweep() == []
    assert world.closed == []
    world.now += 1
    assert await sweeper.sweep() == ["call-1"]
    assert world.closed == ["room-1"]
    hangup, ended = leases.recorded
    assert isinstance(hangup, EventOccurred)
    assert isinstance(ended, CallEnded)
    assert (hangup.event_type, ended.disconnection_reason) == ("call.hangup", DisconnectionReason.WORKER_LOST)
    assert ended.at == START
    world.now += 100
    assert await sweeper.sweep() == []


async def test_a_lease_that_is_renewed_is_forgotten() -> None:
    """A worker that comes back within the grace keeps its call, and a later lapse starts over."""
    world, leases = World(), Leases(LEASE)
    sweeper = Sweeper(leases, world.close_room, grace_seconds=30, monotonic=world.clock)
    await sweeper.sweep()
    world.now += 20
    leases.expired = [LEASE._replace(lease_until=START.replace(hour=12))]
    await sweeper.sweep()
    world.now += 20
    assert await sweeper.sweep() == []
    world.now += 10
    assert await sweeper.sweep() == ["call-1"]


async def test_a_database_that_was_away_gives_every_lease_its_grace_anew() -> None:
    """Nobody could renew while the database was down: no live call is closed for that."""
    world, leases = World(), Leases(LEASE)
    sweeper = Sweeper(leases, world.close_room, grace_seconds=30, monotonic=world.clock)
    await sweeper.sweep()
    leases.down = True
    world.now += 3600
    with pytest.raises(ControlPlaneError):
        await sweeper.sweep()
    leases.down = False
    assert await sweeper.sweep() == []
    world.now += 30
    assert await sweeper.sweep() == ["call-1"]


async def test_a_room_that_cannot_be_deleted_is_tried_again() -> None:
    """The call's row does not wait for LiveKit, and the room is not forgotten."""
    world, leases = World(), Leases(LEASE)
    sweeper = Sweeper(leases, world.close_room, grace_seconds=0, monotonic=world.clock)
    world.livekit_is_down = True
    assert await sweeper.sweep() == ["call-1"]
    assert await sweeper.sweep() == []
    world.livekit_is_down = False
    await sweeper.sweep()
    await sweeper.sweep()
    assert world.closed == ["room-1"]
