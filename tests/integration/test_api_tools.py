"""An agent's tools over HTTP: the official client's methods, secrets, and what a call is offered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from spekoai import SpekoApiError
from spekoai.models import AgentToolRow, ChatTool

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog
from agent_worker.domain.call import CallPlan
from agent_worker.domain.tool_ref import WebhookSource
from tests.integration.api_client import Served, served
from tests.integration.serving import OFFER
from tests.integration.test_api_agents import changed, made, stored, wrong
from tests.integration.test_store import databases

WEBHOOK: dict[str, Any] = {
    "kind": "webhook",
    "url": "https://crm.example.com/orders",
    "secret": "a-secret-of-the-tool",
    "headers": {"x-tenant": "a"},
    "authHeaders": [{"name": "Authorization", "value": "Bearer of-the-header"}],
    "timeoutMs": 2000,
    "responseMode": "async",
    "asyncAck": "It is on its way.",
}
LOOK_UP: dict[str, Any] = {
    "name": "look_up",
    "description": "Look up an order.",
    "parameters": {"type": "object", "properties": {"number": {"type": "string", "default": None}}},
    "source": WEBHOOK,
}
END_CALL: dict[str, Any] = {
    "name": "end_call",
    "description": "Hang up.",
    "parameters": {},
    "source": {"kind": "builtin", "name": "end_call"},
}
CALENDAR: dict[str, Any] = {
    "name": "book",
    "description": "Book.",
    "parameters": {},
    "source": {"kind": "integration", "installationId": "i", "appKey": "calendar", "actionKey": "create"},
}
INLINE: dict[str, Any] = {"name": "ask", "description": "Ask.", "parameters": {}, "source": {"kind": "inline"}}


async def given(there: Served, agent_id: str, tool: dict[str, Any]) -> dict[str, Any]:
    """Give an agent a tool; returns its row."""
    answer = await there.http.post(f"/v1/agents/{agent_id}/tools", json=tool)
    assert answer.status_code == 201, answer.text
    row: dict[str, Any] = answer.json()
    return row


@databases
async def test_the_synchronous_client_has_every_method(kind: str, tmp_path: Path) -> None:
    """Create, list, get, update, delete and the conversion into what a model is offered."""
    async with served(tmp_path, kind) as there:
        agent = (await made(there))["id"]
        rows = [await there.sync(lambda speko, tool=tool: speko.agents.tools.create(agent, tool)) for tool in
                (LOOK_UP, END_CALL, CALENDAR, INLINE)]  # fmt: skip
        assert [row.source.kind for row in rows] == ["webhook", "builtin", "integration", "inline"]
        assert await there.sync(lambda speko: speko.agents.tools.list(agent)) == rows
        available = await there.sync(lambda speko: speko.agents.tools.list(agent, available=True))
        assert [row.name for row in available] == ["end_call"]
        first = rows[0]
        assert await there.sync(lambda speko: speko.agents.tools.get(agent, first.id)) == first
        change = {"description": "Look it up.", "tool_sound": {"enabled": False}, "simulation": {"mode": "mock"}}
        after = await there.sync(lambda speko: speko.agents.tools.update(agent, first.id, change))
        assert (after.id, after.name, after.description) == (first.id, "look_up", "Look it up.")
        assert (after.created_at, after.source) == (first.created_at, first.source)
        assert after.updated_at > first.updated_at
        assert after.tool_sound is not None
        cleared = await there.sync(
            lambda speko: speko.agents.tools.update(agent, first.id, {"tool_sound": None, "simulation": None})
        )
        assert (cleared.tool_sound, cleared.simulation) == (None, None)
        offered = await there.sync(lambda speko: speko.agents.tools.list_chat_tools(agent))
        assert [type(tool) for tool in offered] == [ChatTool] * 4
        assert await there.sync(lambda speko: speko.agents.tools.delete(agent, first.id)) is True
        with pytest.raises(SpekoApiError) as gone:
            await there.sync(lambda speko: speko.agents.tools.get(agent, first.id))
        assert (gone.value.status, gone.value.code) == (404, "NOT_FOUND")


async def test_the_asynchronous_client_does_the_same(tmp_path: Path) -> None:
    """Every method once."""
    async with served(tmp_path) as there:
        agent = (await made(there))["id"]
        row = await there.later(lambda speko: speko.agents.tools.create(agent, LOOK_UP))
        after = await there.later(lambda speko: speko.agents.tools.update(agent, row.id, {"pre_tool_speech": "never"}))
        assert await there.later(lambda speko: speko.agents.tools.get(agent, row.id)) == after
        assert await there.later(lambda speko: speko.agents.tools.list(agent)) == [after]
        assert len(await there.later(lambda speko: speko.agents.tools.list_chat_tools(agent))) == 1
        assert await there.later(lambda speko: speko.agents.tools.delete(agent, row.id)) is True


async def test_a_secret_goes_in_and_stays(tmp_path: Path) -> None:
    """A row has `secretRef` instead; a change that does not say a secret keeps it, one that says it replaces it."""
    async with served(tmp_path) as there:
        agent = (await made(there))["id"]
        row = await given(there, agent, LOOK_UP)
        assert row["source"] == {
            **{key: value for key, value in WEBHOOK.items() if key not in ("secret", "authHeaders")},
            "method": "POST",
            "secretRef": "tools.look_up.secret",
            "authHeaders": [{"name": "Authorization", "secretRef": "tools.look_up.authHeaders.Authorization"}],
        }
        assert row["parameters"] == LOOK_UP["parameters"]

        async def source(change: dict[str, Any]) -> WebhookSource:
            answer = await there.http.patch(f"/v1/agents/{agent}/tools/{row['id']}", json=change)
            assert answer.status_code == 200, answer.text
            found = (await stored(there, agent)).tools[0].source
            assert isinstance(found, WebhookSource)
            return found

        kept = await source(row)
        assert (kept.secret, kept.auth_headers[0].value) == (WEBHOOK["secret"], "Bearer of-the-header")
        moved = await source({"source": {"kind": "webhook", "url": "https://crm.example.com/2"}})
        assert (moved.url, moved.secret, moved.headers) == ("https://crm.example.com/2", WEBHOOK["secret"], {})
        rotated = await source({"source": {"kind": "webhook", "url": moved.url, "secret": "another-secret"}})
        assert (rotated.secret, rotated.auth_headers[0].value) == ("another-secret", "Bearer of-the-header")


def put_through(config: dict[str, Any]) -> dict[str, Any]:
    """A `transfer_call` that is configured so."""
    return {"source": {"kind": "builtin", "name": "transfer_call", "config": config}}


WRONG: list[tuple[dict[str, Any], Any]] = [
    ({"name": ""}, "name"),
    ({"name": "no spaces"}, "name"),
    ({"description": ""}, "description"),
    ({"description": "x" * 1_025}, "description"),
    ({"parameters": None}, "parameters"),
    ({"parameters": []}, "parameters"),
    ({"source": {"kind": "other"}}, "source"),
    ({"source": {"kind": "webhook"}}, "source.url"),
    ({"source": {"kind": "webhook", "url": "https://127.0.0.1/x"}}, "source.url"),
    ({"source": {"kind": "webhook", "url": "https://metadata.google.internal/x"}}, "source.url"),
    ({"source": {"kind": "webhook", "url": "http://crm.example.com/x"}}, "source.url"),
    ({"source": {**WEBHOOK, "timeoutMs": 9_000}}, "source.timeoutMs"),
    ({"source": {**WEBHOOK, "secret": "env:HOME"}}, "source.secret"),
    ({"preToolSpeech": "sometimes"}, "preToolSpeech"),
    (put_through({"ringingTimeout": 0}), "source.config.ringingTimeout"),
    (put_through({"colour": "red"}), "source.config.colour"),
    (put_through({"headers": {"Via": "x"}}), "source.config.headers.Via"),
    (put_through({"destinations": [{"to": "+19005550123", "label": "a"}]}), "source.config.destinations.0.to"),
]


async def test_what_is_wrong_is_told_by_its_place(tmp_path: Path) -> None:
    """Private and loopback addresses are refused at registration, as is what the schema does not allow."""
    async with served(tmp_path) as there:
        agent = (await made(there))["id"]
        for change, place in WRONG:
            assert place in wrong(await there.http.post(f"/v1/agents/{agent}/tools", json={**LOOK_UP, **change})), (
                change
            )
        assert (await there.http.get(f"/v1/agents/{agent}/tools")).json() == []


async def test_a_tool_that_is_configured_wrongly_stays_as_it_is(tmp_path: Path) -> None:
    """A change that it could not run with is refused, by the tool's route and by its agent's, under either policy."""
    config = {"destinations": [{"to": "+12015550123", "label": "Sales"}]}
    async with served(tmp_path, dial_allow="US") as there:
        agent = (await made(there))["id"]
        row = await given(there, agent, {**END_CALL, "name": "transfer_call", **put_through(config)})
        abroad = {"destinations": [{"to": "+442071838750", "label": "Sales"}]}
        path = f"/v1/agents/{agent}/tools/{row['id']}"
        assert list(wrong(await there.http.patch(path, json=put_through(abroad)))) == [
            "source.config.destinations.0.to"
        ]
        change = {"tools": [{"name": "transfer_call", "config": abroad}]}
        answer = await there.http.patch(f"/v1/agents/{agent}", json=change)
        assert list(wrong(answer)) == ["tools.0.config.destinations.0.to"]
        assert "+44" not in answer.text
        assert (await there.http.get(path)).json()["source"]["config"] == config


async def test_a_name_is_the_tools_own_and_stays(tmp_path: Path) -> None:
    """A second tool of the name is 409; a change of the name is wrong; another agent may have one of that name."""
    async with served(tmp_path) as there:
        agent, other = (await made(there))["id"], (await made(there))["id"]
        row = await given(there, agent, LOOK_UP)
        again = await there.http.post(f"/v1/agents/{agent}/tools", json=LOOK_UP)
        assert (again.status_code, again.json()["code"]) == (409, "TOOL_NAME_CONFLICT")
        path = f"/v1/agents/{agent}/tools/{row['id']}"
        assert list(wrong(await there.http.patch(path, json={"name": "other"}))) == ["name"]
        assert list(wrong(await there.http.patch(path, json={"description": None}))) == ["description"]
        assert (await given(there, other, LOOK_UP))["id"] != row["id"]
        assert (await there.http.get(f"/v1/agents/{other}/tools/{row['id']}")).status_code == 404


async def test_a_tool_nothing_runs_is_kept_and_told(tmp_path: Path) -> None:
    """A function that is not in `tools/` here is no mistake, for a worker's folder may have it; the answer says so."""
    async with served(tmp_path) as there:
        agent = (await made(there))["id"]
        wanting = {**END_CALL, "name": "hang_up", "source": {"kind": "builtin", "name": "end_cal", "config": {"a": 1}}}
        row = await given(there, agent, wanting)
        assert ["source", "name"] in [warning["path"] for warning in row["warnings"]]
        assert "'end_call'" in str(row["warnings"])
        again = (await there.http.get(f"/v1/agents/{agent}/tools/{row['id']}")).json()
        assert again == row
        assert AgentToolRow.model_validate(again).source.kind == "builtin"
        typo = await given(there, agent, {**END_CALL, "preToolSpeach": "never"})
        assert [warning["path"] for warning in typo["warnings"]] == [["preToolSpeach"]]


