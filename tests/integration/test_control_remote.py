"""The control plane on another host, when it or the way to it fails: nothing is lost, and calls are answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_worker.call.journal import Journal
from agent_worker.config import catalog_cache
from agent_worker.config.catalog_cache import REMOTE_FILE
from agent_worker.control import wire
from agent_worker.control.make import check_control, make_catalog, make_control
from agent_worker.control.remote import UNREACHABLE_EVENT, RemoteControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallPlan, CallRefusal, DisconnectionReason, PlanEvent, utc_now
from agent_worker.domain.fact import encode
from agent_worker.errors import ControlPlaneError, SettingsError
from agent_worker.settings import Settings
from agent_worker.store import queries
from agent_worker.store.engine import Database
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.testing.serve_process import TOKEN, ServeProcess
from tests.call_facts import whole_call
from tests.integration.loopback_tls import Authority
from tests.integration.serving import DESK, NUMBER, OFFER, Hop, Remote, remote_to, serve_settings, serving
from tests.integration.shipping import until

Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """Run something that is not `serve`, and answers as the handler does."""
    app = web.Application(client_max_size=2**25)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def cached_worker(folder: Path, *agents: dict[str, Any], **changes: Any) -> AsyncIterator[Remote]:
    """Lend a worker's end that has seen a configuration, of a control plane that is gone now."""
    settings = serve_settings(folder, *agents, **changes)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", folder) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
        assert worker.keeper.state == "ok"
        yield worker


async def error_of(handler: Handler, folder: Path) -> ControlPlaneError:
    """Return what `record` raises where the other side answers like this."""
    async with answering(handler) as url, remote_to(url, folder) as worker:
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.record(whole_call().facts)
    return error.value


# --- calls that come in while it is down


async def test_a_call_is_planned_from_the_cache_while_nobody_answers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent, its prompt and its tools are those last seen; the plan says what happened, within the budget."""
    agent = {**DESK, "firstMessage": "Good day.", "voice": "maya", "toolSecrets": {"crm": "secret-of-tools"}}
    async with cached_worker(tmp_path, agent) as worker:
        started = asyncio.get_running_loop().time()
        with caplog.at_level(logging.INFO):
            plan = await worker.control.open_call(OFFER, budget_seconds=1.5)
        took = asyncio.get_running_loop().time() - started
    assert isinstance(plan, CallPlan)
    assert took < 1.5
    assert (plan.agent_id, plan.agent.first_message, plan.agent.voice) == ("desk", "Good day.", "maya")
    assert plan.agent.tool_secrets == {"crm": "secret-of-tools"}
    [event] = plan.events
    assert (event.event_type, event.failure_cause) == (UNREACHABLE_EVENT, "control_plane_unreachable")
    assert event.payload["cached_at"]
    assert NUMBER not in caplog.text
    assert TOKEN not in caplog.text


async def test_a_plan_of_the_cache_is_the_plan_of_the_control_plane(tmp_path: Path) -> None:
    """Default agent, unknown numbers and organization are decided by the control plane's settings, not the worker's."""
    options = {"default_agent": "desk", "organization_id": "org_7"}
    unknown = OFFER.model_copy(update={"dialed_number": "+12015550100"})
    settings = serve_settings(tmp_path, **options)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
            there = await worker.control.open_call(unknown, budget_seconds=4)
        here = await worker.control.open_call(unknown, budget_seconds=0.5)
    assert isinstance(there, CallPlan)
    assert isinstance(here, CallPlan)
    assert here.organization_id == "org_7"
    assert here.model_copy(update={"events": ()}) == there


async def test_a_refusal_of_the_cache_says_where_it_comes_from(tmp_path: Path) -> None:
    """A number that is not in the cached configuration is refused, with the same event."""
    async with cached_worker(tmp_path, unknown_number_message="Nobody here.") as worker:
        refusal = await worker.control.open_call(
            OFFER.model_copy(update={"dialed_number": "+12015550100"}), budget_seconds=0.5
        )
    assert isinstance(refusal, CallRefusal)
    assert refusal.sentence == "Nobody here."
    assert [event.event_type for event in refusal.events] == [UNREACHABLE_EVENT]


@pytest.mark.parametrize(("on_failure", "taken"), [("continue", True), ("reject", False)])
async def test_a_webhook_that_cannot_be_asked_has_failed(tmp_path: Path, on_failure: str, taken: bool) -> None:
    """Whether a call goes on without its pre-call webhook is the agent's word, also where nobody can ask it."""
    hook = {"url": "https://crm.example/secret-path", "secret": "hook-secret", "onFailure": on_failure}
    async with cached_worker(tmp_path, {**DESK, "webhooks": {"preCall": hook}}) as worker:
        answer = await worker.control.open_call(OFFER, budget_seconds=0.5)
        kept = (worker.settings.cache_dir / REMOTE_FILE).read_text()
    assert isinstance(answer, CallPlan if taken else CallRefusal)
    if isinstance(answer, CallRefusal):
        assert answer.reason is DisconnectionReason.REJECTED
    assert [event.event_type for event in answer.events] == [UNREACHABLE_EVENT, "call.pre_call"]
    assert "secret-path" not in kept
    assert "hook-secret" not in kept


