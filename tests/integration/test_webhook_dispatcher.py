"""The dispatcher against real receivers: what is delivered, how often, in which order, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ControlPlaneError
from agent_worker.store import deliveries as queue
from agent_worker.store.tables import calls, deliveries
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.webhooks.dispatcher import Dispatcher
from agent_worker.webhooks.housekeeping import Housekeeper
from tests.databases import fresh_database
from tests.webhooks import SECRET, Outbox, outbox_on

DURABLE = ("call.report", "call.analysis", "call.recording")


@pytest.fixture(params=["sqlite", "postgresql"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outbox]:
    with fresh_database(request.param, tmp_path) as url:
        async with outbox_on(tmp_path, url) as found:
            yield found


@pytest.fixture
async def file_outbox(tmp_path: Path) -> AsyncIterator[Outbox]:
    """One on SQLite, for what no database decides."""
    async with outbox_on(tmp_path) as found:
        yield found


async def test_a_delivery_is_sent_signed_and_written_down(outbox: Outbox) -> None:
    """The receiver verifies it with the organization's secret; the attempt is kept with what was sent and answered."""
    async with HookReceiver(secret=SECRET) as receiver:
        receiver.answer_with({"ok": True})
        headers = {"headers": {"X-Plain": "a"}, "auth_headers": [{"name": "X-Key", "value": "k"}]}
        await outbox.add("whe_1", receiver.url, **headers)
        [delivery] = await outbox.write("whe_1", "call.report")
        async with outbox.delivering():
            row = (await outbox.wait_for([delivery], "succeeded"))[delivery]
    [request] = receiver.requests
    assert request.verified
    assert request.json == {"type": "call.report", "n": 1}
    assert (request.headers["webhook-id"], request.headers["x-plain"], request.headers["x-key"]) == (delivery, "a", "k")
    assert (row["http_status"], row["error"], row["attempt_count"]) == (200, None, 1)
    assert row["delivered_at"] is not None
    [attempt] = await outbox.attempts()
    assert (attempt["attempt_number"], attempt["trigger"], attempt["request_url"]) == (1, "automatic", receiver.url)
    assert (attempt["request_headers"]["x-plain"], attempt["request_headers"]["x-key"]) == ("a", "***")
    assert (attempt["response_status"], attempt["response_body"]) == (200, '{"ok": true}')
    assert attempt["duration_ms"] is not None


async def test_an_endpoint_that_was_down_gets_each_delivery_once_and_in_order(outbox: Outbox) -> None:
    """Nobody listens while the call is over and analysed; when somebody does, all is verified and nothing doubled."""
    port = free_port()
    await outbox.add("whe_1", f"http://127.0.0.1:{port}/hook")
    for call_id in ("call-1", "call-2"):
        await outbox.call(call_id)
        await outbox.write("whe_1", *DURABLE, call_id=call_id)
    ids = list(await outbox.rows())
    async with outbox.delivering():
        await outbox.until(lambda rows: any(row["attempt_count"] > 1 for row in rows.values()))
        async with HookReceiver(secret=SECRET, port=port) as receiver:
            rows = await outbox.wait_for(ids, "succeeded", seconds=90)
    assert all(request.verified for request in receiver.requests)
    for call_id in ("call-1", "call-2"):
        wanted = [row["id"] for row in rows.values() if row["call_id"] == call_id]
        came = [request.headers["webhook-id"] for request in receiver.requests]
        assert [delivery for delivery in came if delivery in wanted] == wanted
    refused = [attempt["error"] for attempt in await outbox.attempts() if attempt["response_status"] is None]
    assert refused
    assert all("took no connection" in error for error in refused)


