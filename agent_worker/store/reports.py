"""Reports: what is known of a call once somebody has looked at it, in the contract's shape (7.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.store.call_search import index_call
from agent_worker.store.columns import wire_time
from agent_worker.store.queries import transcript
from agent_worker.store.tables import calls, deliveries, recordings, reports
from agent_worker.store.upsert import insert_or_replace

Record = dict[str, Any]

_TIMES = ("created_at", "updated_at", "analysis_completed_at")
_AVERAGES = {
    "average_transcriber_latency": "eou_ms",
    "average_agent_latency": "llm_ttft_ms",
    "average_synthesizer_latency": "tts_ttfb_ms",
}
"""Names other platforms have for the mean of a leg of the agent's turns."""

_WAITING = ("pending", "delivering")
_GONE_WRONG = ("failed", "expired")


async def call_report(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return the contract's CallReport with its transcript, or None before there is one."""
    query = (
        select(
            reports,
            calls.c.disconnection_reason,
            recordings.c.status.label("recording_status"),
            recordings.c.duration_ms.label("recording_ms"),
        )
        .join(calls, calls.c.id == reports.c.call_id)
        .join(recordings, recordings.c.call_id == reports.c.call_id, isouter=True)
        .where(reports.c.call_id == call_id)
    )
    found = (await connection.execute(query)).mappings().one_or_none()
    if found is None:
        return None
    row = dict(found)
    del row["call_id"]
    row["artifacts"] = _as_of_now(row["artifacts"], row.pop("recording_status"), row.pop("recording_ms"))
    for name in _TIMES:
        row[name] = wire_time(row[name])
    sent = await _report_deliveries(connection, call_id)
    return {
        "session_id": call_id,
        **row,
        "transcript": {"entries": await transcript(connection, call_id)},
        "latency": row["metadata"].get("latency", {}),
        **{name: _average(row, leg) for name, leg in _AVERAGES.items()},
        "unpriced": row["metadata"].get("unpriced", []),
        **_aggregates(sent),
        "webhook_deliveries": [_told(delivery) for delivery in sent],
    }


def _as_of_now(artifacts: Record, status: str | None, duration_ms: int | None) -> Record:
    """Return what the call left behind; its recording goes on after the report was made."""
    known = artifacts.get("recording")
    if known is None or status is None:
        return artifacts
    return {**artifacts, "recording": {**known, "status": status, "duration_ms": duration_ms}}


async def report_row(connection: AsyncConnection, call_id: str) -> Record | None:
    """Return the report's own row, by column."""
    found = (await connection.execute(select(reports).where(reports.c.call_id == call_id))).mappings().one_or_none()
    return None if found is None else dict(found)


async def save_report(connection: AsyncConnection, report: Mapping[str, Any]) -> None:
    """Write a report, by column, over the one that is there; columns that are not given become empty."""
    await insert_or_replace(connection, reports, [report])
    await index_call(connection, report["call_id"])


async def lock_call(connection: AsyncConnection, call_id: str) -> None:
    """Keep everybody else from changing the call and what is made of it, until the transaction ends."""
    await connection.execute(select(calls.c.id).where(calls.c.id == call_id).with_for_update())


async def _report_deliveries(connection: AsyncConnection, call_id: str) -> list[Record]:
    table = deliveries.c
    query = (
        select(deliveries)
        .where(table.call_id == call_id, table.event == "call.report")
        .order_by(table.created_at, table.id)
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def _average(report: Mapping[str, Any], leg: str) -> float | None:
    found: float | None = report["metadata"].get("latency", {}).get(leg, {}).get("average")
    return found


def _told(delivery: Mapping[str, Any]) -> Record:
    return {
        "endpointId": delivery["endpoint_id"],
        "deliveryId": delivery["id"],
        "eventId": delivery["event_id"],
        "delivered": delivery["status"] == "succeeded",
        "status": delivery["http_status"],
        "error": delivery["error"],
        "createdAt": wire_time(delivery["created_at"]),
    }


def _aggregates(sent: Sequence[Mapping[str, Any]]) -> Record:
    """Return the older fields that tell of all deliveries at once: the worst state is the state."""
    waiting = [delivery for delivery in sent if delivery["status"] in _WAITING]
    wrong = [delivery for delivery in sent if delivery["status"] in _GONE_WRONG]
    retries = [delivery["next_attempt_at"] for delivery in waiting if delivery["next_attempt_at"]]
    delivered = [delivery["delivered_at"] for delivery in sent if delivery["delivered_at"]]
    errors = [delivery["error"] for delivery in sent if delivery["error"] and delivery["status"] != "succeeded"]
    status = "not_configured" if not sent else "failed" if wrong else "pending" if waiting else "delivered"
    next_retry: datetime | None = min(retries, default=None)
    return {
        "post_call_webhook_status": status,
        "post_call_webhook_attempts": sum(delivery["attempt_count"] for delivery in sent),
        "post_call_webhook_next_retry_at": wire_time(next_retry),
        "post_call_webhook_delivered_at": wire_time(max(delivered, default=None)),
        "post_call_webhook_error": errors[-1] if errors else None,
    }