async def test_tools_named_alone_have_rows_too(tmp_path: Path) -> None:
    """A file's `tools: [end_call]`: the description is the function's own, the times are the agent's."""
    desk = {"name": "desk", "systemPrompt": "x", "tools": ["end_call", {"name": "take_message", "config": {"a": 1}}]}
    async with served(tmp_path, "sqlite", desk) as there:
        rows = (await there.http.get("/v1/agents/desk/tools")).json()
        assert [row["source"] for row in rows] == [
            {"kind": "builtin", "name": "end_call", "config": {}},
            {"kind": "builtin", "name": "take_message", "config": {"a": 1}},
        ]
        assert rows[0]["description"].startswith("End the call.")
        assert rows[0]["createdAt"] == (await there.http.get("/v1/agents/desk")).json()["createdAt"]
        for method, path in (("POST", ""), ("PATCH", f"/{rows[0]['id']}"), ("DELETE", f"/{rows[0]['id']}")):
            answer = await there.http.request(method, f"/v1/agents/desk/tools{path}", json=LOOK_UP)
            assert (answer.status_code, answer.json()["code"]) == (409, "AGENT_IS_A_FILE")


@databases
async def test_changes_at_once_lose_no_tool(kind: str, tmp_path: Path) -> None:
    """Tools and the agent's own keys are one row: none of the changes overwrites another."""
    async with served(tmp_path, kind) as there:
        agent = (await made(there))["id"]
        tools = [{**LOOK_UP, "name": f"look_up_{number}"} for number in range(6)]
        await asyncio.gather(*(given(there, agent, tool) for tool in tools), changed(there, agent, voice="zoe"))
        rows = (await there.http.get(f"/v1/agents/{agent}/tools")).json()
        assert sorted(row["name"] for row in rows) == [tool["name"] for tool in tools]
        assert (await there.http.get(f"/v1/agents/{agent}")).json()["voice"] == "zoe"


