"""The `ControlPlane` protocol: everything a live call asks of, or tells, the rest of the product."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal
from agent_worker.domain.fact import CallEnded, Fact


class ControlPlane(Protocol):
    """What a worker needs; every verb is idempotent, so a lost reply is answered by asking again.

    Raises (all verbs): `ControlPlaneError`, with `retryable` set.
    """

    async def open_call(self, offer: CallOffer, *, budget_seconds: float) -> CallPlan | CallRefusal:
        """Return which agent takes the call and how it is configured, or why none does.

        Args:
            budget_seconds: what is left of the time the call may ring; the answer is there before it is over.
        """

    async def record(self, facts: Sequence[Fact]) -> None:
        """Apply facts of one or several calls, in the order given; ids already applied change nothing."""

    async def renew_leases(self, call_ids: Sequence[str], *, worker_id: str, until: datetime) -> None:
        """Say that the workers of these calls are alive; a lease that runs out is swept."""

    async def finish_call(self, ended: CallEnded) -> None:
        """End the call: row, heuristic report and outbox rows in one transaction."""

    async def aclose(self) -> None:
        """Let go of connections."""