async def test_metadata_no_message_can_hold_is_planned_with_here(tmp_path: Path) -> None:
    """A dispatch may send what is nested too deep to be passed on; it costs nobody a call."""
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"a": deep}
    async with cached_worker(tmp_path) as worker:
        plan = await worker.control.open_call(OFFER.model_copy(update={"job_metadata": deep}), budget_seconds=0.5)
    assert isinstance(plan, CallPlan)


async def test_without_any_configuration_the_error_is_said(tmp_path: Path) -> None:
    """A worker that has never seen the control plane has nobody to take a call with."""
    async with remote_to(f"http://127.0.0.1:{free_port()}", tmp_path) as worker:
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.open_call(OFFER, budget_seconds=0.3)
    assert error.value.retryable


async def test_a_control_plane_that_hangs_costs_no_more_than_the_budget(tmp_path: Path) -> None:
    """An open connection that says nothing is given up in time to plan the call here."""

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with cached_worker(tmp_path) as worker, answering(hang) as url:
        path = worker.settings.cache_dir / REMOTE_FILE
        catalog_cache.write(path, {**(catalog_cache.read(path) or {}), "source": url})
        async with remote_to(url, tmp_path) as other:
            started = asyncio.get_running_loop().time()
            plan = await other.control.open_call(OFFER, budget_seconds=1.2)
            took = asyncio.get_running_loop().time() - started
    assert isinstance(plan, CallPlan)
    assert took < 1.2
    assert plan.events[0].failure_cause == "control_plane_timeout"


async def test_a_control_plane_that_comes_back_in_time_is_heard(tmp_path: Path) -> None:
    """It is asked again for most of the budget: a restart costs ringing, not its answer."""
    settings = serve_settings(tmp_path)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        asking = asyncio.create_task(worker.control.open_call(OFFER, budget_seconds=5))
        await asyncio.sleep(0.6)
        async with serving(settings.model_copy(update={"api_port": port})):
            plan = await asking
    assert isinstance(plan, CallPlan)
    assert plan.events == ()


async def test_a_lost_answer_does_not_ask_the_webhook_twice(tmp_path: Path) -> None:
    """The question is put again, `serve` remembers what it answered, and the webhook hears of the call once."""
    async with HookReceiver() as hook:
        hook.answer_with({"voice": "zoe"}, delay_ms=200)
        settings = serve_settings(
            tmp_path, {**DESK, "webhooks": {"preCall": {"url": hook.url}}}, egress_allow="127.0.0.1"
        )
        async with (
            serving(settings) as url,
            Hop(int(url.rsplit(":", 1)[1])) as hop,
            remote_to(hop.url, tmp_path) as worker,
        ):
            hop.swallow = 2
            plan = await worker.control.open_call(OFFER, budget_seconds=5)
            assert hop.swallowed == 2
            again = await worker.control.open_call(OFFER, budget_seconds=5)
            other = OFFER.model_copy(update={"call_id": "call-2"})
            await worker.control.open_call(other, budget_seconds=5)
        asked = [request.json["call_id"] for request in hook.requests]
    assert isinstance(plan, CallPlan)
    assert plan.agent.voice == "zoe"
    assert again == plan
    assert asked == ["call-1", "call-2"]