async def test_a_later_delivery_of_a_call_waits_for_an_earlier_one_and_other_calls_do_not(outbox: Outbox) -> None:
    """While the report of one call is refused, its analysis is not sent, and the other call's deliveries are."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=500, path="/refused")
        await outbox.add("whe_1", receiver.url_of("/refused"))
        await outbox.add("whe_2", receiver.url_of("/taken"))
        await outbox.call("call-1")
        refused = await outbox.write("whe_1", "call.report", "call.analysis", call_id="call-1")
        taken = await outbox.write("whe_2", "call.report", "call.analysis", call_id="call-1")
        async with outbox.delivering(schedule=(30.0,)):
            rows = await outbox.wait_for(taken, "succeeded")
    assert [rows[one]["status"] for one in refused] == ["pending", "pending"]
    assert [rows[one]["attempt_count"] for one in refused] == [1, 0]
    assert [request.json["type"] for request in receiver.requests if request.path == "/refused"] == ["call.report"]


async def test_events_that_get_one_attempt_get_one_attempt(outbox: Outbox) -> None:
    """A refused status event has failed; the report that follows is not kept waiting by it."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=503)
        await outbox.add("whe_1", receiver.url)
        await outbox.call("call-1")
        status, report = await outbox.write("whe_1", "call.status", "call.report", call_id="call-1")
        async with outbox.delivering(schedule=(30.0,)):
            rows = await outbox.wait_for([status], "failed")
            await receiver.wait_for_requests(2, timeout_seconds=60)
    assert (rows[status]["http_status"], rows[status]["error"]) == (503, "The endpoint answered HTTP 503.")
    assert [request.json["type"] for request in receiver.requests] == ["call.status", "call.report"]
    assert report != status


async def test_410_stops_and_says_so(file_outbox: Outbox) -> None:
    """A durable delivery answered 410 is not tried again."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=410)
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.report")
        async with file_outbox.delivering():
            row = (await file_outbox.wait_for([delivery], "failed"))[delivery]
    assert row["error"] == "The endpoint answered 410 Gone, so it is not tried again."
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("asked", "seconds"), [("3600", 3_600), ("9999999999", 86_400), ("soon", 0), ("1", 0)])
async def test_retry_after_is_waited_for(asked: str, seconds: int, file_outbox: Outbox) -> None:
    """The next attempt is no earlier than the receiver asks, a day at most, and never earlier than the schedule."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=429, headers={"Retry-After": asked})
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.report")
        before = utc_now()
        async with file_outbox.delivering(schedule=(60.0,)):
            await receiver.wait_for_requests(1, timeout_seconds=60)
            row = (await file_outbox.wait_for([delivery], "pending"))[delivery]
        waits = (row["next_attempt_at"] - before).total_seconds()
    assert max(54, seconds) <= waits <= max(80, seconds + 60)


async def test_redirects_are_not_followed(file_outbox: Outbox) -> None:
    """The place a redirect names is never asked; the error says what to do."""
    async with HookReceiver() as receiver, HookReceiver() as elsewhere:
        receiver.redirect_to(elsewhere.url)
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.status")
        async with file_outbox.delivering():
            row = (await file_outbox.wait_for([delivery], "failed"))[delivery]
    assert (row["http_status"], elsewhere.requests) == (307, [])
    assert "Redirects are not followed" in row["error"]


async def test_a_slow_endpoint_is_given_its_timeout(file_outbox: Outbox) -> None:
    """Past timeoutMs the attempt has failed."""
    async with HookReceiver() as receiver:
        receiver.answer_with({}, delay_ms=5_000)
        await file_outbox.add("whe_1", receiver.url, timeout_ms=150)
        [delivery] = await file_outbox.write("whe_1", "call.status")
        async with file_outbox.delivering():
            row = (await file_outbox.wait_for([delivery], "failed"))[delivery]
    assert row["error"].startswith("127.0.0.1 did not answer within 0.15 s.")


