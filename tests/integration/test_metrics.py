"""`GET /metrics`: what a worker reads off the facts it delivers, and what `serve` tells of itself and the database."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from agent_worker import metrics
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered, TransferChanged
from agent_worker.domain.transfer import TransferKind, TransferStatus
from agent_worker.errors import ControlPlaneError, SettingsError
from agent_worker.store import jobs
from tests.call_facts import START, CallStory, whole_call
from tests.databases import held
from tests.integration.serving import serve_settings, serving
from tests.integration.shipping import Rig, Unreliable, until

TOKEN = "a-token-for-prometheus-0123"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Every sample by its name and labels, as Prometheus reads them."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(registry: CollectorRegistry) -> Samples:
    return samples(metrics.render(registry).decode())


def grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    return after.get(key, 0.0) - before.get(key, 0.0)


async def test_calls_are_counted_off_their_facts_once(rig: Rig) -> None:
    """Arrival, answer, turns with their legs and the end, each once, however often an entry was told."""
    before = told(metrics.WORKER)
    story = whole_call()
    again = [fact.model_copy(update={"id": f"call-1:{90 + n}"}) for n, fact in enumerate(story.facts[5:9])]
    rig.write([*story.facts[:-1], *again, story.facts[-1]])
    async with rig.shipping(on_delivered=metrics.CallMeter().observe):
        await rig.ended()
    after = told(metrics.WORKER)
    assert grown(before, after, "agent_worker_calls_started_total", direction="inbound") == 1
    assert grown(before, after, "agent_worker_calls_ended_total", direction="inbound", reason="user_hangup") == 1
    assert grown(before, after, "agent_worker_answer_seconds_count", direction="inbound") == 1
    assert grown(before, after, "agent_worker_answer_seconds_sum", direction="inbound") == 4.0
    assert grown(before, after, "agent_worker_turn_seconds_count") == 1
    assert grown(before, after, "agent_worker_turn_seconds_sum") == pytest.approx(1.2)
    assert grown(before, after, "agent_worker_turn_leg_seconds_sum", leg="model") == pytest.approx(0.35)
    assert grown(before, after, "agent_worker_turn_leg_seconds_sum", leg="voice") == pytest.approx(0.15)
    assert grown(before, after, "agent_worker_facts_shipped_total") == len(story.facts) + len(again)


async def test_attempts_at_a_transfer_are_counted_when_they_are_over(rig: Rig) -> None:
    """Each once, by kind and how it came out, however often its row is told."""
    before = told(metrics.WORKER)
    story = CallStory()
    story.opened()

    def attempt(name: str, kind: TransferKind, *statuses: TransferStatus) -> None:
        for status in statuses:
            about = {"transfer_id": name, "transfer_kind": kind, "status": status, "transfer_to": "+12015550123"}
            story.add(TransferChanged, created_at=START, **about)

    begun, over = TransferStatus.REQUESTED, TransferStatus.COMPLETED
    attempt("tr_1", TransferKind.WARM, begun, TransferStatus.SCREENING, TransferStatus.FAILED, TransferStatus.FAILED)
    attempt("tr_2", TransferKind.WARM, begun, TransferStatus.BRIDGING, over, over)
    attempt("tr_3", TransferKind.WARM, begun, over)
    attempt("tr_4", TransferKind.BLIND, begun, TransferStatus.CANCELLED)
    attempt("tr_5", TransferKind.BLIND, begun)
    story.ended()
    rig.write(story.facts)
    async with rig.shipping(on_delivered=metrics.CallMeter().observe):
        await rig.ended()
    after = told(metrics.WORKER)
    counted = {
        (kind, status): grown(before, after, "agent_worker_transfers_total", kind=kind, status=status)
        for kind in TransferKind
        for status in TransferStatus
    }
    assert {key: count for key, count in counted.items() if count} == {
        ("warm", "failed"): 1,
        ("warm", "completed"): 2,
        ("blind", "cancelled"): 1,
    }


async def test_lines_nobody_can_use_are_counted(rig: Rig) -> None:
    """What was put aside is a number somebody can be alerted by."""
    before = told(metrics.WORKER)
    rig.write(whole_call().facts, tail=b"")
    path = rig.path()
    path.write_bytes(b"not json\n" + path.read_bytes())
    async with rig.shipping():
        await rig.ended()
    assert grown(before, told(metrics.WORKER), "agent_worker_facts_rejected_total") == 1


async def test_what_is_not_delivered_shows_with_its_size_and_age(rig: Rig) -> None:
    """While the control plane takes nothing, bytes and age grow; once it does, both are 0."""
    down = True
    control = Unreliable(
        rig.control, lambda _facts: ControlPlaneError("down", "Down.", retryable=True) if down else None
    )
    path = rig.write(whole_call().facts)
    shipper = JournalShipper(rig.journals, control, worker_id="w1", lease_seconds=5, poll_seconds=0.02)
    shipper.start()
    await until(lambda: shipper.standing().behind_seconds > 0.3)
    assert (shipper.standing().journals, shipper.standing().behind_bytes) == (1, path.stat().st_size)
    down = False
    await until(lambda: not path.exists())
    await until(lambda: shipper.standing().journals == 0)
    assert (shipper.standing().behind_bytes, shipper.standing().behind_seconds) == (0, 0.0)
    await shipper.aclose()


async def scraped(url: str, token: str = TOKEN) -> Samples:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return samples(answer.text)


async def test_serve_tells_what_is_open_and_what_waits(tmp_path: Path, database_url: str) -> None:
    """Open calls by direction, jobs by kind and status, and how long the oldest has been waiting."""
    settings = serve_settings(tmp_path, database_url=database_url, metrics_token=TOKEN)
    control = EmbeddedControlPlane(settings)
    live = CallStory("live", start=utc_now())
    live.opened(direction="outbound")
    live.add(CallAnswered)
    await control.record([*live.facts, *whole_call("over").facts])
    async with control.writing() as connection:
        now, later = utc_now(), utc_now() + timedelta(hours=1)
        await jobs.enqueue(connection, "odd", "1", now=now - timedelta(minutes=2), due_at=later)
        await jobs.enqueue(connection, "odd", "2", now=now, due_at=later)
    async with serving(settings) as url:
        found = await scraped(url)
    await control.aclose()
    assert found["agent_worker_calls_open", (("direction", "outbound"),)] == 1
    assert found["agent_worker_calls_open", (("direction", "inbound"),)] == 0
    assert found["agent_worker_jobs", (("kind", "odd"), ("status", "pending"))] == 2
    assert 120 <= found["agent_worker_job_age_seconds", ()] < 240
    assert found["agent_worker_database_up", ()] == 1
    assert found["process_resident_memory_bytes", ()] > 0


async def test_requests_are_counted_by_the_template_of_their_route(tmp_path: Path) -> None:
    """Ids, made-up paths and odd methods become no labels, however many are tried."""
    settings = serve_settings(tmp_path, metrics_token=TOKEN)
    async with serving(settings) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
        before = await scraped(url)
        for number in range(20):
            await client.get(f"/nothing/{number}")
            await client.request(f"ODD{number}", "/healthz")
        for _ in range(3):
            await client.get("/healthz")
        await client.get("/v1/organization")
        after = await scraped(url)
    requests = {key: value for key, value in after.items() if key[0] == "agent_worker_api_requests_total"}
    assert grown(before, after, "agent_worker_api_requests_total", method="GET", route="/healthz", status="200") == 3
    assert grown(before, after, "agent_worker_api_requests_total", method="GET", route="none", status="404") == 20
    assert grown(before, after, "agent_worker_api_request_seconds_count", method="GET", route="/healthz") == 3
    assert not [key for key in requests if "ODD" in str(key) or "/nothing/" in str(key)]


async def test_metrics_need_their_token_and_are_not_there_without_one(tmp_path: Path) -> None:
    """A wrong token is 401, none set is 404; one too short does not start."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        async with serving(serve_settings(tmp_path, metrics_token=TOKEN)) as url:
            assert (await client.get(f"{url}/metrics")).status_code == 401
            wrong = {"authorization": f"Bearer {TOKEN}x"}
            assert (await client.get(f"{url}/metrics", headers=wrong)).status_code == 401
        async with serving(serve_settings(tmp_path)) as url:
            assert (await client.get(f"{url}/metrics")).status_code == 404
    with pytest.raises(SettingsError, match="AGENT_WORKER_METRICS_TOKEN"):
        async with serving(serve_settings(tmp_path, metrics_token="short")):
            pass


