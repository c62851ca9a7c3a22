"""Delivers what is in the outbox: claims what is due, sends it, and writes down what came of it, until cancelled.

Any number of processes may do this on one database. What was sent counts against its endpoint until its result is
written, so a process that is killed leaves unanswered no more than what it was sending: one delivery at most for each
call and endpoint, and that one is sent again under the same `webhook-id` when its claim has run out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from agent_worker import metrics
from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import deliveries as queue
from agent_worker.store.deliveries import Claimed, Settled
from agent_worker.webhooks.schedule import RETRY_SECONDS, EndpointHealth, next_attempt
from agent_worker.webhooks.sending import Outcome, send
from agent_worker.webhooks.targets import DELETED, Target, targets_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.webhooks")

POLL_SECONDS = 0.25
LEASE = timedelta(seconds=20)
"""Longer than the longest timeout of an endpoint, and a while for its result to be written."""

SHARED = 64
"""Requests at once to all endpoints; beyond it each endpoint still has one, so that none waits for the others."""

ENDPOINTS_AT_ONCE = 32
"""Endpoints claimed for in one transaction, which keeps it short."""

STOP_SECONDS = 5.0


class Store(Protocol):
    """What the dispatcher needs of a control plane."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that commits."""


@dataclass(frozen=True)
class _Sent:
    delivery: Claimed
    outcome: Outcome | None