# --- ways to fail


async def test_lost_answers_to_facts_change_nothing(tmp_path: Path) -> None:
    """A batch whose receipt got lost is sent again, and applied once."""
    settings = serve_settings(tmp_path)
    async with (
        serving(settings) as url,
        Hop(int(url.rsplit(":", 1)[1])) as hop,
        remote_to(hop.url, tmp_path) as worker,
    ):
        hop.swallow = 2
        await worker.control.record(whole_call().facts)
        assert hop.swallowed == 2
    database = Database(settings.database)
    async with database.read() as connection:
        events = await queries.call_events(connection, "call-1")
        detail = await queries.call_detail(connection, "call-1")
    await database.aclose()
    assert len(events) == 3
    assert detail is not None
    assert len(detail["transcript"]["entries"]) == 3


async def test_server_errors_are_tried_again(tmp_path: Path) -> None:
    """Two answers of 500 and one of 429 later, the facts are taken; it is said when to come again."""
    answers = iter([500, 429, 502])
    times: list[float] = []

    async def handler(request: web.Request) -> web.Response:
        times.append(asyncio.get_running_loop().time())
        status = next(answers, 200)
        lines = (await request.read()).count(b"\n")
        if status == 429:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.json_response({"received": lines}, status=status)

    async with answering(handler) as url, remote_to(url, tmp_path) as worker:
        await worker.control.record(whole_call().facts)
    assert len(times) == 4
    assert times[2] - times[1] >= 1.0


async def refused_fact(_request: web.Request) -> web.Response:
    return web.json_response({"error": "No.", "code": "FACT_INVALID", "retryable": False}, status=422)


def plain(status: int, text: str = "<html>", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)

    return handler


