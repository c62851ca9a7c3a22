"""Calls over HTTP: read by the official client, sync and async, noted, deleted, and by keys of some agents only."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from spekoai import AsyncSpeko, Speko
from spekoai.errors import SpekoApiError
from sqlalchemy import func, select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.settings import Settings
from agent_worker.store import tables
from tests.call_facts import START, CallStory, whole_call
from tests.integration.api_client import Served, served

databases = pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
DESK = {"name": "front-desk", "systemPrompt": "You help.", "numbers": ["+12015550199"]}
OFFICE = {"name": "back-office", "systemPrompt": "You count."}


async def record(settings: Settings, *stories: CallStory) -> None:
    control = EmbeddedControlPlane(settings)
    try:
        for story in stories:
            await control.record(story.facts)
    finally:
        await control.aclose()


def office_call(call_id: str, minutes: int, **fields: Any) -> CallStory:
    """A call of the other agent that is live."""
    story = CallStory(call_id, start=START + timedelta(minutes=minutes))
    story.opened(agent_id="back-office", **fields)
    return story


def with_calls(folder: Path, kind: str = "sqlite") -> Any:
    return served(folder, kind, DESK, OFFICE, analysis="off")


async def seed(server: Served) -> None:
    """Three calls of the desk, an hour apart, and one of the office."""
    await record(
        server.settings,
        *(whole_call(f"call-{index}", start=START + timedelta(hours=index)) for index in range(3)),
        office_call("call-office", 5, metadata={"campaignId": "spring"}),
    )


@databases
async def test_the_official_client_reads_calls(kind: str, tmp_path: Path) -> None:
    """List, detail, events, transcript and usage, with what they say of a call, sync and async alike."""
    async with with_calls(tmp_path, kind) as server:
        await seed(server)

        def read(client: Speko) -> list[Any]:
            return [
                client.agents.list_calls("front-desk", limit=2),
                client.calls.get("call-1"),
                client.calls.events("call-1"),
                client.sessions.transcript("call-1"),
                client.usage.get(from_date="2026-03-02", to_date="2026-03-02"),
            ]

        async def read_later(client: AsyncSpeko) -> list[Any]:
            return [
                await client.agents.list_calls("front-desk", limit=2),
                await client.calls.get("call-1"),
                await client.calls.events("call-1"),
                await client.sessions.transcript("call-1"),
                await client.usage.get(from_date="2026-03-02", to_date="2026-03-02"),
            ]

        page, detail, events, transcript, usage = await server.sync(read)
        assert await server.later(read_later) == [page, detail, events, transcript, usage]
        following = await server.sync(lambda client: client.agents.list_calls("front-desk", cursor=page.next_cursor))
    assert [call.id for call in page.calls] == ["call-2", "call-1"]
    assert page.entries == page.calls
    assert [call.id for call in following.calls] == ["call-0"]
    assert following.next_cursor is None
    assert (detail.status, detail.duration_seconds, detail.language) == ("ended", 10, "en")
    assert detail.resource_uri == "/v1/calls/call-1"
    assert detail.report.outcome == "message_taken"
    assert detail.metadata["from"] == "+12015550101"
    assert [entry.text for entry in detail.transcript.entries] == ["Good morning.", "Hello, it's Maya.", "Hi Maya."]
    assert detail.span_tree["root"]["name"] == "call"
    assert [event.event_type for event in events] == ["call.initiated", "call.answered", "call.hangup"]
    assert [turn.text for turn in transcript.entries] == ["Good morning.", "Hello, it's Maya.", "Hi Maya."]
    assert transcript.entries[2].conversational_latency_ms == 1200.0
    assert transcript.entries[2].tool_calls == []
    assert (usage.total_sessions, usage.total_minutes, usage.balance_usd) == (4, 0.5, 0.0)
    quantities = {line.metric: line.quantity for line in usage.breakdown}
    assert quantities["stt_seconds"] == 28.5
    assert quantities["tts_characters"] == 120


async def test_a_detail_says_what_other_platforms_say(tmp_path: Path) -> None:
    """Beside the contract's fields: numbers, notes, latencies, and what the call cost as far as it is known."""
    async with with_calls(tmp_path) as server:
        await seed(server)
        detail = (await server.http.get("/v1/calls/call-1")).json()
    assert (detail["from"], detail["to"], detail["call_type"]) == ("+12015550101", "+12015550199", "telephony_inbound")
    assert (detail["done"], detail["note"], detail["employee"], detail["is_purged"]) == (False, None, None, False)
    assert detail["average_transcriber_latency"] == 310.0
    assert detail["average_agent_latency"] == 350.0
    assert detail["average_synthesizer_latency"] == 150.0
    assert detail["call_cost"] is None
    assert detail["report"]["unpriced"]
    assert detail["disconnection_reason"] == "user_hangup"