async def test_a_database_that_is_away_is_told_not_an_error(tmp_path: Path) -> None:
    """Metrics are what one looks at then: they answer, and say so."""
    (tmp_path / "file").write_text("in the way")
    database = f"sqlite:///{tmp_path / 'file' / 'test.db'}"
    async with serving(serve_settings(tmp_path, database_url=database, metrics_token=TOKEN)) as url:
        found = await scraped(url)
    assert found["agent_worker_database_up", ()] == 0


async def test_scraping_waits_for_nobody_who_holds_the_calls(tmp_path: Path, database_url: str) -> None:
    """A stuck transaction is a database that is away, within the time any query waits."""
    settings = serve_settings(tmp_path, database_url=database_url, metrics_token=TOKEN)
    async with serving(settings) as url:
        await scraped(url)
        async with held(database_url):
            found = await scraped(url)
    assert ("agent_worker_database_up", ()) in found


def test_every_name_is_ours_and_no_label_can_grow() -> None:
    """One prefix for all, and labels only with values from closed sets."""
    closed = {
        "direction",
        "reason",
        "leg",
        "method",
        "route",
        "status",
        "event",
        "result",
        "kind",
        "version",
        "process",
    }
    for registry in (metrics.WORKER, metrics.SERVE):
        for name, labels in told(registry):
            assert name.startswith(("agent_worker_", "process_"))
            assert {label for label, _ in labels} <= closed | {"le"}
