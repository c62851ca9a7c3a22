"""Webhook bodies, who is told, and signatures a receiver's library accepts."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from agent_worker.errors import SettingsError
from agent_worker.settings import Settings
from agent_worker.webhooks.outbox import is_subscribed
from agent_worker.webhooks.payloads import call_report_payload, call_status_payload, metadata_only
from agent_worker.webhooks.signing import WebhookSigner, body_of, new_secret, webhook_secret

CALL = {
    "id": "c1",
    "organization_id": "org_1",
    "agent_id": "front-desk",
    "status": "ended",
    "direction": "inbound",
    "duration_seconds": 3,
    "metadata": {"customerId": "c1"},
}
EVENT = {
    "id": "c1:4",
    "event_type": "call.hangup",
    "provider": "speko",
    "status": "ended",
    "failure_cause": None,
    "sip_status_code": 200,
    "sip_status": "OK",
    "occurred_at": "2026-03-02T09:30:00.000000Z",
    "payload": {},
}
REPORT: dict[str, Any] = {
    "session_id": "c1",
    "summary": "Said.",
    "transcript": {"entries": [{"text": "secret"}]},
    "structured_data": {"message": {}},
    "outcome": "completed",
    "cost_micro_usd": "1",
    "webhook_deliveries": [{}],
}


def test_the_status_body_is_the_event_flat() -> None:
    """Receivers key on type, event_type, status and the SIP fields at the top level."""
    body = call_status_payload(EVENT, CALL)
    assert body["type"] == "call.status"
    assert (body["call_id"], body["session_id"], body["event_type"]) == ("c1", "c1", "call.hangup")
    assert (body["status"], body["sip_status_code"], body["metadata"]) == ("ended", 200, {"customerId": "c1"})


def test_the_report_body_is_the_report_and_not_the_story_of_its_own_delivery() -> None:
    """`call.report` carries the report; deliveries of it are no part of it."""
    body = call_report_payload(REPORT, CALL, event_id="evt_1", occurred_at="2026-03-02T09:30:00.000000Z")
    assert (body["type"], body["event_id"], body["outcome"]) == ("call.report", "evt_1", "completed")
    assert body["transcript"] == REPORT["transcript"]
    assert "webhook_deliveries" not in body


def test_metadata_only_leaves_out_what_was_said() -> None:
    """An endpoint that asked for no content gets ids, status, outcome and cost, and no words."""
    body = metadata_only(call_report_payload(REPORT, CALL, event_id="evt_1", occurred_at=None))
    assert "secret" not in json.dumps(body)
    assert not {"summary", "transcript", "structured_data"} & body.keys()
    assert (body["outcome"], body["cost_micro_usd"]) == ("completed", "1")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, True),
        ({"events": ["call.status"]}, False),
        ({"all_agents": False, "agent_ids": ["front-desk"]}, True),
        ({"all_agents": False, "agent_ids": ["sales"]}, False),
        ({"filter_tags": {"tenant": "a"}}, True),
        ({"filter_tags": {"tenant": "b"}}, False),
        ({"filter_tags": {"tenant": "a", "region": "eu"}}, False),
    ],
)
def test_an_endpoint_is_told_what_it_asked_for(changes: dict[str, Any], told: bool) -> None:
    """Event, agent and every tag have to match."""
    endpoint = {"events": ["call.report"], "all_agents": True, "agent_ids": [], "filter_tags": {}, **changes}
    assert is_subscribed(endpoint, "call.report", agent_id="front-desk", tags={"tenant": "a"}) is told


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-8))])
def test_a_receivers_library_accepts_the_signature(zone: timezone) -> None:
    """The public Standard Webhooks library verifies what we sign, from whatever time zone."""
    secret = new_secret()
    body = body_of({"type": "call.report", "text": "Grüße, 東京"})
    headers = WebhookSigner(secret).headers("dlv_1", body, datetime.now(zone))
    assert Webhook(secret).verify(body, headers) == {"type": "call.report", "text": "Grüße, 東京"}
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(body, headers)


def test_an_old_signature_is_refused_by_the_receiver() -> None:
    """The timestamp is part of what is signed."""
    secret = new_secret()
    headers = WebhookSigner(secret).headers("dlv_1", b"{}", datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(b"{}", headers)


def test_a_plain_secret_is_used_as_it_is() -> None:
    """A secret without the prefix signs with its own bytes."""
    headers = WebhookSigner("plain-secret").headers("dlv_1", b"{}", datetime.now(UTC))
    assert Webhook(b"plain-secret").verify(b"{}", headers) == {}


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_%%%"])
def test_a_secret_that_signs_nothing_is_refused(secret: str) -> None:
    """An empty or unreadable secret is an error of the operator, not an unsigned webhook."""
    with pytest.raises(SettingsError):
        WebhookSigner(secret)


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """The same secret comes back every time, from a file with mode 0600."""
    settings = Settings(data_dir=tmp_path / "data")
    secret = webhook_secret(settings)
    assert secret.startswith("whsec_")
    assert webhook_secret(settings) == secret
    file = tmp_path / "data" / "webhook-secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["webhook-secret"]


def test_the_operators_secret_wins(tmp_path: Path) -> None:
    """A secret in the environment is used and none is made."""
    settings = Settings(data_dir=tmp_path, webhook_secret=SecretStr("whsec_AAAA"))
    assert webhook_secret(settings) == "whsec_AAAA"
    assert list(tmp_path.iterdir()) == []


def test_processes_that_start_at_once_agree_on_the_secret(tmp_path: Path, root: Path) -> None:
    """Of several processes one makes the secret and all use it."""
    program = (
        "import sys; from pathlib import Path; from agent_worker.settings import Settings;"
        "from agent_worker.webhooks.signing import webhook_secret;"
        "print(webhook_secret(Settings(data_dir=Path(sys.argv[1]))))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=root)
        for _ in range(4)
    ]
    secrets = {process.communicate(timeout=60)[0] for process in started}
    assert len(secrets) == 1
    assert secrets.pop().startswith(b"whsec_")
