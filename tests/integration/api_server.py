"""A `serve` in a thread of its own, with a row of everything, for tests that ask it from outside."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import NullPool, create_engine, select

from agent_worker.api.tool_rows import tool_id
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store import tables
from agent_worker.store.engine import database_url
from tests.call_facts import whole_call
from tests.integration.serving import make_key, serve_settings, serving

AGENT_ID = "front-desk"
OTHER_AGENT_ID = "back-office"
CALL_ID = "0b1e7c1e-52a4-4f8c-9d37-6c1f6f0d5a11"
LIVE_CALL_ID = "1c2f8d2f-63b5-4a9d-8e48-7d2a7a1e6b22"
STORED_AGENT_ID = "agent_5eed"
TOOL_ID = tool_id(STORED_AGENT_ID, "take_message")
STORED_NUMBER_ID = "pn_5eed"
ENDPOINT_ID = "wh_5eed"
DELIVERY_ID = "del_5eed"
CALLBACK_ID = "cb_5eed"

AGENTS = [
    {"name": AGENT_ID, "systemPrompt": "You help.", "numbers": ["+12015550199"]},
    {"name": OTHER_AGENT_ID, "systemPrompt": "You count.", "numbers": ["+12015550198"]},
]
UNLIMITED = {"api_requests_per_minute": 0, "api_wrong_keys_per_minute": 0}


def assert_error(answer: httpx.Response, *statuses: int, code: str | None = None) -> dict[str, Any]:
    """Check an error's status and code, and that the error shape is all there is; returns the body."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:500]}"
    body: dict[str, Any] = answer.json()
    assert set(body) <= {"error", "code", "issues", "retryable"}
    assert body["error"]
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", body["code"])
    assert code in (None, body["code"])
    assert "Traceback" not in answer.text
    return body


@dataclass(frozen=True)
class ApiServer:
    """A running `serve` and its keys.

    Attributes:
        anybody: a client without a key.
    """

    url: str
    settings: Settings
    keys: dict[str, str]
    anybody: httpx.Client

    def client(self, scope: str = "admin", **options: Any) -> httpx.Client:
        """Return a client with the key of this scope."""
        headers = {"authorization": f"Bearer {self.keys[scope]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row of every table, but when keys were last used and when leases end."""
        engine = create_engine(sync_url(self.settings), poolclass=NullPool)
        ignored = {"last_used_at", "lease_until", "due_at", "claimed_by", "attempts", "claimed_until"}
        with engine.connect() as connection:
            return {
                name: sorted(
                    (
                        {column: value for column, value in row.items() if column not in ignored}
                        for row in connection.execute(select(table)).mappings()
                    ),
                    key=str,
                )
                for name, table in tables.metadata.tables.items()
            }


def sync_url(settings: Settings) -> Any:
    """Return the database's URL for a driver that blocks."""
    url = database_url(settings.database)
    return url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url


@contextmanager
def in_thread(settings: Settings) -> Iterator[str]:
    """Run `serve` beside the test, which may block; yields its URL."""
    started: list[str] = []
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        async with serving(settings) as url:
            started.append(url)
            ready.set()
            await stop.wait()

    def work() -> None:
        try:
            loop.run_until_complete(run())
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=work, name="serve")
    thread.start()
    try:
        ready.wait(60)
        assert started, "serve did not start"
        yield started[0]
    finally:
        if thread.is_alive():
            loop.call_soon_threadsafe(stop.set)
        thread.join(30)


@contextmanager
def seeded_server(folder: Path, *, seed: bool = True, **changes: Any) -> Iterator[ApiServer]:
    """Run a `serve` with a key of each scope and, unless told otherwise, a row of everything."""
    settings = serve_settings(folder, *AGENTS, **(UNLIMITED | changes))

    async def prepare() -> dict[str, str]:
        if seed:
            await write_rows(settings)
        keys = {scope: await make_key(settings, scope=scope) for scope in ("read", "operate", "admin")}
        return keys | {"other": await make_key(settings, scope="admin", agent_ids=[OTHER_AGENT_ID])}

    keys = asyncio.run(prepare())
    with in_thread(settings) as url, httpx.Client(base_url=url, timeout=30) as anybody:
        yield ApiServer(url, settings, keys, anybody)


async def write_rows(settings: Settings) -> None:
    """Write a call that is over, one that is live, and one row of what else the API shows."""
    now = utc_now()
    control = EmbeddedControlPlane(settings)
    try:
        over = whole_call(CALL_ID, start=now - timedelta(hours=1), organization=settings.organization_id)
        await control.record(over.facts)
        live = whole_call(LIVE_CALL_ID, start=now - timedelta(seconds=30), organization=settings.organization_id)
        await control.record(live.facts[:7])
        async with control.writing() as connection:
            lasting = {"lease_until": now + timedelta(days=1)}
            await connection.execute(tables.calls.update().where(tables.calls.c.id == LIVE_CALL_ID).values(lasting))
            for table, row in _rows(settings.organization_id, now):
                await connection.execute(table.insert().values(row))
    finally:
        await control.aclose()


def _rows(organization_id: str, now: Any) -> list[tuple[Any, dict[str, Any]]]:
    made = {"organization_id": organization_id, "created_at": now, "updated_at": now}
    tool = {"name": "take_message", "description": "Take a message."}
    config = {"name": "Stored", "systemPrompt": "You help.", "intent": {"language": "en"}, "tools": [tool]}
    payload = {"type": "call.report", "call_id": CALL_ID}
    return [
        (tables.agents, made | {"id": STORED_AGENT_ID, "name": "Stored", "config": config, "version": 1}),
        (
            tables.numbers,
            made
            | {
                "id": STORED_NUMBER_ID,
                "e164": "+12015550177",
                "direction": "inbound",
                "agent_id": STORED_AGENT_ID,
                "source": "sip_trunk",
            },
        ),
        (
            tables.webhook_endpoints,
            made
            | {
                "id": ENDPOINT_ID,
                "name": "crm",
                "url": "https://hooks.example.com/calls",
                "events": ["call.hold"],  # which no test makes happen, so that rows stay as they are
                "timeout_ms": 8_000,
            },
        ),
        (
            tables.deliveries,
            {
                "id": DELIVERY_ID,
                "event_id": "evt_5eed",
                "endpoint_id": ENDPOINT_ID,
                "organization_id": organization_id,
                "event": "call.report",
                "call_id": CALL_ID,
                "agent_id": AGENT_ID,
                "status": "succeeded",
                "attempt_count": 1,
                "http_status": 200,
                "payload": payload,
                "durable": True,
                "occurred_at": now,
                "expires_at": now + timedelta(hours=72),
                "delivered_at": now,
                "created_at": now,
            },
        ),
        (
            tables.callbacks,
            made
            | {
                "id": CALLBACK_ID,
                "source_session_id": CALL_ID,
                "agent_id": AGENT_ID,
                "to_number": "+12015550101",
                "scheduled_at": now + timedelta(days=1),
                "status": "scheduled",
            },
        ),
    ]