async def test_a_huge_answer_is_cut_and_still_a_success(file_outbox: Outbox) -> None:
    """Of 8 MiB the beginning is kept; a status of 2xx has been given, so it is delivered."""
    async with HookReceiver() as receiver:
        receiver.answer_with(fault="huge")
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.report")
        async with file_outbox.delivering():
            await file_outbox.wait_for([delivery], "succeeded")
        [attempt] = await file_outbox.attempts()
    assert (len(attempt["response_body"]), attempt["response_truncated"]) == (4_096, True)


async def test_private_addresses_are_not_asked(tmp_path: Path) -> None:
    """What was registered while it was allowed is refused at delivery, and tried again: the operator may allow it."""
    async with HookReceiver() as receiver, outbox_on(tmp_path, egress_allow="") as outbox:
        await outbox.add("whe_1", receiver.url)
        [delivery] = await outbox.write("whe_1", "call.report")
        async with outbox.delivering(schedule=(30.0,)):
            row = (await outbox.until(lambda rows: bool(rows[delivery]["error"])))[delivery]
    assert (row["status"], receiver.requests) == ("pending", [])
    assert "may not reach" in row["error"]


async def test_both_secrets_sign_while_the_organizations_is_rotated(tmp_path: Path) -> None:
    """A receiver with the old secret and one with the new one both verify."""
    new = "whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHMtMDEyMzQ1Ng=="
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(HookReceiver(secret=secret)) for secret in (SECRET, new)]
        outbox = await stack.enter_async_context(outbox_on(tmp_path, webhook_secret=f"{new} {SECRET}"))
        ids = []
        for number, receiver in enumerate(receivers):
            await outbox.add(f"whe_{number}", receiver.url)
            ids += await outbox.write(f"whe_{number}", "call.report")
        async with outbox.delivering():
            await outbox.wait_for(ids, "succeeded")
    assert [request.verified for receiver in receivers for request in receiver.requests] == [True, True]