@databases
async def test_names_of_other_platforms_filter(kind: str, tmp_path: Path) -> None:
    """What their clients send lists the same calls as ours."""
    async with with_calls(tmp_path, kind) as server:
        await seed(server)
        queries = {
            "agentIds=front-desk,nobody": ["call-2", "call-1", "call-0"],
            "agent_id=back-office": ["call-office"],
            "statusFilter=completed": ["call-2", "call-1", "call-0"],
            "status=ended,active": ["call-2", "call-1", "call-0"],
            "status=connecting": ["call-office"],
            "status=active": [],
            "status=in_progress": ["call-office"],
            "status=busy": [],
            "callTypes=telephony_outbound": [],
            "call_type=chat": [],
            "direction=inbound&call_type=telephony_inbound&limit=1": ["call-2"],
            "campaignIds=spring": ["call-office"],
            "phoneNumber=%2B12015550101&limit=2": ["call-2", "call-1"],
            "phone_number=+12015550101&limit=1": ["call-2"],
            "dateFrom=2026-03-02T10:00:00Z&dateTo=2026-03-02T11:00:00Z": ["call-1"],
            "since=2026-03-02T10:30:00%2B00:00&until=2026-03-02T11:30:00.000000Z": ["call-1"],
            "from=2026-03-02T11:30:00+00:00": ["call-2"],
            "search=maya&limit=1": ["call-2"],
            "search=call-off": ["call-office"],
            "done=1": [],
            "done=false&limit=1": ["call-2"],
        }
        for query, expected in queries.items():
            answer = await server.http.get(f"/v1/calls?{query}")
            assert answer.status_code == 200, (query, answer.text)
            assert [call["id"] for call in answer.json()["calls"]] == expected, query


async def test_pages_with_totals(tmp_path: Path) -> None:
    """A page says how many calls and pages there are; by cursor there is no total, and both at once is an error."""
    async with with_calls(tmp_path) as server:
        await seed(server)
        first = (await server.http.get("/v1/calls?page=1&limit=3")).json()
        second = (await server.http.get("/v1/calls?page=2&limit=3")).json()
        beyond = (await server.http.get("/v1/calls?page=9&limit=3")).json()
        by_cursor = (await server.http.get("/v1/calls?limit=3")).json()
        both = await server.http.get("/v1/calls", params={"page": 1, "cursor": by_cursor["next_cursor"]})
        far = await server.http.get("/v1/calls?page=50001&limit=2")
    assert [call["id"] for call in first["calls"]] == ["call-2", "call-1", "call-office"]
    assert [call["id"] for call in second["calls"]] == ["call-0"]
    assert beyond["calls"] == []
    pages = [
        {name: answer["pagination"][name] for name in ("page", "total", "total_pages", "has_more", "total_is_exact")}
        for answer in (first, second, beyond)
    ]
    common = {"total": 4, "total_pages": 2, "total_is_exact": True}
    assert pages == [
        {"page": 1, "has_more": True, **common},
        {"page": 2, "has_more": False, **common},
        {"page": 9, "has_more": False, **common},
    ]
    assert by_cursor["pagination"] is None
    assert [both.status_code, far.status_code] == [400, 400]
    assert "cursor" in far.json()["issues"][0]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "page=0",
        "cursor=yesterday",
        "cursor=0001-01-01T00:00:00%2B14:00",
        "since=",
        "status=nope",
        "call_type=smoke",
        "direction=sideways",
        "done=perhaps",
        "search=" + "x" * 201,
        "disconnectReasonFilter=user_hangup",
        "campaign_id=" + ",".join(map(str, range(51))),
    ],
)
async def test_a_wrong_filter_is_said(tmp_path: Path, query: str) -> None:
    """A filter that cannot be understood is an error that names it, and no list without it."""
    async with with_calls(tmp_path) as server:
        for path in ("/v1/calls", "/v1/agents/front-desk/calls"):
            answer = await server.http.get(f"{path}?{query}")
            assert answer.status_code == 400, answer.text
            assert answer.json()["code"] == "VALIDATION_ERROR"
            assert answer.json()["issues"][0]["path"][-1] in query


