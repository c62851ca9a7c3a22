"""Sends each call that is over as one trace to an OpenTelemetry collector: the span tree the API shows.

It is a job of `serve`, after the call and off its path. Nothing of OpenTelemetry is loaded where no collector is set.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from agent_worker import __version__, metrics
from agent_worker.control.span_tree import span_tree
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.store import jobs, queries

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.control")

EXPORT_TRACE = "export_trace"
"""Kind of the job."""

COMPLETE_AFTER = timedelta(seconds=5)
"""How long a call's last facts may take to follow its end."""

MOST_ATTEMPTS = 8
"""After so many a trace is dropped: it is worth less than a row that stays for ever."""

TIMEOUT_SECONDS = 5.0


class Reads(Protocol):
    """What the exporter needs of a control plane."""

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Open a transaction that only reads."""


async def enqueue_traces(connection: AsyncConnection, call_ids: Collection[str], now: datetime) -> None:
    """Have these calls, which are over, sent as traces."""
    for call_id in sorted(call_ids):
        await jobs.enqueue(connection, EXPORT_TRACE, call_id, call_id=call_id, now=now, due_at=now + COMPLETE_AFTER)


class TraceExporter:
    """Exports over OTLP/HTTP; headers, certificates and compression are OpenTelemetry's own variables.

    Args:
        settings: `otlp_endpoint` is the collector's base URL.
    """

    def __init__(self, control: Reads, settings: Settings) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        self._control = control
        self._resource = _resource()
        self._exporter = OTLPSpanExporter(
            endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_SECONDS
        )

    async def run(self, job: jobs.Job) -> None:
        """Send one call's trace; sent again after a crash, it has the same ids."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        call_id = job.call_id or ""
        async with self._control.reading() as connection:
            row = await queries.call_row(connection, call_id)
            entries = await queries.transcript(connection, call_id)
            events = await queries.call_events(connection, call_id)
        tree = span_tree(row, entries, events) if row is not None else {}
        if row is None or not tree:
            return
        spans = spans_of(tree, row, self._resource)
        result = await asyncio.to_thread(self._exporter.export, spans)
        if result is SpanExportResult.SUCCESS:
            metrics.TRACES.labels("exported").inc()
        elif job.attempts < MOST_ATTEMPTS:
            raise ControlPlaneError("collector_unavailable", "The collector did not take a trace.", retryable=True)
        else:
            logger.warning("trace dropped", extra={"call_id": call_id, "attempts": job.attempts})
            metrics.TRACES.labels("dropped").inc()


def spans_of(tree: Mapping[str, Any], row: Mapping[str, Any], resource: Resource) -> Sequence[ReadableSpan]:
    """Return the tree as OpenTelemetry's spans, the call's own first.

    Args:
        tree: the contract's `span_tree`; its trace id is the trace's.
        row: the call's row, by column.
    """
    return list(_spans(tree["root"], "0", None, _trace_id(tree["trace_id"]), row, resource))


def _spans(
    span: Mapping[str, Any],
    path: str,
    parent: SpanContext | None,
    trace_id: int,
    row: Mapping[str, Any],
    resource: Resource,
) -> Iterator[ReadableSpan]:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

    context = SpanContext(
        trace_id, _id(f"{row['id']}/{path}", 8), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    failed = parent is None and row["status"] == "failed"
    yield ReadableSpan(
        name=span["name"],
        context=context,
        parent=parent,
        resource=resource,
        kind=SpanKind.SERVER if parent is None else SpanKind.INTERNAL,
        attributes={f"agent_worker.{name}": value for name, value in span["attributes"].items()},
        status=Status(StatusCode.ERROR, row["failure_cause"]) if failed else Status(StatusCode.UNSET),
        start_time=_nanoseconds(row["created_at"], span["start_ms"]),
        end_time=_nanoseconds(row["created_at"], span["end_ms"]),
    )
    for number, child in enumerate(span["children"]):
        yield from _spans(child, f"{path}.{number}", context, trace_id, row, resource)


def _resource() -> Resource:
    """Return what is told of this service: what the environment says, and our name where it gives none."""
    from opentelemetry.sdk.resources import Resource

    told = Resource.create({"service.version": __version__})
    unnamed = str(told.attributes["service.name"]).startswith("unknown_service")
    return told.merge(Resource({"service.name": "agent-worker"})) if unnamed else told


def _nanoseconds(start: datetime, offset_ms: int) -> int:
    return round(start.timestamp() * 1_000_000) * 1_000 + offset_ms * 1_000_000


def _trace_id(text: str) -> int:
    try:
        return int(text, 16) if len(text) == 32 else _id(text, 16)
    except ValueError:
        return _id(text, 16)


def _id(text: str, octets: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:octets], "big")