@pytest.mark.parametrize(
    ("handler", "code", "retryable"),
    [
        pytest.param(refused_fact, "fact_invalid", False, id="a fact is refused"),
        pytest.param(plain(401), "control_token_refused", True, id="wrong token"),
        pytest.param(plain(404), "control_plane_unexpected", True, id="wrong address"),
        pytest.param(plain(302, Location="http://127.0.0.1:1/"), "control_plane_unexpected", True, id="redirect"),
        pytest.param(plain(400), "control_plane_unexpected", True, id="a proxy's 400"),
        pytest.param(plain(413), "control_plane_too_large", False, id="a proxy's limit"),
    ],
)
async def test_answers_that_no_second_try_betters_are_told_at_once(
    tmp_path: Path, handler: Handler, code: str, retryable: bool
) -> None:
    """Only what `serve` itself refuses for good costs a fact; whatever else is in the way, the journal keeps it."""
    started = asyncio.get_running_loop().time()
    error = await error_of(handler, tmp_path)
    assert (error.code, error.retryable) == (code, retryable)
    assert asyncio.get_running_loop().time() - started < 2
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    "body",
    [b"", b"ok", b"{}", b'{"received": 2}', b"[" * 100_000, b"\xff" * 100, b'{"received": "' + b"9" * 5_000 + b'"}'],
    ids=["empty", "text", "no count", "another count", "deep", "no UTF-8", "huge number"],
)
async def test_a_garbled_receipt_is_no_receipt(tmp_path: Path, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever answers 200 without saying that these facts are stored has not stored them."""
    monkeypatch.setattr("agent_worker.control.remote.RECORD_SECONDS", 0.4)

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body)

    error = await error_of(handler, tmp_path)
    assert (error.code, error.retryable) == ("control_plane_garbled", True)


async def test_a_single_fact_over_a_proxys_limit_waits(tmp_path: Path) -> None:
    """It is not `serve` that refuses it, so it is kept and not put aside."""
    async with answering(plain(413)) as url, remote_to(url, tmp_path) as worker:
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.record(whole_call().facts[:1])
    assert error.value.retryable


async def test_an_endless_answer_is_cut_off(tmp_path: Path) -> None:
    """No more is read than an answer can have."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**20)
        return response

    error = await error_of(handler, tmp_path)
    assert (error.code, error.retryable) == ("control_plane_garbled", True)


async def test_a_wrong_token_is_said_once_and_clearly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the variable to set, not every two seconds, and never a token; the state tells `readyz`."""
    async with serving(serve_settings(tmp_path)) as url, remote_to(url, tmp_path, control_token="x" * 20) as worker:
        with caplog.at_level(logging.INFO, logger="agent_worker"):
            for _ in range(3):
                await worker.keeper.refresh()
        assert worker.keeper.state == "control_token_refused"
        assert not worker.keeper.first.is_set()
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "AGENT_WORKER_CONTROL_TOKEN" in str(record.__dict__["problem"])
    assert "x" * 20 not in str(record.__dict__)


async def test_a_certificate_nobody_vouches_for_gets_no_token(tmp_path: Path) -> None:
    """Over https the other side proves who it is before anything is said."""
    authority = Authority(tmp_path)
    async with HookReceiver(tls=authority.server("localhost")) as receiver:
        receiver.answer_with({"received": 1})
        url = receiver.url_of("").replace("127.0.0.1", "localhost")
        async with remote_to(url, tmp_path) as worker:
            with pytest.raises(ControlPlaneError) as error:
                await worker.control.renew_leases(["call-1"], worker_id="w", until=utc_now())
        assert error.value.code == "control_plane_unreachable"
        assert error.value.retryable
        assert receiver.requests == []


# --- journals as a buffer


async def test_killed_and_restarted_while_facts_flow_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """`serve` is killed with -9 three times while calls report; every fact is in its database once."""
    calls = 30
    async with ServeProcess(tmp_path / "serve", [DESK]) as serve, remote_to(serve.url, tmp_path) as worker:
        journals = worker.settings.journal_dir
        journals.mkdir(parents=True)
        shipper = JournalShipper(journals, worker.control, worker_id="w1", lease_seconds=30, poll_seconds=0.02)
        shipper.start()

        async def happen() -> None:
            for number in range(calls):
                journal = Journal(journals, f"call-{number}")
                for fact in whole_call(f"call-{number}").facts:
                    os.write(journal._file, encode(fact))
                    await asyncio.sleep(0.005)
                journal.close()

        happening = asyncio.create_task(happen())
        for _ in range(3):
            await asyncio.sleep(0.4)
            await serve.kill()
            await asyncio.sleep(0.2)
            await serve.start()
        await happening
        await until(lambda: not any(journals.iterdir()), 60)
        await shipper.aclose()
        database = Database(f"sqlite:///{serve.data_dir / 'agent-worker.db'}")
        async with database.read() as connection:
            page = await queries.list_calls(connection, limit=100)
            details = [await queries.call_detail(connection, call["id"]) for call in page["calls"]]
            events = [len(await queries.call_events(connection, call["id"])) for call in page["calls"]]
        await database.aclose()
    assert {detail["id"] for detail in details if detail} == {f"call-{number}" for number in range(calls)}
    assert {detail["status"] for detail in details if detail} == {"ended"}
    assert {detail["report"]["outcome"] for detail in details if detail} == {"message_taken"}
    assert {len(detail["transcript"]["entries"]) for detail in details if detail} == {3}
    assert set(events) == {3}


async def test_one_bad_fact_is_put_aside_and_takes_no_other_with_it(tmp_path: Path) -> None:
    """Over HTTP as in one process: the refused line lies beside the journal, the rest is in the database."""
    settings = serve_settings(tmp_path)
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        journals = worker.settings.journal_dir
        journals.mkdir(parents=True)
        facts = whole_call().facts
        bad = facts[1].model_copy(update={"id": "call-1:99", "kind": "event", "event_type": "odd"})
        line = json.dumps({**json.loads(encode(bad)), "kind": "event", "event_type": "x", "sip_status_code": 2**80})
        lines = [encode(fact) for fact in facts]
        (journals / "call-1.jsonl").write_bytes(b"".join([*lines[:4], line.encode() + b"\n", *lines[4:]]))
        shipper = JournalShipper(journals, worker.control, worker_id="w1", lease_seconds=30, poll_seconds=0.02)
        shipper.start()
        await until(lambda: not (journals / "call-1.jsonl").exists())
        await shipper.aclose()
        assert (journals / "call-1.jsonl.rejected").read_text() == line + "\n"
    database = Database(settings.database)
    async with database.read() as connection:
        detail = await queries.call_detail(connection, "call-1")
    await database.aclose()
    assert detail is not None
    assert len(detail["transcript"]["entries"]) == 3


# --- the configuration's copy


async def test_the_configuration_is_fetched_when_it_changed(tmp_path: Path) -> None:
    """The file is this user's alone, is left alone while nothing changes, and is made again where it was deleted."""
    settings = serve_settings(tmp_path)
    port = free_port()
    path = tmp_path / "worker" / "cache" / REMOTE_FILE
    async with remote_to(f"http://127.0.0.1:{port}", tmp_path) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
            first = path.stat()
            await worker.keeper.refresh()
            assert path.stat().st_mtime_ns == first.st_mtime_ns
            path.unlink()
            await worker.keeper.refresh()
            assert path.exists()
        serve_settings(tmp_path, {**DESK, "voice": "zoe"})
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
        plan = await worker.control.open_call(OFFER, budget_seconds=0.3)
    assert stat.S_IMODE(first.st_mode) == 0o600
    assert isinstance(plan, CallPlan)
    assert plan.agent.voice == "zoe"


async def test_a_broken_copy_changes_nothing_and_costs_no_agent_but_the_broken_one(tmp_path: Path) -> None:
    """Junk leaves what was read before in force; a key of a newer version is left unread."""
    async with cached_worker(tmp_path, DESK, {"name": "other", "systemPrompt": "You sell."}) as worker:
        path = worker.settings.cache_dir / REMOTE_FILE
        good = catalog_cache.read(path)
        assert good is not None
        catalog = make_catalog(worker.settings)
        assert set(catalog.current().agents) == {"desk", "other"}
        for junk in (b"", b"{", b"[]", b"[" * 100_000, b'{"agents": {}}'):
            path.write_bytes(junk)
            assert set(catalog.current().agents) == {"desk", "other"}, junk
        good["agents"]["desk"]["ofTheNextVersion"] = {"x": 1}
        good["agents"]["other"]["timezone"] = "Mars/Olympus"
        good["numbers"]["odd"] = {"e164": 7}
        catalog_cache.write(path, good)
        assert set(catalog.current().agents) == {"desk"}
        assert NUMBER in catalog.current().numbers


async def test_the_copy_of_another_control_plane_is_not_used(tmp_path: Path) -> None:
    """A worker that is pointed elsewhere waits for that one's configuration."""
    async with cached_worker(tmp_path) as worker:
        assert make_catalog(worker.settings).is_known
        elsewhere = worker.settings.model_copy(update={"control_url": "http://127.0.0.1:9"})
        assert not make_catalog(elsewhere).is_known
        assert make_catalog(elsewhere).current().agents == {}


def test_a_plan_survives_the_way() -> None:
    """Every key of an agent and of a plan is the same at the other end; so is a refusal with a voice."""
    agent = AgentConfig.model_validate(
        {
            "name": "desk",
            "systemPrompt": "é\u2028\U0001f600",
            "firstMessage": "",
            "variables": {},
            "promptVariables": [{"name": "n", "defaultValue": ""}],
            "toolSecrets": {"crm": "secret-value"},
            "tools": ["end_call"],
            "idleRePrompts": {"enabled": False},
            "ttsOptions": {"speed": 1.25, "providerOptions": {"a": {"b": [None, 1e-9]}}},
            "metadata": {"deep": [[[{"x": None}]]]},
        }
    )
    event = PlanEvent(event_type="call.pre_call", status="failed", payload={"ms": 1.5, "none": None})
    plan = CallPlan(organization_id="o", agent_id=None, agent=agent, pipeline_config={"a": None}, events=(event, event))
    refusal = CallRefusal(
        organization_id="o", reason=DisconnectionReason.REJECTED, sentence="", detail="d", voice=agent, events=(event,)
    )
    for answer in (plan, refusal):
        there = wire.OpenCallAnswer.decode(wire.OpenCallAnswer.of(answer).encode())
        assert there == answer
        assert there.model_dump(exclude_unset=True) == there.model_dump()


def test_an_answer_of_a_newer_control_plane_is_understood() -> None:
    """Keys this version does not know are left unread."""
    plan = CallPlan(organization_id="o", agent_id="desk", agent=AgentConfig(name="desk"))
    newer = json.loads(wire.OpenCallAnswer.of(plan).encode())
    newer |= {"more": 1}
    newer["plan"] |= {"more": 1}
    newer["plan"]["agent"] |= {"more": 1}
    newer["plan"]["agent"]["intent"] |= {"more": 1}
    assert wire.OpenCallAnswer.decode(json.dumps(newer).encode()) == plan
    with pytest.raises(ValueError, match="neither"):
        wire.OpenCallAnswer.decode(b"{}")


# --- settings


@pytest.mark.parametrize(
    ("url", "token", "code"),
    [
        ("ftp://host", TOKEN, "control_url_invalid"),
        ("control.example", TOKEN, "control_url_invalid"),
        ("https://user:password@host", TOKEN, "control_url_invalid"),
        ("https://host?x=1", TOKEN, "control_url_invalid"),
        ("https://host", "", "control_token_missing"),
        ("https://host", "short", "control_token_invalid"),
        ("https://host", "with spaces in the middle", "control_token_invalid"),
        ("https://host", "ünïcödé-ünïcödé-ünïcödé", "control_token_invalid"),
    ],
)
def test_a_wrong_url_or_token_is_said_before_anything_starts(tmp_path: Path, url: str, token: str, code: str) -> None:
    """The sentence names the variable, and never its value."""
    settings = Settings(data_dir=tmp_path, control_url=url, control_token=token)
    with pytest.raises(SettingsError) as error:
        check_control(settings)
    assert error.value.code == code
    assert "AGENT_WORKER_CONTROL_" in str(error.value)
    assert not token or token not in str(error.value)
    assert "password" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://10.0.0.7:8080", True),
        ("http://control.example", True),
        ("https://control.example", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8080", False),
    ],
)
def test_plain_http_over_a_network_is_warned_of(
    tmp_path: Path, url: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, for those whose network is their own; the log says what it costs."""
    with caplog.at_level(logging.WARNING):
        check_control(Settings(data_dir=tmp_path, control_url=url, control_token=TOKEN))
    assert ("https" in caplog.text) is warned


async def test_the_factory_follows_the_settings(tmp_path: Path) -> None:
    """A URL makes it remote, and then no agents folder is needed."""
    settings = Settings(
        data_dir=tmp_path, agents_dir=tmp_path / "none", control_url="http://localhost:1/base/", control_token=TOKEN
    )
    control = make_control(settings, make_catalog(settings))
    assert isinstance(control, RemoteControlPlane)
    await control.aclose()


async def test_a_path_before_the_routes_is_kept(tmp_path: Path) -> None:
    """`serve` may live under a path of somebody's proxy."""
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(f"{request.path} {request.headers['authorization']}")
        return web.json_response({"received": 1})

    async with answering(handler) as url, remote_to(f"{url}/behind/a/proxy/", tmp_path) as worker:
        await worker.control.renew_leases(["call-1"], worker_id="w", until=utc_now())
    assert seen == [f"/behind/a/proxy/worker/v1/leases Bearer {TOKEN}"]


def test_a_job_process_loads_no_server_and_no_database(root: Path, tmp_path: Path) -> None:
    """Planning a call, over HTTP or from the cache, leaves SQLAlchemy, FastAPI and uvicorn out of memory."""
    program = (
        "import asyncio, sys; from pathlib import Path\n"
        "from agent_worker.settings import Settings\n"
        "from agent_worker.control.make import make_catalog, make_control, make_keeper\n"
        "from agent_worker.domain.call import CallOffer\n"
        "from agent_worker.errors import ControlPlaneError\n"
        "offer = CallOffer(call_id='c', direction='inbound', room_name='r')\n"
        f"s = Settings(data_dir=Path({str(tmp_path)!r}), control_url='http://127.0.0.1:9', control_token='t' * 16)\n"
        "control = make_control(s, make_catalog(s))\n"
        "try: asyncio.run(control.open_call(offer, budget_seconds=0.1))\n"
        "except ControlPlaneError as error: print(error.code)\n"
        "heavy = ('sqlalchemy', 'alembic', 'aiosqlite', 'fastapi', 'starlette', 'uvicorn')\n"
        "print(sorted(name for name in heavy if name in sys.modules))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines() == ["control_plane_unreachable", "[]"]