async def test_calls_by_their_ids(tmp_path: Path) -> None:
    """Up to a hundred ids at once; those that are not there are left out."""
    async with with_calls(tmp_path) as server:
        await seed(server)
        await server.http.delete("/v1/calls/call-2")
        ids = ["call-1", "nobody", "call-2", "call-1", "call-0"]
        for name in ("callIds", "call_ids"):
            found = (await server.http.post("/v1/calls/search", json={name: ids})).json()
            assert [call["id"] for call in found["calls"]] == ["call-1", "call-0"]
            assert (found["total"], found["requested_count"]) == (2, 5)
        for wrong in ([], ["x"] * 101, "call-1", [1], ["a\x00b"]):
            assert (await server.http.post("/v1/calls/search", json={"callIds": wrong})).status_code == 400


@databases
async def test_people_note_things(kind: str, tmp_path: Path) -> None:
    """Done, a note and who deals with it: what is supplied changes, null clears, each change is in the audit."""
    async with with_calls(tmp_path, kind) as server:
        await seed(server)
        first = await server.http.patch(
            "/v1/calls/call-1", json={"done": True, "note": "Call back.", "employee": "Kim"}
        )
        second = await server.http.patch("/v1/calls/call-1", json={"note": None, "unknown": 1})
        nothing = await server.http.patch("/v1/calls/call-1", json={})
        done = (await server.http.get("/v1/calls?done=true")).json()
        wrong = await server.http.patch("/v1/calls/call-1", json={"note": 5})
        unknown = await server.http.patch("/v1/calls/nobody", json={"done": True})
        audit = await audited(server)
    told = [{name: answer.json()[name] for name in ("done", "note", "employee")} for answer in (first, second, nothing)]
    assert told[0] == {"done": True, "note": "Call back.", "employee": "Kim"}
    assert told[1:] == [{"done": True, "note": None, "employee": "Kim"}] * 2
    assert [call["id"] for call in done["calls"]] == ["call-1"]
    assert [wrong.status_code, unknown.status_code] == [400, 404]
    assert audit == [("call.update", {"keys": ["done", "employee", "note"]}), ("call.update", {"keys": ["note"]})]


async def audited(server: Served) -> list[tuple[str, Any]]:
    control = EmbeddedControlPlane(server.settings)
    try:
        async with control.reading() as connection:
            entries = tables.audit_entries.c
            query = select(entries.action, entries.detail).order_by(entries.created_at)
            return [(action, detail) for action, detail in await connection.execute(query)]
    finally:
        await control.aclose()


@databases
async def test_a_deleted_call_is_not_there(kind: str, tmp_path: Path) -> None:
    """It is in no list and no detail, but where it is asked for; what is stored of it stays."""
    async with with_calls(tmp_path, kind) as server:
        await seed(server)
        answers = [(await server.http.delete("/v1/calls/call-1")).json() for _ in range(2)]
        listed = (await server.http.get("/v1/agents/front-desk/calls")).json()["calls"]
        deleted_too = (await server.http.get("/v1/agents/front-desk/calls?include_deleted=1")).json()["calls"]
        statuses = [
            (await server.http.get(path)).status_code
            for path in (
                "/v1/calls/call-1",
                "/v1/calls/call-1/events",
                "/v1/sessions/call-1",
                "/v1/sessions/call-1/transcript",
            )
        ]
        control = EmbeddedControlPlane(server.settings)
        async with control.reading() as connection:
            said = await connection.scalar(select(func.count()).select_from(tables.transcript_entries))
        await control.aclose()
    assert answers == [{"deleted": True}] * 2
    assert [call["id"] for call in listed] == ["call-2", "call-0"]
    assert [call["id"] for call in deleted_too if call["deleted_at"]] == ["call-1"]
    assert statuses == [404] * 4
    assert said == 9


