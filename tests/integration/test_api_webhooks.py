"""Webhook endpoints and their deliveries over HTTP, as the official client manages and reads them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from spekoai import SpekoApiError
from spekoai.models import WebhookEndpointInput

from agent_worker.domain.fact import CallAnswered
from agent_worker.testing.hook_receiver import HookReceiver
from tests.call_facts import CallStory, whole_call
from tests.integration.api_client import Served, served
from tests.integration.serving import DESK, remote_to
from tests.integration.test_store import databases
from tests.webhooks import SECRET

NEW: dict[str, Any] = {
    "name": "CRM",
    "url": "https://crm.example.com/calls",
    "events": ["call.report", "call.status"],
    "filterTags": {"tenant": "north"},
    "headers": {"X-Plain": "a"},
    "authHeaders": [{"name": "X-Key", "value": "value-of-the-header"}],
    "timeoutMs": 5000.0,
    "signingSecretSource": "custom",
    "signingSecret": "secret-of-the-endpoint",
    "extractionFields": [{"name": "mood", "type": "enum", "description": "The mood.", "options": ["good", "bad"]}],
    "contentMode": "metadata_only",
}
HIDDEN = ("value-of-the-header", "secret-of-the-endpoint")


def told(url: str, **changes: Any) -> dict[str, Any]:
    """Return an endpoint that is told of reports and status."""
    return {"name": "CRM", "url": url, "events": ["call.report", "call.status"], **changes}


async def record(there: Served, story: CallStory, folder: Path) -> None:
    """Hand the facts of a call in, as a worker does."""
    async with remote_to(there.url, folder) as worker:
        await worker.control.record(story.facts)


async def settled(there: Served, count: int, **filters: Any) -> list[dict[str, Any]]:
    """Return the deliveries, newest first, once there are so many and none is waiting to be sent for the first time."""
    async with asyncio.timeout(60):
        while True:
            answer = await there.http.get("/v1/webhook-deliveries", params=filters)
            rows: list[dict[str, Any]] = answer.json()["data"]
            if len(rows) == count and all(row["attempts"] and row["status"] != "delivering" for row in rows):
                return rows
            await asyncio.sleep(0.05)


def issue_of(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert body["code"] == "VALIDATION_ERROR"
    [issue, *_] = body["issues"]
    return answer.status_code, str(issue["path"][-1]), issue["message"]


@databases
async def test_the_official_client_manages_endpoints(kind: str, tmp_path: Path) -> None:
    """Create, list, get, update, delete: every key comes back but the secrets, and what is deleted is gone."""
    async with served(tmp_path, kind) as there:
        made = await there.sync(lambda client: client.webhooks.create(WebhookEndpointInput.model_validate(NEW)))
        assert made.model_dump(by_alias=True, exclude={"id", "created_at", "updated_at"}) == {
            "name": "CRM",
            "url": NEW["url"],
            "events": ["call.report", "call.status"],
            "allAgents": True,
            "agentIds": [],
            "filterTags": {"tenant": "north"},
            "headers": {"X-Plain": "a"},
            "authHeaders": [{"name": "X-Key", "configured": True}],
            "timeoutMs": 5000,
            "signingSecretSource": "custom",
            "hasCustomSigningSecret": True,
            "extractionFields": [
                {"name": "mood", "type": "enum", "description": "The mood.", "options": ["good", "bad"]}
            ],
            "contentMode": "metadata_only",
            "legacyManaged": False,
        }
        assert await there.sync(lambda client: client.webhooks.list()) == [made]
        assert await there.later(lambda client: client.webhooks.get(made.id)) == made
        change = {
            "events": ["call.hangup"],
            "allAgents": False,
            "agentIds": ["desk"],
            "authHeaders": [{"name": "x-key"}],
        }
        changed = await there.later(lambda client: client.webhooks.update(made.id, change))
        assert (changed.events, changed.all_agents, changed.agent_ids) == (["call.hangup"], False, ["desk"])
        assert (changed.name, changed.content_mode, changed.filter_tags) == (
            "CRM",
            "metadata_only",
            {"tenant": "north"},
        )
        raw = await there.http.get(f"/v1/webhooks/{made.id}")
        assert not [secret for secret in HIDDEN if secret in raw.text]
        await there.later(lambda client: client.webhooks.delete(made.id))
        assert await there.later(lambda client: client.webhooks.list()) == []
        with pytest.raises(SpekoApiError) as gone:
            await there.sync(lambda client: client.webhooks.get(made.id))
        assert (gone.value.status, gone.value.code) == (404, "NOT_FOUND")
        again = await there.http.delete(f"/v1/webhooks/{made.id}")
        assert again.status_code == 404


async def test_deletion_is_an_empty_answer(tmp_path: Path) -> None:
    """204, as the contract has it."""
    async with served(tmp_path) as there:
        made = (await there.http.post("/v1/webhooks", json=told("https://crm.example.com/a"))).json()
        answer = await there.http.delete(f"/v1/webhooks/{made['id']}")
        assert (answer.status_code, answer.content) == (204, b"")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"url": "https://127.0.0.1/x"}, "url", "loopback"),
    ({"url": "https://169.254.169.254/latest"}, "url", "may not reach"),
    ({"url": "https://10.1.2.3/x"}, "url", "private"),
    ({"url": "https://localhost/x"}, "url", "local name"),
    ({"url": "http://crm.example.com/x"}, "url", "https only"),
    ({"url": "https://user:hush@crm.example.com/x"}, "url", "user name or password"),
    ({"events": ["call.pre_call"]}, "events", "webhooks.preCall"),
    ({"events": ["sms.sent"]}, "0", "call.report"),
    ({"events": []}, "events", "at least 1"),
    ({"allAgents": False}, "agentIds", "at least one agent"),
    ({"allAgents": False, "agentIds": ["nobody"]}, "agentIds", "no agent nobody"),
    ({"signingSecretSource": "custom"}, "signingSecret", "needed"),
    ({"signingSecret": "secret-of-the-endpoint"}, "signingSecret", "custom"),
    ({"signingSecretSource": "custom", "signingSecret": "whsec_%%%%"}, "signingSecret", "base64"),
    ({"headers": {"Webhook-Id": "mine"}}, "headers", "set here"),
    ({"authHeaders": [{"name": "X-Key"}]}, "authHeaders", "no value"),
    ({"authHeaders": [{"name": "A", "value": "1"}, {"name": "a", "value": "2"}]}, "authHeaders", "twice"),
    ({"timeoutMs": 99}, "timeoutMs", "100"),
    ({"filterTags": {"tenant": 5}}, "tenant", "string"),
    ({"name": ""}, "name", "at least 1"),
]


async def test_what_cannot_be_an_endpoint_is_refused(tmp_path: Path) -> None:
    """400 with the key and the reason; nothing is registered."""
    async with served(tmp_path) as there:
        for change, key, said in REFUSED:
            answer = await there.http.post("/v1/webhooks", json={**told("https://crm.example.com/a"), **change})
            status, path, message = issue_of(answer)
            assert (status, path) == (400, key), change
            assert said in message
            assert "hush" not in answer.text
        assert (await there.http.get("/v1/webhooks")).json() == {"data": []}


async def test_keys_that_are_limited_to_agents_see_no_webhooks(tmp_path: Path) -> None:
    """Endpoints are the whole workspace's: 403, whatever the scope; reading needs less than changing."""
    async with served(tmp_path) as there:
        async with await there.with_key(agent_ids=["desk"]) as limited:
            for path in ("/v1/webhooks", "/v1/webhook-deliveries"):
                assert (await limited.get(path)).status_code == 403
        async with await there.with_key(scope="operate") as operator:
            assert (await operator.get("/v1/webhooks")).status_code == 200
            assert (await operator.post("/v1/webhooks", json=told("https://crm.example.com/a"))).status_code == 403


