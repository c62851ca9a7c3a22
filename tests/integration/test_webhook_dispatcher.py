"""The dispatcher against real receivers: what is delivered, how often, in which order, and what is kept of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.processes import free_port
from agent_worker.webhooks.dispatcher import Dispatcher
from tests.integration.egress import LOOPBACK
from tests.webhooks import SECRET, Outbox, outbox_on

DURABLE = ("call.report", "call.analysis", "call.recording")


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


@pytest.mark.parametrize("ticks", range(6))
async def test_a_stop_in_the_moment_of_an_answer_stops(ticks: int, file_outbox: Outbox) -> None:
    """However the two meet: a dispatcher that misses it would keep `serve` from ending."""
    client = EgressClient(LOOPBACK)
    dispatcher = Dispatcher(
        file_outbox.control, client, file_outbox.settings, lambda: file_outbox.catalog, poll_seconds=30
    )
    running = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0.3)
    dispatcher._news.set()
    for _ in range(ticks):
        await asyncio.sleep(0)
    running.cancel()
    _, going_on = await asyncio.wait({running}, timeout=10)
    for task in going_on:
        task.cancel()
    await client.aclose()
    assert not going_on