async def test_a_hook_is_looked_up_when_it_is_used(file_outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's hook is signed with what the environment says now; one that is gone cancels its delivery."""
    async with HookReceiver(secret="secret-of-the-hook") as receiver:
        hook = {"url": receiver.url, "secret": "env:HOOK_SECRET"}
        agent = AgentConfig.model_validate({"name": "desk", "systemPrompt": "Hi.", "webhooks": {"postCall": hook}})
        file_outbox.catalog = AgentCatalog.of([agent])
        [known] = await file_outbox.write("agent:desk:postCall", "call.report")
        [gone] = await file_outbox.write("agent:desk:analysis", "call.analysis")
        async with file_outbox.delivering(schedule=(0.2,)):
            rows = await file_outbox.wait_for([gone], "cancelled")
            await file_outbox.until(lambda found: bool(found[known]["error"]))
            assert receiver.requests == []
            monkeypatch.setenv("HOOK_SECRET", "secret-of-the-hook")
            await file_outbox.wait_for([known], "succeeded")
    assert rows[gone]["error"] == "The endpoint was deleted."
    assert receiver.requests[0].verified
    first, *_ = await file_outbox.attempts()
    assert first["error"] == "There is no value for the webhook's secret (env:HOOK_SECRET is not set)."


async def test_a_dead_endpoint_delays_nobody(outbox: Outbox) -> None:
    """While hundreds of deliveries wait for endpoints that never answer, another endpoint gets all of its own."""
    async with HookReceiver() as receiver:
        receiver.answer_with(fault="hang", path="/dead")
        for number in range(6):
            await outbox.add(f"whe_dead{number}", receiver.url_of("/dead"))
            await outbox.write(f"whe_dead{number}", *["call.report"] * 100)
        await outbox.add("whe_well", receiver.url_of("/well"))
        async with outbox.delivering():
            await asyncio.sleep(0.3)
            well = await outbox.write("whe_well", *["call.report"] * 50)
            await outbox.wait_for(well, "succeeded")
            dead = [row for row in (await outbox.rows()).values() if row["id"] not in well]
    assert len(dead) == 600
    assert {row["status"] for row in dead} <= {"pending", "delivering"}
    assert Counter(row["endpoint_id"] for row in dead if row["attempt_count"]).most_common(1)[0][1] < 10


async def test_an_endpoint_that_is_back_gets_everything(file_outbox: Outbox) -> None:
    """After failures in a row it rests and is asked by one request at a time; one success lets all go."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=500)
        await file_outbox.add("whe_1", receiver.url)
        ids = await file_outbox.write("whe_1", *["call.report"] * 40)
        async with file_outbox.delivering():
            await receiver.wait_for_requests(5, timeout_seconds=60)
            await asyncio.sleep(0.5)
            asked = len(receiver.requests)
            receiver.answer_with({})
            await file_outbox.wait_for(ids, "succeeded", seconds=90)
    assert asked < 40, "it was left alone meanwhile"


async def test_two_replicas_share_what_one_endpoint_is_told_and_none_is_sent_twice(tmp_path: Path) -> None:
    """Each of two dispatchers on one PostgreSQL sends some, in order for each call."""
    with fresh_database("postgresql", tmp_path) as url:
        async with (
            HookReceiver() as receiver,
            outbox_on(tmp_path / "a", url) as one,
            outbox_on(tmp_path / "b", url) as other,
        ):
            receiver.answer_with({}, delay_ms=10)
            await one.add("whe_1", receiver.url)
            ids: list[str] = []
            for number in range(40):
                await one.call(f"call-{number}")
                ids += await one.write("whe_1", "call.status", "call.report", "call.analysis", call_id=f"call-{number}")
            async with one.delivering(), other.delivering():
                await one.wait_for(ids, "succeeded", seconds=90)
    came = [request.headers["webhook-id"] for request in receiver.requests]
    assert Counter(came) == Counter(ids)
    assert [one for one in came if one in ids[:3]] == ids[:3]
    senders = {request.connection for request in receiver.requests}
    assert len(senders) > 1


async def test_what_a_process_was_sending_when_it_died_is_sent_again_under_the_same_id(outbox: Outbox) -> None:
    """The claim runs out, the interrupted attempt is kept as such, and the delivery is made."""
    async with HookReceiver() as receiver:
        await outbox.add("whe_1", receiver.url)
        [delivery] = await outbox.write("whe_1", "call.report")
        now = utc_now()
        async with outbox.control.writing() as connection:
            [lost] = await queue.claim(connection, "whe_1", now=now, until=now + timedelta(seconds=0.3), limit=5)
        async with outbox.delivering():
            await outbox.wait_for([delivery], "succeeded")
            late = queue.Settled(lost, queue.FAILED, 500, "late", tried={"error": "late"})
            async with outbox.control.writing() as connection:
                await queue.settle(connection, [late], now=utc_now())
        row = (await outbox.rows())[delivery]
        tried = await outbox.attempts()
    assert (row["status"], row["attempt_count"]) == ("succeeded", 2)
    assert [(one["attempt_number"], one["error"]) for one in tried] == [(1, queue.INTERRUPTED), (2, None)] or [
        one["attempt_number"] for one in tried
    ] == [2, 1]
    assert [request.headers["webhook-id"] for request in receiver.requests] == [delivery]


class _Unsteady:
    """A store that fails to write so many times, once it is told to."""

    def __init__(self, outbox: Outbox) -> None:
        self._control = outbox.control
        self.failures = 0

    def reading(self) -> Any:
        return self._control.reading()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Any]:
        if self.failures:
            self.failures -= 1
            raise ControlPlaneError("database_unavailable", "The database did not answer.", retryable=True)
        async with self._control.writing() as connection:
            yield connection


async def test_a_database_that_is_away_when_the_answer_comes_costs_no_second_request(file_outbox: Outbox) -> None:
    """The result is kept until it can be written; the delivery is not sent again."""
    store = _Unsteady(file_outbox)
    client = EgressClient(AddressPolicy.of("127.0.0.1"))
    async with HookReceiver() as receiver:
        receiver.answer_with({}, delay_ms=300)
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.report")
        made = Dispatcher(store, client, file_outbox.settings, lambda: file_outbox.catalog, poll_seconds=0.02)
        running = asyncio.create_task(made.run())
        await receiver.wait_for_requests(1, timeout_seconds=60)
        store.failures = 5
        await file_outbox.wait_for([delivery], "succeeded")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await client.aclose()
    assert (len(receiver.requests), store.failures) == (1, 0)


async def test_a_dispatcher_that_is_stopped_writes_down_what_it_was_sending(file_outbox: Outbox) -> None:
    """An orderly stop waits a moment for answers, so that nothing is sent twice."""
    async with HookReceiver() as receiver:
        receiver.answer_with({}, delay_ms=300)
        await file_outbox.add("whe_1", receiver.url)
        [delivery] = await file_outbox.write("whe_1", "call.report")
        async with file_outbox.delivering():
            await receiver.wait_for_requests(1, timeout_seconds=60)
        assert (await file_outbox.rows())[delivery]["status"] == "succeeded"


async def test_a_call_that_is_deleted_meanwhile_stops_nobody(file_outbox: Outbox) -> None:
    """Its delivery goes with it; results of others are written."""
    async with HookReceiver() as receiver:
        receiver.answer_with({}, delay_ms=200)
        await file_outbox.add("whe_1", receiver.url)
        await file_outbox.call("call-1")
        await file_outbox.write("whe_1", "call.report", call_id="call-1")
        [other] = await file_outbox.write("whe_1", "call.report")
        async with file_outbox.delivering():
            await receiver.wait_for_requests(2, timeout_seconds=60)
            async with file_outbox.control.writing() as connection:
                await connection.execute(delete(calls).where(calls.c.id == "call-1"))
            rows = await file_outbox.wait_for([other], "succeeded")
    assert list(rows) == [other]


async def test_nobody_is_told_after_three_days(outbox: Outbox) -> None:
    """Deliveries nobody took expire; single-attempt ones after an hour; old ones that are over are deleted."""
    now = utc_now()
    await outbox.add("whe_1", "http://127.0.0.1:1/")
    [expired] = await outbox.write("whe_1", "call.report", now=now - timedelta(hours=73))
    [late] = await outbox.write("whe_1", "call.status", now=now - timedelta(hours=2))
    [waiting] = await outbox.write("whe_1", "call.report", now=now - timedelta(hours=71))
    [old] = await outbox.write("whe_1", "call.report", now=now - timedelta(days=31))
    async with outbox.control.writing() as connection:
        over = update(deliveries).where(deliveries.c.id == old).values(status="succeeded", next_attempt_at=None)
        await connection.execute(over)
    assert not await Housekeeper(outbox.control, outbox.settings).tidy()
    rows = await outbox.rows()
    assert {one: row["status"] for one, row in rows.items()} == {
        expired: "expired",
        late: "expired",
        waiting: "pending",
    }
    assert rows[expired]["error"] == queue.UNTAKEN


async def test_reports_nobody_took_are_sent_again_when_asked(outbox: Outbox) -> None:
    """Of a call's deliveries the reports that failed or expired start again, and what follows them with them."""
    async with HookReceiver() as receiver:
        receiver.answer_with(status=410)
        await outbox.add("whe_1", receiver.url)
        await outbox.call("call-1")
        report, status = await outbox.write("whe_1", "call.report", "call.status", call_id="call-1")
        async with outbox.delivering():
            await outbox.wait_for([report, status], "failed")
            receiver.answer_with({})
            async with outbox.control.writing() as connection:
                assert await queue.retry_report_deliveries(connection, "call-1", utc_now()) == 1
            rows = await outbox.wait_for([report], "succeeded")
    assert (rows[report]["attempt_count"], rows[status]["status"]) == (2, "failed")
