"""What follows from facts in the same transaction: the report of a call that is over, and the outbox rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.control.cost import PriceTable, cost_of
from agent_worker.control.heuristic_report import CallRecord, heuristic_report
from agent_worker.store import queries
from agent_worker.store.facts import Applied
from agent_worker.store.tables import reports
from agent_worker.store.upsert import insert_or_replace
from agent_worker.webhooks import outbox

Record = dict[str, Any]


async def settle(connection: AsyncConnection, applied: Applied, prices: PriceTable, now: datetime) -> None:
    """Bring reports and outbox up to what was just applied.

    A call that ended gets its report and its `call.report` deliveries; facts that arrive later refresh the
    report, and the deliveries nobody has been sent yet, for as long as the report is the heuristic one.
    """
    endpoints: dict[str, list[Record]] = {}
    for call_id in sorted(applied.calls):
        row = await queries.call_row(connection, call_id)
        if row is None:  # deleted by somebody since
            continue
        call = {**row, "metadata": queries.call_metadata(row)}
        organization = call["organization_id"]
        if organization not in endpoints:
            endpoints[organization] = await outbox.endpoints_of(connection, organization)
        told = endpoints[organization]
        new_ids = {event.id for event in applied.events if event.call_id == call_id}
        if new_ids and told:
            events = [e for e in await queries.call_events(connection, call_id) if e["id"] in new_ids]
            await outbox.enqueue_events(connection, call, events, told, now)
        if call["ended_at"] is not None:
            await _report(connection, call, told, call_id in applied.ended, prices, now)


async def _report(
    connection: AsyncConnection,
    call: Record,
    endpoints: list[Record],
    just_ended: bool,
    prices: PriceTable,
    now: datetime,
) -> None:
    known = await queries.call_report(connection, call["id"])
    if known is not None and known["analysis_status"] != "heuristic":
        return
    report = heuristic_report(await _record(connection, call, prices))
    await insert_or_replace(connection, reports, [report])
    wire = await queries.call_report(connection, call["id"])
    if wire is None or not endpoints:
        return
    if just_ended:
        await outbox.enqueue_report(connection, call, wire, endpoints, now)
    else:
        await outbox.refresh_report(connection, call, wire, endpoints, now)


async def _record(connection: AsyncConnection, call: Mapping[str, Any], prices: PriceTable) -> CallRecord:
    call_id = call["id"]
    return CallRecord(
        row=call,
        entries=await queries.transcript(connection, call_id),
        events=await queries.call_events(connection, call_id),
        transfers=await queries.call_transfers(connection, call_id),
        recording=await queries.call_recording(connection, call_id),
        cost=cost_of(await queries.call_usage(connection, call_id), prices),
    )
