"""Every Prometheus name, in one file: what a worker and what `serve` tell at `GET /metrics`.

No label has a value that grows with use: no ids, no numbers, no agents' names, no paths but the routes' templates.
The processes of calls tell nothing themselves; their worker reads it off the facts it delivers.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from agent_worker import __version__
from agent_worker.domain.call import Direction
from agent_worker.domain.fact import CallAnswered, CallEnded, CallOpened, Fact, TranscriptSpoken, TransferChanged
from agent_worker.domain.transfer import OPEN_STATUSES

disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_LATEST
WORKER = CollectorRegistry()
"""What a worker tells at its health port."""

SERVE = CollectorRegistry()
"""What `serve` tells at the API's port."""

_ANSWER_BUCKETS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 30.0)
_TURN_BUCKETS = (0.3, 0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.5, 4.0, 8.0)
_LEG_BUCKETS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0, 4.0)
_REQUEST_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_LAG_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 1.0)

# --- a worker

CALLS_LIVE = Gauge("agent_worker_calls_live", "Calls on this worker now.", registry=WORKER)
CALL_SLOTS = Gauge("agent_worker_call_slots", "Calls this worker takes at once.", registry=WORKER)
REGISTERED = Gauge("agent_worker_registered", "1 while LiveKit sends calls here.", registry=WORKER)
JOBS_REFUSED = Counter(
    "agent_worker_jobs_refused", "Calls LiveKit offered and this worker left to another.", ["reason"], registry=WORKER
)
CALLS_STARTED = Counter("agent_worker_calls_started", "Calls that reached this worker.", ["direction"], registry=WORKER)
CALLS_ENDED = Counter(
    "agent_worker_calls_ended",
    "Calls that are over, by disconnection reason.",
    ["direction", "reason"],
    registry=WORKER,
)
ANSWER_SECONDS = Histogram(
    "agent_worker_answer_seconds",
    "From the call's arrival, or its dialling, to its being answered.",
    ["direction"],
    buckets=_ANSWER_BUCKETS,
    registry=WORKER,
)
TURN_SECONDS = Histogram(
    "agent_worker_turn_seconds",
    "From the end of the caller's words to the agent's first sound.",
    buckets=_TURN_BUCKETS,
    registry=WORKER,
)
TURN_LEG_SECONDS = Histogram(
    "agent_worker_turn_leg_seconds",
    "Parts of a turn: end_of_turn, model (first token), voice (first audio).",
    ["leg"],
    buckets=_LEG_BUCKETS,
    registry=WORKER,
)
TRANSFERS = Counter(
    "agent_worker_transfers",
    "Attempts to put a caller through that are over, by kind and how: completed, failed, cancelled.",
    ["kind", "status"],
    registry=WORKER,
)
FACTS_SHIPPED = Counter("agent_worker_facts_shipped", "Facts the control plane has taken.", registry=WORKER)
FACTS_REJECTED = Counter("agent_worker_facts_rejected", "Journal lines nobody can use, put aside.", registry=WORKER)
JOURNALS = Gauge("agent_worker_journals", "Journals on this worker's disk.", registry=WORKER)
JOURNAL_BYTES_BEHIND = Gauge(
    "agent_worker_journal_behind_bytes", "What journals hold and the control plane has not taken.", registry=WORKER
)
JOURNAL_AGE_SECONDS = Gauge(
    "agent_worker_journal_age_seconds",
    "For how long facts have been refused or not answered; 0 = none.",
    registry=WORKER,
)
CONTROL_PLANE_UP = Gauge(
    "agent_worker_control_plane_up", "1 where the configuration could be asked for when last tried.", registry=WORKER
)
WORKER_LOOP_LAG = Histogram(
    "agent_worker_event_loop_lag_seconds", "How late the process's loop is.", buckets=_LAG_BUCKETS, registry=WORKER
)

# --- serve