@databases
async def test_deliveries_of_a_call_are_read_with_their_attempts(kind: str, tmp_path: Path) -> None:
    """The list, its filters and pages, and one delivery with what was sent and answered, through the client."""
    async with (
        HookReceiver(secret=SECRET) as receiver,
        served(tmp_path, kind, webhook_secret=SECRET, egress_allow="127.0.0.1", analysis="off") as there,
    ):
        made = await there.later(lambda client: client.webhooks.create(told(receiver.url)))
        await record(there, whole_call(), tmp_path)
        await settled(there, 4)
        page = await there.sync(lambda client: client.webhooks.deliveries.list(limit=3))
        rest = await there.later(lambda client: client.webhooks.deliveries.list(cursor=page.next_cursor))
        assert [row.event for row in page.data + rest.data] == ["call.report", *["call.status"] * 3]
        assert (len(page.data), len(rest.data), rest.next_cursor) == (3, 1, None)
        assert [(option.id, option.name, option.deleted) for option in page.endpoint_options] == [
            (made.id, "CRM", False)
        ]
        for filters in (
            {"event": "call.report"},
            {"event_id": page.data[0].event_id},
            {
                "endpoint_id": made.id,
                "status": "succeeded",
                "session_id": "call-1",
                "agent_id": "front-desk",
                "limit": 1,
            },
        ):
            found = await there.later(lambda client, given=filters: client.webhooks.deliveries.list(**given))
            assert [row.id for row in found.data] == [page.data[0].id]
        nothing = await there.later(lambda client: client.webhooks.deliveries.list(to_date="2020-01-01T00:00:00Z"))
        assert nothing.data == []
        one = await there.sync(lambda client: client.webhooks.deliveries.get(page.data[0].id))
        assert (one.status, one.attempt_count, one.http_status, one.session_id) == ("succeeded", 1, 200, "call-1")
        assert (one.endpoint_name, one.endpoint_kind, one.can_redeliver) == ("CRM", "workspace", True)
        [attempt] = one.attempts
        assert (attempt.trigger, attempt.request_url, attempt.response_status) == ("automatic", receiver.url, 200)
        assert attempt.request_headers["webhook-id"] == one.id
        assert attempt.request_body == one.request_payload == receiver.requests[-1].json
        assert one.request_payload["type"] == "call.report"
    assert all(request.verified for request in receiver.requests)


