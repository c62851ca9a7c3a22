"""A delivery sent by hand: at once, under its own id, whatever became of it before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.settings import Settings
from agent_worker.store import deliveries as queue
from agent_worker.webhooks.dispatcher import LEASE, Store, settled_as
from agent_worker.webhooks.sending import Outcome, send
from agent_worker.webhooks.targets import DELETED, targets_of

ERASED = "What it said was erased."


class NotPossible(Exception):
    """It cannot be sent; the sentence says why.

    Attributes:
        code: machine word, upper case.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


async def redeliver(
    store: Store,
    client: EgressClient,
    settings: Settings,
    catalog: Callable[[], AgentCatalog],
    delivery_id: str,
) -> Outcome | None:
    """Send a delivery now and return what came of it, None where there is no such delivery.

    One that was delivered before stays so, whatever comes of this; one that waits goes on waiting if this fails.

    Raises:
        NotPossible: its endpoint is gone, what it said was erased, or it is being sent at this moment.
        ControlPlaneError: the database is locked or down.
    """
    now = utc_now()
    async with store.writing() as connection:
        until = now + LEASE + timedelta(seconds=5)
        found = await queue.claim_one(connection, settings.organization_id, delivery_id, until=until)
        if found is None:
            return None
        delivery, held_as = found
        # raising undoes the claim
        if not delivery.attempt:
            raise NotPossible("DELIVERY_IN_PROGRESS", "It is being sent at this moment.")
        if not delivery.payload:
            raise NotPossible("CANNOT_REDELIVER", ERASED)
        targets = await targets_of(connection, [delivery.endpoint_id], settings, catalog, now)
        target = targets.get(delivery.endpoint_id)
        if target is None:
            raise NotPossible("CANNOT_REDELIVER", DELETED)
    outcome = await send(client, target, delivery.id, delivery.payload)
    settled = settled_as(delivery, outcome, utc_now())
    if held_as != queue.DELIVERING and not outcome.delivered:
        settled = replace(settled, status=held_as, next_attempt_at=None)
    tried = {**(settled.tried or {}), "trigger": queue.MANUAL}
    async with store.writing() as connection:
        await queue.settle(connection, [replace(settled, tried=tried, held_as=held_as)], now=utc_now())
    return outcome