async def test_a_key_of_some_agents_sees_their_calls(tmp_path: Path) -> None:
    """What belongs to other agents is not found, listed, counted or changed."""
    async with with_calls(tmp_path) as server:
        await seed(server)
        async with await server.with_key(scope="admin", agent_ids=["back-office"]) as office:
            assert [call["id"] for call in (await office.get("/v1/calls")).json()["calls"]] == ["call-office"]
            assert (await office.get("/v1/calls?agent_id=front-desk&page=1")).json()["pagination"]["total"] == 0
            assert [s["id"] for s in (await office.get("/v1/sessions")).json()["entries"]] == ["call-office"]
            assert (await office.get("/v1/calls?search=maya")).json()["calls"] == []
            found = await office.post("/v1/calls/search", json={"callIds": ["call-1", "call-office"]})
            assert [call["id"] for call in found.json()["calls"]] == ["call-office"]
            assert (await office.get("/v1/usage?from=2026-03-02&to=2026-03-02")).json()["totalSessions"] == 1
            for path in ("/v1/calls/call-1", "/v1/calls/call-1/events", "/v1/sessions/call-1/transcript"):
                assert (await office.get(path)).status_code == 404
            assert (await office.get("/v1/agents/front-desk/calls")).status_code == 404
            assert (await office.patch("/v1/calls/call-1", json={"done": True})).status_code == 404
            assert (await office.delete("/v1/calls/call-1")).status_code == 404
            assert (await office.post("/v1/calls/call-1/purge")).status_code == 404


async def test_scopes(tmp_path: Path) -> None:
    """Reading, noting and doing away with need more and more."""
    async with with_calls(tmp_path) as server:
        await seed(server)
        async with await server.with_key(scope="read") as reader, await server.with_key(scope="operate") as operator:
            assert (await reader.get("/v1/calls/call-1")).status_code == 200
            assert (await reader.patch("/v1/calls/call-1", json={"done": True})).status_code == 403
            assert (await operator.patch("/v1/calls/call-1", json={"done": True})).status_code == 200
            assert (await operator.delete("/v1/calls/call-1")).status_code == 403
            assert (await operator.post("/v1/calls/call-1/purge")).status_code == 403


async def test_what_is_not_there(tmp_path: Path) -> None:
    """Unknown agents and calls are 404 in the error shape; an agent without calls has an empty list."""
    async with with_calls(tmp_path) as server:
        await record(server.settings, whole_call("call-1"))
        for path in (
            "/v1/calls/nobody",
            "/v1/calls/a%00b",
            "/v1/calls/nobody/events",
            "/v1/sessions/nobody",
            "/v1/agents/nobody/calls",
            "/v1/agents/a%00b/calls",
        ):
            answer = await server.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), path
        assert (await server.http.get("/v1/agents/back-office/calls")).json()["calls"] == []
        with pytest.raises(SpekoApiError) as error:
            await server.later(lambda client: client.calls.get("nobody"))
    assert error.value.status == 404


@databases
async def test_sessions(kind: str, tmp_path: Path) -> None:
    """The same calls in camelCase, a page at a time, filtered, and one with what it used."""
    async with with_calls(tmp_path, kind) as server:
        await seed(server)
        http = server.http
        first = (await http.get("/v1/sessions?limit=3")).json()
        second = (await http.get("/v1/sessions", params={"cursor": first["nextCursor"]})).json()
        ended = (await http.get("/v1/sessions?status=ended&agent=front-desk&to=2026-03-02T10:00:00Z")).json()
        of_no_kind = (await http.get("/v1/sessions?kind=s2s")).json()
        one = (await http.get("/v1/sessions/call-1")).json()
    assert [entry["id"] for entry in first["entries"]] == ["call-2", "call-1", "call-office"]
    assert [entry["id"] for entry in second["entries"]] == ["call-0"]
    assert second["nextCursor"] is None
    assert [entry["id"] for entry in ended["entries"]] == ["call-0"]
    assert of_no_kind == {"entries": [], "nextCursor": None}
    assert first["entries"][0]["pipelineConfig"] == {"kind": "cascade"}
    assert (one["status"], one["durationSeconds"]) == ("ended", 10)
    assert one["phoneCall"]["phoneNumberId"]
    assert [(line["metric"], line["quantity"], line["cost"]) for line in one["usage"]][:2] == [
        ("stt_seconds", 9.5, None),
        ("tts_characters", 40, None),
    ]
