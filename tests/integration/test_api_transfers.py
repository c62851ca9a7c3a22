"""Transfers over HTTP: what a call's detail tells of them, and what is answered before a call is asked for one."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from spekoai import AsyncSpeko, Speko, SpekoApiError
from sqlalchemy import select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.fact import TransferChanged
from agent_worker.domain.transfer import TransferKind, TransferStatus
from agent_worker.store.tables import audit_entries
from tests.call_facts import START, CallStory, whole_call
from tests.integration.live_calls import LIVEKIT, api, live_call, record
from tests.integration.serving import make_key, serve_settings, serving

SALES = "+12015550123"
ROUTES: dict[str, dict[str, Any]] = {
    "blind": {"to": SALES},
    "warm": {"destinations": [{"to": SALES, "label": "Sales"}]},
    "tr_1/complete": {},
    "tr_1/cancel": {"tryNext": True},
}


def attempt(story: CallStory, name: str, status: TransferStatus, cause: str | None = None, minute: int = 1) -> None:
    story.add(
        TransferChanged,
        transfer_id=name,
        transfer_kind=TransferKind.WARM,
        status=status,
        transfer_to=SALES,
        failure_cause=cause,
        metadata={"label": "Sales"},
        created_at=START + timedelta(minutes=minute),
    )


async def test_a_calls_detail_has_each_attempt_as_it_came_out(tmp_path: Path) -> None:
    """In order, with the newest word on each, whichever word arrives last."""
    settings = serve_settings(tmp_path)
    story = live_call()
    attempt(story, "tr_1", TransferStatus.REQUESTED)
    attempt(story, "tr_1", TransferStatus.FAILED, "busy")
    attempt(story, "tr_2", TransferStatus.COMPLETED, minute=2)
    await record(settings, story)
    story.facts = story.facts[-3:-2]  # the first of them once more
    await record(settings, story)
    key = await make_key(settings, scope="read")
    async with serving(settings) as url:

        def transfers() -> list[Any]:
            with Speko(api_key=key, base_url=url) as speko:
                return list(speko.calls.get("call-1").transfers)

        found = await asyncio.to_thread(transfers)
    assert [(row.id, row.status, row.failure_cause) for row in found] == [
        ("tr_1", "failed", "busy"),
        ("tr_2", "completed", None),
    ]
    assert {(row.kind, row.transfer_to, row.session_id) for row in found} == {("warm", SALES, "call-1")}


@pytest.mark.parametrize("route", ROUTES)
async def test_what_is_no_live_call_is_not_transferred(tmp_path: Path, route: str) -> None:
    """No call, one that is over, one that nobody can be reached for."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, whole_call())
    path = f"transfers/{route}"
    async with api(settings) as client:
        unknown = await client.post(f"/v1/calls/call-0/{path}", json=ROUTES[route])
        over = await client.post(f"/v1/calls/call-1/{path}", json=ROUTES[route])
    assert (unknown.status_code, unknown.json()["code"]) == (404, "NOT_FOUND")
    assert (over.status_code, over.json()["code"]) == (409, "CALL_NOT_LIVE")


async def test_a_livekit_that_is_away_is_said_and_each_wish_is_noted(tmp_path: Path) -> None:
    """503 with `Retry-After`; the audit names the action, and no number."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        answers = [await client.post(f"/v1/calls/call-1/transfers/{route}", json=ROUTES[route]) for route in ROUTES]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "LIVEKIT_UNAVAILABLE")}
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    control = EmbeddedControlPlane(settings)
    async with control.reading() as connection:
        rows = (await connection.execute(select(audit_entries).order_by(audit_entries.c.created_at))).mappings().all()
    await control.aclose()
    assert [row["action"] for row in rows] == [
        "transfer.blind",
        "transfer.warm",
        "transfer.complete",
        "transfer.cancel",
    ]
    assert SALES not in str([dict(row) for row in rows])


async def test_without_livekit_it_is_said_what_to_set(tmp_path: Path) -> None:
    """501 with the names of the variables."""
    settings = serve_settings(tmp_path)
    await record(settings, live_call())
    async with api(settings) as client:
        answer = await client.post("/v1/calls/call-1/transfers/blind", json=ROUTES["blind"])
    assert (answer.status_code, answer.json()["code"]) == (501, "NOT_AVAILABLE")
    assert "LIVEKIT_URL" in answer.json()["error"]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("blind", {}),
        ("blind", {"to": SALES, "headers": {"X-Note": "a\r\nX-Evil: 1"}}),
        ("blind", {"to": SALES, "headers": {"X Note": "a"}}),
        ("blind", {"to": SALES, "headers": {"p-asserted-identity": "<tel:+12015550199>"}}),
        ("blind", {"to": SALES, "headers": {"V": "a"}}),
        ("blind", {"to": SALES, "headers": {f"X-{n}": "a" for n in range(21)}}),
        ("blind", {"to": SALES, "headers": {"X-Note": "a\nb"}}),
        ("blind", {"to": SALES, "headers": {"X-Note\r\nX-Evil": "1"}}),
        ("blind", {"to": SALES, "ringingTimeout": 0}),
        ("blind", {"to": SALES, "ringingTimeout": 121}),
        ("blind", {"to": "1"}),
        ("blind", {"to": "2015550123"}),
        ("blind", {"to": "sales desk"}),
        ("blind", {"to": "tel:+12015550123;ext=5"}),
        ("warm", {"to": "sales"}),
        ("warm", {"to": SALES, "ringingTimeout": 0}),
        ("warm", {"to": SALES, "ringingTimeout": 121}),
        ("warm", {"destinations": []}),
        ("warm", {}),
        ("warm", {"to": SALES, "destinations": [{"to": SALES}]}),
        ("warm", {"to": SALES, "from": "2015550123"}),
        ("warm", {"destinations": [{"to": SALES}] * 11}),
        ("warm", {"to": SALES, "summary": "x" * 8_000, "screeningPrompt": "x" * 8_000}),
        ("tr_1/cancel", {"reason": "x" * 201}),
    ],
)
async def test_a_request_nobody_could_follow_is_refused(tmp_path: Path, route: str, body: dict[str, Any]) -> None:
    """400 before the call is asked."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        answer = await client.post(f"/v1/calls/call-1/transfers/{route}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")
    if "headers" in body:
        [issue] = answer.json()["issues"]
        assert issue["path"][0] == "headers"
        assert "Value error" not in issue["message"]