class Dispatcher:
    """Delivers until cancelled.

    Args:
        client: sends; its policy says where to.
        catalog: returns the configuration in force, where agents' hooks stand.
        schedule: seconds to wait after each failure.
    """

    def __init__(
        self,
        store: Store,
        client: EgressClient,
        settings: Settings,
        catalog: Callable[[], AgentCatalog],
        *,
        schedule: tuple[float, ...] = RETRY_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        lease: timedelta = LEASE,
    ) -> None:
        self._store = store
        self._client = client
        self._settings = settings
        self._catalog = catalog
        self._schedule = schedule
        self._poll = poll_seconds
        self._lease = lease
        self._health: defaultdict[str, EndpointHealth] = defaultdict(EndpointHealth)
        self._in_flight: Counter[str] = Counter()
        self._sending: set[asyncio.Task[None]] = set()
        self._sent: list[_Sent] = []
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled; what is being sent then is given a moment to be answered and written down."""
        try:
            while True:
                found = await self._turn()
                if not found:
                    # not wait_for: on Python 3.11 it loses a cancellation that comes with the news
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll):
                            await self._news.wait()
        finally:
            await self._stop()

    async def _turn(self) -> bool:
        """Write what was answered, claim what is due, and start sending it; returns whether there was anything."""
        self._news.clear()
        sent, self._sent = self._sent, []
        now = utc_now()
        try:
            async with self._store.reading() as connection:
                due = await queue.due_endpoints(connection, now)
            room = self._room(due, sent, now)
            if not sent and not room:
                return False
            settled = [self._settled(one, now) for one in sent]
            async with self._store.writing() as connection:
                await queue.settle(connection, settled, now=now)
                claimed = await self._claim(connection, room, now)
                endpoint_ids = {one.endpoint_id for one in claimed}
                targets = await targets_of(connection, endpoint_ids, self._settings, self._catalog, now)
        except BaseException as error:  # also when cancelled: what was answered is written down by whoever stops this
            self._sent = sent + self._sent  # their endpoints' slots stay taken until this is written
            if not isinstance(error, ControlPlaneError):
                raise
            logger.warning("webhooks put off", extra={"code": error.code})
            await asyncio.sleep(self._poll)
            return False
        for one in sent:
            self._let_go(one.delivery.endpoint_id)
        for delivery in claimed:
            self._start(delivery, targets.get(delivery.endpoint_id))
        return bool(sent or claimed)

    def _room(self, due: list[str], sent: list[_Sent], now: datetime) -> dict[str, int]:
        """Return how many more requests each endpoint may be made now: the first always, others of what is shared."""
        in_flight = self._in_flight - Counter(one.delivery.endpoint_id for one in sent)
        shared = SHARED - in_flight.total()
        # an answer may have made way for the next delivery of its call, which nobody could see as due
        candidates = list({*due, *(one.delivery.endpoint_id for one in sent)})
        random.shuffle(candidates)  # where there are more than one turn has room for, all get theirs
        room: dict[str, int] = {}
        for endpoint_id in candidates:
            free = self._health[endpoint_id].free(in_flight[endpoint_id], now)
            free = min(free, max(shared, 0 if in_flight[endpoint_id] else 1))
            if free and len(room) < ENDPOINTS_AT_ONCE:
                room[endpoint_id] = free
                shared -= free
        return room

    async def _claim(self, connection: AsyncConnection, room: dict[str, int], now: datetime) -> list[Claimed]:
        claimed: list[Claimed] = []
        for endpoint_id, free in room.items():
            claimed += await queue.claim(connection, endpoint_id, now=now, until=now + self._lease, limit=free)
        return claimed

    def _start(self, delivery: Claimed, target: Target | None) -> None:
        self._in_flight[delivery.endpoint_id] += 1
        task = asyncio.create_task(self._send(delivery, target), name=delivery.id)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, delivery: Claimed, target: Target | None) -> None:
        outcome = None
        if target is not None:
            try:
                outcome = await send(self._client, target, delivery.id, delivery.payload)
            except Exception:  # whatever one delivery meets, the others go on, and its slot is given back
                logger.exception("delivery broke", extra={"delivery_id": delivery.id})
                outcome = Outcome(
                    False, None, "Something broke on this side; the log says what.", target.url, utc_now()
                )
            metrics.WEBHOOK_ATTEMPTS.labels(delivery.event, "delivered" if outcome.delivered else "failed").inc()
            self._learn(delivery.endpoint_id, outcome)
        self._sent.append(_Sent(delivery, outcome))
        self._news.set()

    def _learn(self, endpoint_id: str, outcome: Outcome) -> None:
        health, now = self._health[endpoint_id], utc_now()
        if outcome.delivered or outcome.is_final:
            health.succeeded()
        else:
            health.failed(outcome.started_at, now)
        if outcome.retry_after is not None:
            health.asked_to_wait(outcome.retry_after, now)

    def _let_go(self, endpoint_id: str) -> None:
        self._in_flight[endpoint_id] -= 1
        if not self._in_flight[endpoint_id]:
            del self._in_flight[endpoint_id]

    def _settled(self, sent: _Sent, now: datetime) -> Settled:
        return settled_as(sent.delivery, sent.outcome, now, schedule=self._schedule)

    async def _stop(self) -> None:
        if self._sending:
            await asyncio.wait(self._sending, timeout=STOP_SECONDS)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        now = utc_now()
        settled = [self._settled(one, now) for one in self._sent]
        self._sent.clear()
        self._in_flight.clear()
        if settled:
            with contextlib.suppress(ControlPlaneError):  # then the claims run out, and they are sent again
                async with self._store.writing() as connection:
                    await queue.settle(connection, settled, now=now)


def settled_as(
    delivery: Claimed, outcome: Outcome | None, now: datetime, *, schedule: tuple[float, ...] = RETRY_SECONDS
) -> Settled:
    """Return what becomes of a delivery after an attempt.

    Args:
        outcome: None where there is nobody to send it to any more.
    """
    if outcome is None:
        return Settled(delivery, queue.CANCELLED, error=DELETED)
    tried = attempt_values(outcome)
    status, error = outcome.http_status, outcome.error
    if outcome.delivered:
        return Settled(delivery, queue.SUCCEEDED, status, None, delivered_at=now, tried=tried)
    if outcome.is_final or not delivery.durable:
        return Settled(delivery, queue.FAILED, status, error, tried=tried)
    again = next_attempt(
        delivery.attempt, now, jitter=random.uniform(-1, 1), retry_after=outcome.retry_after, schedule=schedule
    )
    return Settled(delivery, queue.PENDING, status, error, min(again, delivery.expires_at), tried=tried)


def attempt_values(outcome: Outcome) -> dict[str, object]:
    """Return what is kept of an attempt, by column."""
    return {
        "request_url": outcome.url,
        "request_headers": dict(outcome.request_headers),
        "response_status": outcome.http_status,
        "response_body": outcome.response_body,
        "response_truncated": outcome.response_truncated,
        "duration_ms": outcome.duration_ms,
        "error": outcome.error,
        "created_at": outcome.started_at,
    }
