"""The control plane on another host, when it or the way to it fails: nothing is lost, and calls are answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from pathlib import Path

import pytest
from aiohttp import web

from agent_worker.call.journal import Journal
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import encode
from agent_worker.errors import ControlPlaneError
from agent_worker.store import queries
from agent_worker.store.call_lists import Filters, page
from agent_worker.store.engine import Database
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.serve_process import TOKEN, ServeProcess
from tests.call_facts import whole_call
from tests.integration.loopback_tls import Authority
from tests.integration.remote_worker import Handler, answering, error_of
from tests.integration.serving import DESK, Hop, remote_to, serve_settings, serving
from tests.integration.shipping import until

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
            listed = await page(connection, Filters("org_local"), 100)
            details = [await queries.call_detail(connection, call["id"]) for call in listed]
            events = [len(await queries.call_events(connection, call["id"])) for call in listed]
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