async def test_the_next_call_has_the_tools_of_now(tmp_path: Path) -> None:
    """A tool is part of its agent's configuration, which the next call is planned with."""
    async with served(tmp_path) as there:
        agent = (await made(there, numbers=["+12015550177"]))["id"]
        row = await given(there, agent, END_CALL)
        worker = EmbeddedControlPlane(there.settings, make_catalog(there.settings))
        offer = OFFER.model_copy(update={"dialed_number": "+12015550177"})

        async def names() -> list[str]:
            plan = await worker.open_call(offer, budget_seconds=4)
            assert isinstance(plan, CallPlan)
            return [tool.name for tool in plan.agent.tools]

        assert await names() == ["end_call"]
        await there.http.delete(f"/v1/agents/{agent}/tools/{row['id']}")
        assert await names() == []
        await worker.aclose()


async def test_a_key_changes_only_what_it_may(tmp_path: Path) -> None:
    """A read key lists tools and gives none; another agent's tools are not found."""
    async with served(tmp_path) as there:
        mine, other = (await made(there))["id"], (await made(there))["id"]
        row = await given(there, other, LOOK_UP)
        async with await there.with_key(scope="read") as reader:
            assert len((await reader.get(f"/v1/agents/{other}/tools")).json()) == 1
            assert (await reader.post(f"/v1/agents/{other}/tools", json=END_CALL)).status_code == 403
        async with await there.with_key(agent_ids=[mine]) as limited:
            assert (await limited.post(f"/v1/agents/{mine}/tools", json=END_CALL)).status_code == 201
            answers: list[httpx.Response] = [
                await limited.get(f"/v1/agents/{other}/tools"),
                await limited.post(f"/v1/agents/{other}/tools", json=END_CALL),
                await limited.patch(f"/v1/agents/{other}/tools/{row['id']}", json={}),
                await limited.delete(f"/v1/agents/{other}/tools/{row['id']}"),
            ]
            assert [answer.status_code for answer in answers] == [404] * 4
