"""Calls as OpenTelemetry traces, received by a real OTLP/HTTP endpoint on loopback and decoded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import select, update

from agent_worker.control import traces
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.span_tree import span_tree
from agent_worker.domain.call import DisconnectionReason, utc_now
from agent_worker.domain.fact import CallAnswered
from agent_worker.settings import Settings
from agent_worker.store import queries, tables
from tests.call_facts import CallStory
from tests.integration.serving import serve_settings, serving
from tests.integration.shipping import until

CALL_ID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"


class Collector:
    """Takes traces over OTLP/HTTP, or refuses them."""

    def __init__(self) -> None:
        self.refuses = 0
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.refused = 0
        self.url = ""

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refuses:
            self.refuses -= 1
            self.refused += 1
            return web.Response(status=400)
        self.headers.append(dict(request.headers))
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(body=b"", content_type="application/x-protobuf")


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.add_routes([web.post("/v1/traces", made.take)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def told_call(call_id: str = CALL_ID, *, reason: DisconnectionReason = DisconnectionReason.USER_HANGUP) -> CallStory:
    story = CallStory(call_id)
    story.opened()
    story.add(CallAnswered)
    story.said(0, "agent", "Good morning.", ended_at=story.start)
    story.said(1, "user", "A secret word.", eou_ms=310.0)
    story.said(
        2,
        "agent",
        "Hi.",
        llm_ttft_ms=350.0,
        tts_ttfb_ms=150.0,
        conversational_latency_ms=900.0,
        latency_status="complete",
    )
    story.ended(reason)
    return story


async def record(settings: Settings, *stories: CallStory) -> dict[str, Any]:
    """Record calls as a worker does, let their traces be due, and return the first call's span tree."""
    control = EmbeddedControlPlane(settings)
    try:
        for story in stories:
            await control.record(story.facts)
        async with control.writing() as connection:
            await connection.execute(
                update(tables.jobs).where(tables.jobs.c.kind == traces.EXPORT_TRACE).values(due_at=utc_now())
            )
        async with control.reading() as connection:
            call_id = stories[0].call_id
            row = await queries.call_row(connection, call_id)
            assert row is not None
            return span_tree(
                row, await queries.transcript(connection, call_id), await queries.call_events(connection, call_id)
            )
    finally:
        await control.aclose()


async def jobs_left(settings: Settings) -> int:
    control = EmbeddedControlPlane(settings)
    try:
        async with control.reading() as connection:
            kind = tables.jobs.c.kind == traces.EXPORT_TRACE
            return len((await connection.execute(select(tables.jobs.c.id).where(kind))).all())
    finally:
        await control.aclose()


async def all_done(settings: Settings) -> None:
    async with asyncio.timeout(30):
        while await jobs_left(settings):  # noqa: ASYNC110 - the runner has no event for it
            await asyncio.sleep(0.05)


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in span.attributes}


def flat(span: dict[str, Any]) -> list[dict[str, Any]]:
    return [span, *(each for child in span["children"] for each in flat(child))]


async def test_a_call_arrives_as_the_tree_the_api_shows(tmp_path: Path, database_url: str) -> None:
    """Same trace id, names, times and parents; who was called and what was said stays here."""
    async with collecting() as collector:
        settings = serve_settings(tmp_path, database_url=database_url, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        tree = await record(settings, told_call())
        async with serving(settings):
            await until(lambda: bool(collector.requests))
            await all_done(settings)
    spans, shown = collector.spans, flat(tree["root"])
    assert [span.name for span in spans] == [span["name"] for span in shown]
    assert {"call", "greeting", "turn", "stt", "llm", "tts"} <= {span.name for span in spans}
    assert {span.trace_id.hex() for span in spans} == {CALL_ID.replace("-", "")}
    start = spans[0].start_time_unix_nano
    assert [(span.start_time_unix_nano - start) // 1_000_000 for span in spans] == [one["start_ms"] for one in shown]
    assert [(span.end_time_unix_nano - start) // 1_000_000 for span in spans] == [one["end_ms"] for one in shown]
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    assert spans[0].parent_span_id == b""
    turn = next(span for span in spans if span.name == "turn")
    assert by_id[turn.parent_span_id].name == "call"
    assert by_id[next(span for span in spans if span.name == "llm").parent_span_id] is turn
    assert attributes(spans[0])["agent_worker.disconnection_reason"] == "user_hangup"
    assert attributes(turn)["agent_worker.conversational_latency_ms"] == 900.0
    [resource] = collector.requests[0].resource_spans
    named = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
    assert named["service.name"] == "agent-worker"
    for private in ("secret word", "Good morning", "+1201"):
        assert private not in str(collector.requests)


async def test_a_failed_call_is_an_error_and_one_nobody_answered_is_no_trace(tmp_path: Path) -> None:
    """The collector can tell them apart; a job without a trace is done all the same."""
    unanswered = CallStory("b" * 32)
    unanswered.opened()
    unanswered.ended(DisconnectionReason.CANCELLED)
    async with collecting() as collector:
        settings = serve_settings(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        await record(settings, told_call(reason=DisconnectionReason.WORKER_LOST), unanswered)
        async with serving(settings):
            await all_done(settings)
    [root] = [span for span in collector.spans if not span.parent_span_id]
    assert root.status.code == 2
    assert {span.trace_id.hex() for span in collector.spans} == {CALL_ID.replace("-", "")}


async def test_a_collector_that_refuses_is_tried_again_with_the_same_ids(tmp_path: Path) -> None:
    """One refusal costs time, and the trace then is the one it would have been."""
    async with collecting() as collector:
        collector.refuses = 1
        settings = serve_settings(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        await record(settings, told_call())
        async with serving(settings):
            await until(lambda: bool(collector.requests))
        assert collector.refused == 1
        first = [span.span_id for span in collector.spans]
        collector.requests.clear()
        again = serve_settings(tmp_path / "again", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        await record(again, told_call())
        async with serving(again):
            await until(lambda: bool(collector.requests))
    assert [span.span_id for span in collector.spans] == first


async def test_a_trace_nobody_takes_is_dropped_in_the_end(tmp_path: Path) -> None:
    """The last attempt leaves no row behind: a collector that is gone for good fills no table."""
    async with collecting() as collector:
        collector.refuses = 1_000
        settings = serve_settings(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        await record(settings, told_call())
        control = EmbeddedControlPlane(settings)
        async with control.writing() as connection:
            await connection.execute(update(tables.jobs).values(attempts=traces.MOST_ATTEMPTS - 1))
        await control.aclose()
        async with serving(settings):
            await all_done(settings)
    assert collector.refused >= 1
    assert collector.requests == []


async def test_without_a_collector_there_are_no_jobs(tmp_path: Path) -> None:
    """Off is off: no row is written for a call that ends."""
    settings = serve_settings(tmp_path)
    await record(settings, told_call())
    assert await jobs_left(settings) == 0


def test_without_a_collector_nothing_of_it_is_loaded(root: Path) -> None:
    """An application without a collector imports neither the SDK nor the exporter."""
    program = (
        "import sys, tempfile; from pathlib import Path\n"
        "from agent_worker.app import create_app; from agent_worker.settings import Settings\n"
        "create_app(Settings(data_dir=Path(tempfile.mkdtemp())))\n"
        "heavy = ('opentelemetry.sdk', 'opentelemetry.exporter', 'opentelemetry.proto')\n"
        "print(sorted(name for name in heavy if name in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
