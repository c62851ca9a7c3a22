"""What follows from facts in the same transaction: the report of a call that is over, its analysis, the outbox rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.control.announce import Announcer
from agent_worker.control.cost import PriceTable, cost_of, telephony_usage
from agent_worker.control.heuristic_report import CallRecord, heuristic_report, with_analysis
from agent_worker.store import jobs, queries
from agent_worker.store.facts import Applied
from agent_worker.store.reports import call_report, report_row, save_report

ANALYSIS = "analysis"
"""Kind of the job that has a model read a call that is over."""

HOLD = timedelta(seconds=60)
"""How long `call.report` waits for the analysis, so that one delivery tells both; then it goes out without."""

Record = dict[str, Any]


async def settle(
    connection: AsyncConnection,
    applied: Applied,
    prices: PriceTable,
    announcer: Announcer,
    now: datetime,
    *,
    analyse: bool,
) -> None:
    """Bring reports and outbox up to what was just applied.

    A call that ended gets its report, its `call.report` deliveries and, where somebody spoke, the job of its analysis.
    Facts that arrive later refresh what the report says of facts, and the deliveries nobody has been sent yet.
    """
    for call_id in sorted(applied.calls):
        call = await call_of(connection, call_id)
        if call is None:  # deleted by somebody since
            continue
        new_ids = {event.id for event in applied.events if event.call_id == call_id}
        if new_ids:
            events = [e for e in await queries.call_events(connection, call_id) if e["id"] in new_ids]
            await announcer.events(connection, call, events, now)
        if call["ended_at"] is not None:
            just_ended = call_id in applied.ended
            await make_report(connection, call, prices, anew=just_ended)
            report = await call_report(connection, call_id)
            assert report is not None, "it was just made"
            # words that arrive after the end are a reason as well, whatever order facts come in
            is_open = just_ended or report["analysis_status"] == "heuristic"
            asked = analyse and is_open and await enqueue_analysis(connection, call, now, again=just_ended)
            await announcer.report(connection, call, report, now, just_ended, hold=HOLD if asked else None)


async def call_of(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return the call's row, by column, with the metadata that is told of it."""
    row = await queries.call_row(connection, call_id)
    return row and {**row, "metadata": queries.call_metadata(row)}


async def enqueue_analysis(
    connection: AsyncConnection, call: Mapping[str, Any], now: datetime, *, again: bool = True
) -> bool:
    """Have the call analysed; returns False where nobody said anything to the agent.

    Args:
        again: also where that is under way; what it comes to is then dropped.
    """
    if call["answered_at"] is None or call["purged_at"] is not None:
        return False
    entries = await queries.transcript(connection, call["id"])
    if not any(entry["source"] == "user" and entry["text"].strip() for entry in entries):
        return False
    await jobs.enqueue(connection, ANALYSIS, call["id"], call_id=call["id"], now=now, again=again)
    return True


async def make_report(
    connection: AsyncConnection,
    call: Mapping[str, Any],
    prices: PriceTable,
    *,
    anew: bool = False,
    analysis: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of what is known of the call now; an analysis that is there stays, unless it is made anew.

    Args:
        call: as `call_of` returns it; it need not be over.
        analysis: the columns of a new analysis; its `notes` are kept in the report's metadata.
    """
    known = None if anew else await report_row(connection, call["id"])
    columns = dict(analysis or {})
    notes = columns.pop("notes", None) or (known or {}).get("metadata", {}).get("analysis")
    report = heuristic_report(await call_record(connection, call, prices, (notes or {}).get("usage", ())))
    if known is not None:
        report = with_analysis(report, known)
    if notes:
        report["metadata"] = {**report["metadata"], "analysis": notes}
    await save_report(connection, {**report, **columns})


async def call_record(
    connection: AsyncConnection,
    call: Mapping[str, Any],
    prices: PriceTable,
    more_usage: Sequence[Mapping[str, Any]] = (),
) -> CallRecord:
    """Return everything known of the call.

    Args:
        more_usage: lines of what was used for it after it was over.
    """
    call_id = call["id"]
    used = await queries.call_usage(connection, call_id)
    return CallRecord(
        row=call,
        entries=await queries.transcript(connection, call_id),
        events=await queries.call_events(connection, call_id),
        transfers=await queries.call_transfers(connection, call_id),
        recording=await queries.call_recording(connection, call_id),
        cost=cost_of([*used, *telephony_usage(call), *more_usage], prices),
    )