API_REQUESTS = Counter("agent_worker_api_requests", "Requests answered.", ["method", "route", "status"], registry=SERVE)
API_REQUEST_SECONDS = Histogram(
    "agent_worker_api_request_seconds",
    "From a request to the end of its answer; streams left out.",
    ["method", "route"],
    buckets=_REQUEST_BUCKETS,
    registry=SERVE,
)
API_STREAMS = Gauge("agent_worker_api_streams", "Open streams of server-sent events.", registry=SERVE)
CALLS_OPEN = Gauge(
    "agent_worker_calls_open", "Calls in the database that have not ended.", ["direction"], registry=SERVE
)
WEBHOOK_ATTEMPTS = Counter(
    "agent_worker_webhook_attempts", "Attempts to deliver a webhook, by result.", ["event", "result"], registry=SERVE
)
DELIVERIES_PENDING = Gauge(
    "agent_worker_webhook_deliveries_pending", "Deliveries not made yet.", ["event"], registry=SERVE
)
DELIVERY_AGE_SECONDS = Gauge(
    "agent_worker_webhook_delivery_age_seconds", "Age of the oldest delivery not made yet; 0 = none.", registry=SERVE
)
JOBS = Gauge(
    "agent_worker_jobs", "What is done after calls, by kind: pending, or given up.", ["kind", "status"], registry=SERVE
)
JOB_AGE_SECONDS = Gauge("agent_worker_job_age_seconds", "Age of the oldest pending job; 0 = none.", registry=SERVE)
TRACES = Counter("agent_worker_traces", "Traces of calls sent to the collector, by result.", ["result"], registry=SERVE)
DATABASE_UP = Gauge("agent_worker_database_up", "1 where the database answers.", registry=SERVE)
SERVE_LOOP_LAG = Histogram(
    "agent_worker_event_loop_lag_seconds", "How late the process's loop is.", buckets=_LAG_BUCKETS, registry=SERVE
)

for _registry, _process in ((WORKER, "worker"), (SERVE, "serve")):
    ProcessCollector(registry=_registry)
    Gauge("agent_worker_info", "Which version runs.", ["version", "process"], registry=_registry).labels(
        __version__, _process
    ).set(1)

LAG_SECONDS = 1.0
MOST_CALLS = 10_000


def render(registry: CollectorRegistry) -> bytes:
    """Return everything of one process, in Prometheus' text form."""
    return generate_latest(registry)


async def watch_loop(lag: Histogram) -> None:
    """Measure how late the loop is, about once a second, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SECONDS
        await asyncio.sleep(LAG_SECONDS)
        lag.observe(max(0.0, loop.time() - due))


@dataclass
class _Known:
    direction: Direction | None = None
    opened_at: datetime | None = None
    turns: set[int] = field(default_factory=set)
    transfers: set[str] = field(default_factory=set)


class CallMeter:
    """Reads calls off their facts as these are delivered, each fact once."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, _Known] = OrderedDict()

    def observe(self, facts: Iterable[Fact]) -> None:
        """Count facts the control plane has taken."""
        for fact in facts:
            FACTS_SHIPPED.inc()
            match fact:
                case CallOpened():
                    self._open(fact)
                case CallAnswered():
                    self._answered(fact)
                case TranscriptSpoken():
                    self._spoken(fact)
                case TransferChanged():
                    self._transferred(fact)
                case CallEnded():
                    known = self._calls.pop(fact.call_id, _Known())
                    CALLS_ENDED.labels(known.direction or "", fact.disconnection_reason).inc()
                case _:
                    pass

    def _open(self, fact: CallOpened) -> None:
        CALLS_STARTED.labels(fact.direction).inc()
        self._calls[fact.call_id] = _Known(fact.direction, fact.at)
        if len(self._calls) > MOST_CALLS:
            self._calls.popitem(last=False)

    def _answered(self, fact: CallAnswered) -> None:
        known = self._calls.get(fact.call_id)
        if known is not None and known.opened_at is not None:
            ANSWER_SECONDS.labels(known.direction).observe((fact.at - known.opened_at).total_seconds())

    def _transferred(self, fact: TransferChanged) -> None:
        """Count an attempt once it is over: it is told again with whatever is added to it."""
        known = self._calls.get(fact.call_id)
        if known is None or fact.status in OPEN_STATUSES or fact.transfer_id in known.transfers:
            return
        known.transfers.add(fact.transfer_id)
        TRANSFERS.labels(fact.transfer_kind, fact.status).inc()

    def _spoken(self, fact: TranscriptSpoken) -> None:
        """Count a reply's latencies: an entry is told again with each leg that becomes known."""
        known = self._calls.get(fact.call_id)
        if known is None or fact.index in known.turns or fact.conversational_latency_ms is None:
            return
        known.turns.add(fact.index)
        TURN_SECONDS.observe(fact.conversational_latency_ms / 1000)
        legs = (("end_of_turn", fact.eou_ms), ("model", fact.llm_ttft_ms), ("voice", fact.tts_ttfb_ms))
        for leg, milliseconds in legs:
            if milliseconds is not None:
                TURN_LEG_SECONDS.labels(leg).observe(milliseconds / 1000)