async def test_a_delivery_is_sent_again_by_hand(tmp_path: Path) -> None:
    """The answer says what came of it, the attempt is kept as manual, and the id on the wire is the same."""
    async with (
        HookReceiver(secret=SECRET) as receiver,
        served(tmp_path, webhook_secret=SECRET, egress_allow="127.0.0.1", analysis="off") as there,
    ):
        receiver.answer_with(status=500)
        made = await there.later(lambda client: client.webhooks.create(told(receiver.url, events=["call.report"])))
        await record(there, whole_call(), tmp_path)
        [row] = await settled(there, 1)
        assert (row["status"], row["httpStatus"]) == ("pending", 500)
        failed = await there.sync(lambda client: client.webhooks.deliveries.redeliver(row["id"]))
        assert (failed.delivered, failed.http_status, failed.error) == (False, 500, "The endpoint answered HTTP 500.")
        receiver.answer_with({"ok": True})
        sent = await there.later(lambda client: client.webhooks.deliveries.redeliver(row["id"]))
        assert (sent.delivered, sent.http_status, sent.error) == (True, 200, None)
        receiver.answer_with(status=500)
        await there.later(lambda client: client.webhooks.deliveries.redeliver(row["id"]))
        one = await there.later(lambda client: client.webhooks.deliveries.get(row["id"]))
        assert [attempt.trigger for attempt in one.attempts] == ["automatic", "manual", "manual", "manual"]
        assert one.status == "succeeded", "what was delivered stays so"
        assert {request.headers["webhook-id"] for request in receiver.requests} == {row["id"]}
        await there.later(lambda client: client.webhooks.delete(made.id))
        with pytest.raises(SpekoApiError) as impossible:
            await there.later(lambda client: client.webhooks.deliveries.redeliver(row["id"]))
        assert (impossible.value.status, impossible.value.code) == (409, "CANNOT_REDELIVER")
        with pytest.raises(SpekoApiError) as unknown:
            await there.later(lambda client: client.webhooks.deliveries.redeliver("dlv_nobody"))
        assert unknown.value.status == 404