CALLS: dict[str, Any] = {
    "blind": lambda calls, call_id: calls.blind_transfer(call_id, {"to": SALES}),
    "warm": lambda calls, call_id: calls.warm_transfer(call_id, {"to": SALES}),
    "complete": lambda calls, call_id: calls.complete_warm_transfer(call_id, "tr_1"),
    "cancel": lambda calls, call_id: calls.cancel_warm_transfer(call_id, "tr_1", {"try_next": True}),
}
NEITHER_NOR = {
    "neither": {},
    "both": {"to": SALES, "destinations": [{"to": SALES}]},
}


def refusal(error: SpekoApiError) -> tuple[int, str | None]:
    return error.status, error.code


async def test_both_clients_are_told_why_not(tmp_path: Path) -> None:
    """The official clients, sync and async: an unknown call, one that is over, a request that says too much or nothing."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, whole_call())
    key = await make_key(settings, scope="operate")
    told: dict[str, list[tuple[int, str | None]]] = {"sync": [], "async": []}
    asks = [
        *((use, call_id) for call_id in ("call-0", "call-1") for use in CALLS.values()),
        *((lambda calls, _, body=body: calls.warm_transfer("call-1", body), "") for body in NEITHER_NOR.values()),
    ]
    async with serving(settings) as url:

        def in_sync() -> None:
            with Speko(api_key=key, base_url=url) as speko:
                for use, call_id in asks:
                    with pytest.raises(SpekoApiError) as refused:
                        use(speko.calls, call_id)
                    told["sync"].append(refusal(refused.value))

        await asyncio.to_thread(in_sync)
        async with AsyncSpeko(api_key=key, base_url=url) as speko:
            for use, call_id in asks:
                with pytest.raises(SpekoApiError) as refused:
                    await use(speko.calls, call_id)
                told["async"].append(refusal(refused.value))
    expected = [(404, "NOT_FOUND")] * 4 + [(409, "CALL_NOT_LIVE")] * 4 + [(400, "VALIDATION_ERROR")] * 2
    assert told == {"sync": expected, "async": expected}


@pytest.mark.parametrize("route", ROUTES)
async def test_a_key_that_may_only_read_transfers_nobody(tmp_path: Path, route: str) -> None:
    """403, and nothing is noted as done."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    key = await make_key(settings, scope="read")
    async with serving(settings) as url, httpx.AsyncClient(base_url=url) as client:
        client.headers["authorization"] = f"Bearer {key}"
        answer = await client.post(f"/v1/calls/call-1/transfers/{route}", json=ROUTES[route])
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("blind", {"to": SALES, "playDialtone": None, "headers": None, "metadata": None, "ringingTimeout": None}),
        ("warm", {"to": None, "destinations": [{"to": SALES, "metadata": None}], "fallback": {"strategy": None}}),
        ("warm", {"to": SALES, "waitUntilAnswered": None, "voicemailDetection": {"mode": None, "enabled": None}}),
        ("tr_1/cancel", {"reason": None, "tryNext": None, "voicemailDetected": None}),
    ],
)
async def test_null_is_as_good_as_left_out(tmp_path: Path, route: str, body: dict[str, Any]) -> None:
    """As the official clients send what somebody has set to nothing: the call is asked."""
    settings = serve_settings(tmp_path, **LIVEKIT)
    await record(settings, live_call())
    async with api(settings) as client:
        answer = await client.post(f"/v1/calls/call-1/transfers/{route}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (503, "LIVEKIT_UNAVAILABLE")
