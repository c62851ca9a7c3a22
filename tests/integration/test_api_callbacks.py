"""Callbacks over the API: listed, read, cancelled by the official client; dispatching says what is missing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from spekoai.errors import SpekoApiError

from agent_worker.domain.call import utc_now
from agent_worker.store.callbacks import schedule
from agent_worker.store.engine import Database
from agent_worker.store.tables import audit_entries
from tests.databases import KINDS
from tests.integration.api_client import Served, served

both = pytest.mark.parametrize("kind", KINDS)
NOW = utc_now()


async def _schedule(found: Served, callback_id: str, **changes: Any) -> None:
    row = {
        "id": callback_id,
        "organization_id": found.settings.organization_id,
        "agent_id": "desk",
        "to_number": "+12015550101",
        "from_number": "+12015550199",
        "scheduled_at": NOW + timedelta(hours=1),
        "status": "scheduled",
        "reason": "A repair.",
        "pipeline_config": {},
        "metadata": {},
        "created_at": NOW,
        "updated_at": NOW,
        **changes,
    }
    database = Database(found.settings.database)
    async with database.write() as connection:
        await schedule(connection, row)
    await database.aclose()


@both
async def test_callbacks_are_listed_the_next_one_first(tmp_path: Path, kind: str) -> None:
    """Sync and async; by status, by call, and no more than asked for."""
    async with served(tmp_path, kind) as found:
        await _schedule(found, "cb_later", scheduled_at=NOW + timedelta(days=2))
        await _schedule(found, "cb_soon")
        await _schedule(found, "cb_done", status="dispatched")
        listed = await found.sync(lambda client: client.callbacks.list(status="scheduled"))
        assert [callback.id for callback in listed] == ["cb_soon", "cb_later"]
        assert await found.later(lambda client: client.callbacks.list(status="scheduled")) == listed
        assert len(await found.sync(lambda client: client.callbacks.list(limit=1))) == 1
        assert await found.sync(lambda client: client.callbacks.list(source_session_id="none")) == []
        one = await found.later(lambda client: client.callbacks.get("cb_soon"))
    assert (one.to_number, one.reason, one.pipeline_config) == ("+12015550101", "A repair.", {})


@both
async def test_a_callback_is_cancelled_once(tmp_path: Path, kind: str) -> None:
    """The second time changes nothing; what was dispatched cannot be cancelled any more."""
    async with served(tmp_path, kind) as found:
        await _schedule(found, "cb_1")
        await _schedule(found, "cb_done", status="dispatched")
        first = await found.sync(lambda client: client.callbacks.cancel("cb_1", {"reason": "Not needed."}))
        assert (first.status, first.failure_cause) == ("cancelled", "Not needed.")
        assert first.cancelled_at is not None
        assert await found.later(lambda client: client.callbacks.cancel("cb_1")) == first
        with pytest.raises(SpekoApiError) as error:
            await found.sync(lambda client: client.callbacks.cancel("cb_done"))
        assert (error.value.status, error.value.code) == (409, "CALLBACK_NOT_SCHEDULED")
        database = Database(found.settings.database)
        async with database.read() as connection:
            entries = (await connection.execute(audit_entries.select())).mappings().all()
        await database.aclose()
    assert [(entry["action"], entry["resource"]) for entry in entries] == [("callback.cancel", "callbacks/cb_1")]


@both
async def test_a_moved_callback_keeps_what_became_of_it(tmp_path: Path, kind: str) -> None:
    """A second analysis moves one that waits, and brings none back that was cancelled."""
    async with served(tmp_path, kind) as found:
        for callback_id in ("cb_1", "cb_2"):
            await _schedule(found, callback_id)
        await found.sync(lambda client: client.callbacks.cancel("cb_2"))
        moved = NOW + timedelta(days=1)
        for callback_id in ("cb_1", "cb_2"):
            await _schedule(found, callback_id, scheduled_at=moved)
        one, two = [(await found.http.get(f"/v1/callbacks/{name}")).json() for name in ("cb_1", "cb_2")]
    assert one["scheduled_at"] > two["scheduled_at"]
    assert (one["status"], two["status"]) == ("scheduled", "cancelled")


async def test_dispatching_says_that_nobody_is_called(tmp_path: Path) -> None:
    """501 with what to do instead, and the callback stays scheduled."""
    async with served(tmp_path) as found:
        await _schedule(found, "cb_1")
        with pytest.raises(SpekoApiError) as error:
            await found.sync(lambda client: client.callbacks.dispatch("cb_1"))
        assert (error.value.status, error.value.code) == (501, "NOT_AVAILABLE")
        assert (await found.sync(lambda client: client.callbacks.get("cb_1"))).status == "scheduled"


async def test_who_may_not_see_a_callback_finds_none(tmp_path: Path) -> None:
    """A key for other agents lists nothing, and neither reads nor cancels."""
    async with served(tmp_path) as found:
        await _schedule(found, "cb_1")
        async with await found.with_key(agent_ids=["somebody-else"]) as other:
            assert (await other.get("/v1/callbacks")).json() == {"callbacks": []}
            for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/dispatch")):
                answer = await other.request(method, f"/v1/callbacks/cb_1{path}")
                assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        async with await found.with_key(scope="read") as reader:
            assert (await reader.post("/v1/callbacks/cb_1/cancel")).status_code == 403
        assert (await found.http.get("/v1/callbacks", params={"limit": 101})).status_code == 400
        assert (await found.http.get("/v1/callbacks", params={"status": "lost"})).status_code == 400
        answer = await found.http.post("/v1/callbacks/cb_1/cancel", json={"reason": "x" * 501})
        assert answer.status_code == 400