async def test_deleting_an_endpoint_cancels_what_it_was_to_be_sent(tmp_path: Path) -> None:
    """Deliveries stay readable under the endpoint's name, and say that it is gone."""
    async with HookReceiver() as receiver, served(tmp_path, egress_allow="127.0.0.1", analysis="off") as there:
        receiver.answer_with(status=503)
        made = await there.later(lambda client: client.webhooks.create(told(receiver.url, events=["call.report"])))
        await record(there, whole_call(), tmp_path)
        await settled(there, 1)
        await there.later(lambda client: client.webhooks.delete(made.id))
        page = await there.later(lambda client: client.webhooks.deliveries.list())
    [row] = page.data
    assert (row.status, row.error, row.endpoint_name) == ("cancelled", "The endpoint was deleted.", "CRM")
    assert (row.endpoint_deleted, row.can_redeliver) == (True, False)
    assert [option.deleted for option in page.endpoint_options] == [True]


async def test_agents_own_hooks_are_told_and_listed(tmp_path: Path) -> None:
    """A file's status and postCall hooks get their messages with their own headers and timeouts; ids name them."""
    async with HookReceiver(secret="secret-of-the-hook") as receiver:
        hook = {
            "url": receiver.url,
            "secret": "secret-of-the-hook",
            "headers": {"x-tenant": "a"},
            "authHeaders": [{"name": "x-key", "value": "of-the-header"}],
        }
        agent = {**DESK, "webhooks": {"status": hook, "postCall": hook}}
        async with served(tmp_path, "sqlite", agent, egress_allow="127.0.0.1", analysis="off") as there:
            story = CallStory()
            story.opened(agent_id="desk")
            story.add(CallAnswered)
            story.ended()
            await record(there, story, tmp_path)
            [row] = await settled(there, 1)
            page = (await there.http.get("/v1/webhook-deliveries")).json()
            detail = await there.http.get(f"/v1/webhook-deliveries/{row['id']}")
    assert (row["endpointId"], row["endpointName"], row["status"]) == (
        "agent:desk:postCall",
        "desk postCall",
        "succeeded",
    )
    assert {option["id"] for option in page["endpointOptions"]} == {"agent:desk:postCall", "agent:desk:status"}
    [request] = receiver.requests
    assert request.verified
    assert (request.headers["x-tenant"], request.headers["x-key"]) == ("a", "of-the-header")
    assert "of-the-header" not in detail.text


async def test_wrong_filters_are_refused(tmp_path: Path) -> None:
    """400 in the error shape."""
    async with served(tmp_path) as there:
        for query in ("cursor=x", "cursor=2026-01-01_a", "limit=0", "limit=101", "status=lost", "from=now"):
            answer = await there.http.get(f"/v1/webhook-deliveries?{query}")
            assert issue_of(answer)[:2] == (400, query.partition("=")[0])


async def test_a_replaced_secret_signs_beside_the_new_one(tmp_path: Path) -> None:
    """For a day receivers with either secret verify what they get; a new one too short is refused."""
    new = "whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHMtMDEyMzQ1Ng=="
    async with (
        HookReceiver(secret=SECRET) as old_one,
        HookReceiver(secret=new) as new_one,
        served(tmp_path, egress_allow="127.0.0.1", analysis="off") as there,
    ):
        secret = {"signingSecretSource": "custom", "signingSecret": SECRET, "events": ["call.report"]}
        for receiver in (old_one, new_one):
            made = (await there.http.post("/v1/webhooks", json=told(receiver.url, **secret))).json()
            changed = await there.http.patch(f"/v1/webhooks/{made['id']}", json={"signingSecret": new})
            assert changed.status_code == 200
            assert (
                await there.http.patch(f"/v1/webhooks/{made['id']}", json={"signingSecret": "x"})
            ).status_code == 400
        await record(there, whole_call(), tmp_path)
        await settled(there, 2)
    [to_old], [to_new] = old_one.requests, new_one.requests
    assert to_old.verified
    assert to_new.verified
    assert len(to_old.headers["webhook-signature"].split()) == 2
