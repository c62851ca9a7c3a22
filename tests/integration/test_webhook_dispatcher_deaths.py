"""The dispatcher among others and on a bad day: replicas, a process that dies, a database that is away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, update

from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import ControlPlaneError
from agent_worker.store import deliveries as queue
from agent_worker.store.tables import calls, deliveries
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.webhooks.dispatcher import Dispatcher
from agent_worker.webhooks.housekeeping import Housekeeper
from tests.databases import fresh_database
from tests.webhooks import Outbox, outbox_on


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
