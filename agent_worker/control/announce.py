"""Writes what is told of a call into the outbox, in the transaction that makes it true.

It is told to workspace endpoints that subscribed, and to the hook of the agent that took the call. Nothing is sent from
here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.config.catalog import AgentCatalog
from agent_worker.errors import ControlPlaneError
from agent_worker.store import queries
from agent_worker.store.endpoints import endpoints_of
from agent_worker.store.reports import call_report
from agent_worker.webhooks import outbox
from agent_worker.webhooks.hooks import hook_for
from agent_worker.webhooks.outbox import Recipient, Told, event_id_of
from agent_worker.webhooks.payloads import (
    CONTROL_EVENTS,
    STATUS_EVENTS,
    call_analysis_payload,
    call_recording_payload,
    call_report_payload,
    call_status_payload,
    control_event_payload,
)

logger = logging.getLogger("agent_worker.control")

Record = Mapping[str, Any]

_NEXT = timedelta(microseconds=1)


class Announcer:
    """Announces on behalf of one control plane.

    Args:
        agents: returns the configuration in force, where agents' hooks stand.
    """

    def __init__(self, agents: Callable[[], Awaitable[AgentCatalog]]) -> None:
        self._agents = agents
        self._last: datetime | None = None

    async def events(self, connection: AsyncConnection, call: Record, events: Sequence[Record], now: datetime) -> None:
        """Announce events of a call that were not known before: as `call.status`, and by their own name.

        Args:
            call: the call's row, by column, with the metadata that is told (`queries.call_metadata`).
            events: in the contract's shape, in order.
        """
        told: list[Told] = []
        for event in events:
            at = datetime.fromisoformat(event["occurred_at"])
            name = event["event_type"]
            if name in STATUS_EVENTS:
                told.append(Told("call.status", event["id"], call_status_payload(event, call), at))
            if name in CONTROL_EVENTS:
                told.append(Told(name, event["id"], control_event_payload(event, call), at))
        await outbox.write(connection, await self._rows(connection, call, told, now))

    async def report(
        self,
        connection: AsyncConnection,
        call: Record,
        report: Record,
        now: datetime,
        just_ended: bool,
        *,
        hold: timedelta | None = None,
    ) -> None:
        """Announce the report of a call that is over; the same end is told once.

        Args:
            report: the contract's CallReport.
            just_ended: False where it was announced before: deliveries nobody has been sent yet then carry this report.
            hold: keep it back for so long, for an analysis to complete it; `analysis` or `release_report` lets it go.
        """
        told = _report_told(call, report, None if hold is None else now + hold)
        rows = await self._rows(connection, call, [told], now)
        if just_ended:
            await outbox.write(connection, rows)
        else:
            await outbox.rewrite(connection, rows, release=False)

    async def release_report(self, connection: AsyncConnection, call_id: str, now: datetime) -> None:
        """Send a report that was held back, as it is now; there will be no analysis."""
        found = await _call_and_report(connection, call_id)
        if found is not None:
            call, report = found
            rows = await self._rows(connection, call, [_report_told(call, report, None)], now)
            await outbox.rewrite(connection, rows, release=True)

    async def analysis(self, connection: AsyncConnection, call_id: str, now: datetime) -> None:
        """Announce that the report now has its analysis; a report not sent yet goes out with it."""
        found = await _call_and_report(connection, call_id)
        if found is None:
            return
        call, report = found
        await self.release_report(connection, call_id, now)
        event_id = event_id_of(call_id, "call.analysis", str(report["analysis_completed_at"]))
        payload = call_analysis_payload(report, call, event_id=event_id)
        at = datetime.fromisoformat(report["analysis_completed_at"] or report["updated_at"])
        told = [Told("call.analysis", event_id, payload, at)]
        await outbox.write(connection, await self._rows(connection, call, told, now))

    async def recording(
        self, connection: AsyncConnection, call_id: str, now: datetime, recording_url: str | None
    ) -> None:
        """Announce that the recording is ready, or has failed for good.

        Args:
            recording_url: where it can be fetched for a week, None where it has failed.
        """
        row = await queries.call_row(connection, call_id)
        recording = await queries.call_recording(connection, call_id)
        if row is None or recording is None:
            return
        call = {**row, "metadata": queries.call_metadata(row)}
        event_id = event_id_of(call_id, "call.recording", recording["status"])
        payload = call_recording_payload(recording, call, event_id=event_id, recording_url=recording_url, at=now)
        told = [Told("call.recording", event_id, payload, now)]
        await outbox.write(connection, await self._rows(connection, call, told, now))

    async def _rows(
        self, connection: AsyncConnection, call: Record, told: Sequence[Told], now: datetime
    ) -> list[dict[str, Any]]:
        if not told:
            return []
        endpoints = await endpoints_of(connection, call["organization_id"])
        catalog = await self._catalog()
        tags = outbox.tags_of(call)
        rows: list[dict[str, Any]] = []
        for one in told:
            recipients = [
                Recipient(endpoint["id"], endpoint["content_mode"])
                for endpoint in endpoints
                if outbox.is_subscribed(endpoint, one.event, agent_id=call["agent_id"], tags=tags)
            ]
            hook = None if catalog is None else hook_for(catalog, call, one.event)
            if hook is not None:
                recipients.append(Recipient(hook))
            rows += outbox.delivery_rows(call, one, recipients, self._later(now))
        return rows

    async def _catalog(self) -> AgentCatalog | None:
        try:
            return await self._agents()
        except ControlPlaneError as error:
            # what happened is kept all the same: a call is worth more than who is told of it
            logger.error(
                "agents' webhooks are not told: their configuration cannot be read", extra={"code": error.code}
            )
            return None

    def _later(self, now: datetime) -> datetime:
        """Return a time after every one returned before: deliveries of a call are sent in this order."""
        self._last = now if self._last is None else max(now, self._last + _NEXT)
        return self._last


async def _call_and_report(connection: AsyncConnection, call_id: str) -> tuple[Record, Record] | None:
    row = await queries.call_row(connection, call_id)
    report = await call_report(connection, call_id)
    if row is None or report is None:
        return None
    return {**row, "metadata": queries.call_metadata(row)}, report


def _report_told(call: Record, report: Record, not_before: datetime | None) -> Told:
    event_id = event_id_of(call["ended_by"] or call["id"], "call.report")
    # the report was made when the call ended, and says so itself, in wire form
    payload = call_report_payload(report, call, event_id=event_id, occurred_at=report["created_at"])
    return Told("call.report", event_id, payload, datetime.fromisoformat(report["created_at"]), not_before)
