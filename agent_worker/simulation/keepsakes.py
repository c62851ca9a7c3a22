"""What a simulated call leaves behind: the recording, the report, the events and the webhook, as files."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.settings import Settings
from agent_worker.store.engine import Database
from agent_worker.store.migrate import upgrade
from agent_worker.store.queries import call_events, call_report
from agent_worker.store.tables import deliveries, webhook_endpoints
from agent_worker.webhooks.signing import WebhookSigner, body_of, webhook_secret

ENDPOINT_ID = "whe_demo"
ENDPOINT_URL = "https://example.invalid/webhooks/calls"
RECORDING, REPORT, EVENTS, WEBHOOK = "recording.ogg", "report.json", "events.json", "webhook.json"


@dataclass(frozen=True)
class Keepsakes:
    """The files of one call.

    Attributes:
        report: the contract's CallReport.
        events: the contract's CallEvents, in order.
        files: what was written, by what it is.
    """

    report: dict[str, Any]
    events: list[dict[str, Any]]
    files: dict[str, Path]


async def subscribe(settings: Settings) -> None:
    """Register an endpoint for reports, so that the outbox has somebody to write to; nothing is sent."""
    await asyncio.to_thread(upgrade, settings.database)
    database = Database(settings.database)
    now = utc_now()
    try:
        async with database.write() as connection:
            await connection.execute(
                insert(webhook_endpoints).values(
                    id=ENDPOINT_ID,
                    organization_id=settings.organization_id,
                    name="demo",
                    url=ENDPOINT_URL,
                    events=["call.report"],
                    all_agents=True,
                    agent_ids=[],
                    filter_tags={},
                    headers={},
                    auth_headers=[],
                    extraction_fields=[],
                    created_at=now,
                    updated_at=now,
                )
            )
    finally:
        await database.aclose()


async def keep(output_dir: Path, settings: Settings, control: EmbeddedControlPlane, call_id: str) -> Keepsakes | None:
    """Write the call's files; returns None where the call left no report.

    Raises:
        OSError: the folder cannot be written.
    """
    async with control.reading() as connection:
        report = await call_report(connection, call_id)
        events = await call_events(connection, call_id)
        query = select(deliveries).where(deliveries.c.call_id == call_id, deliveries.c.event == "call.report")
        delivery = (await connection.execute(query)).mappings().one_or_none()
    if report is None or delivery is None:
        return None
    webhook = _signed(settings, dict(delivery))
    recording = settings.recordings_dir / f"{call_id}.ogg"
    files = await asyncio.to_thread(_write_all, output_dir, report, events, webhook, recording)
    return Keepsakes(report, events, files)


def _write_all(output_dir: Path, report: object, events: object, webhook: object, recording: Path) -> dict[str, Path]:
    output_dir.mkdir(parents=True, exist_ok=True)
    files = {
        "report": _write(output_dir / REPORT, report),
        "events": _write(output_dir / EVENTS, events),
        "webhook": _write(output_dir / WEBHOOK, webhook),
    }
    if recording.is_file():
        files = {"recording": output_dir / RECORDING, **files}
        shutil.copyfile(recording, files["recording"])
    return files


def _signed(settings: Settings, delivery: dict[str, Any]) -> dict[str, Any]:
    """Return the webhook as it would go out now, and the demo's own secret to verify it with."""
    secret = webhook_secret(settings)
    body = body_of(delivery["payload"])
    headers = WebhookSigner(secret).headers(delivery["id"], body, utc_now())
    return {
        "note": "Not sent: the demo has no endpoint. The secret was made for this demo alone.",
        "secret": secret,
        "url": ENDPOINT_URL,
        "headers": headers,
        "body": body.decode(),
    }


def _write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
    return path
