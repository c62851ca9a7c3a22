"""When a delivery is tried again, how an endpoint that fails is spared, and what becomes of a registered one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from agent_worker.cli import app
from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.number import NumberConfig
from agent_worker.errors import SettingsError
from agent_worker.settings import Settings, settings
from agent_worker.store.deliveries import Claimed
from agent_worker.webhooks import secret_file
from agent_worker.webhooks.dispatcher import settled_as
from agent_worker.webhooks.hooks import all_hooks, find_hook, hook_for, name_of
from agent_worker.webhooks.registration import DEFAULTS, NotPossible, changed_row
from agent_worker.webhooks.schedule import EndpointHealth, next_attempt, read_retry_after
from agent_worker.webhooks.sending import Outcome
from agent_worker.webhooks.signing import webhook_secret

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 10), (2, 60), (3, 300), (4, 1_800), (5, 7_200), (6, 21_600), (7, 43_200), (8, 86_400), (30, 86_400)],
)
def test_the_schedule(attempts: int, seconds: int) -> None:
    """Each wait is longer than the one before, and moved by a tenth at most."""
    assert next_attempt(attempts, NOW, jitter=0) == NOW + timedelta(seconds=seconds)
    assert next_attempt(attempts, NOW, jitter=1) == NOW + timedelta(seconds=seconds * 1.1)
    assert next_attempt(attempts, NOW, jitter=-1) == NOW + timedelta(seconds=seconds * 0.9)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 02 Mar 2026 09:31:00 GMT", 60),
        ("Mon, 02 Mar 2026 09:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: int | None) -> None:
    """Anything else says nothing."""
    asked = read_retry_after(header, NOW)
    assert (asked.total_seconds() if asked is not None else None) == seconds


def test_an_endpoint_that_answers_is_asked_more_and_more() -> None:
    """Two requests at first, sixteen at most."""
    health = EndpointHealth()
    offered = []
    for _ in range(5):
        offered.append(health.free(0, NOW))
        health.succeeded()
    assert offered == [2, 4, 8, 16, 16]
    assert health.free(10, NOW) == 6


def test_an_endpoint_that_fails_rests_longer_each_time_and_is_asked_by_one() -> None:
    """What was under way when the rest began does not lengthen it; a success ends it."""
    health, at = EndpointHealth(), NOW
    for _ in range(5):
        health.failed(at, at)
    assert health.free(0, at) == 0
    health.failed(at, at)
    rests = []
    for _ in range(8):
        start = at
        while not health.free(0, at):
            at += timedelta(seconds=1)
        rests.append((at - start).total_seconds())
        assert health.free(0, at) == 1
        assert health.free(1, at) == 0
        health.failed(at, at)
    assert rests == [2, 4, 8, 16, 32, 64, 120, 120]
    health.succeeded()
    assert health.free(0, at) == 2


def test_an_endpoint_that_asks_for_rest_gets_it_for_a_while() -> None:
    """The delivery itself waits as long as asked, the others two minutes at most."""
    health = EndpointHealth()
    health.asked_to_wait(timedelta(hours=3), NOW)
    assert health.free(0, NOW + timedelta(seconds=119)) == 0
    assert health.free(0, NOW + timedelta(seconds=120)) > 0


def _claimed(**fields: Any) -> Claimed:
    values = {"id": "dlv_1", "endpoint_id": "whe_1", "event": "call.report", "call_id": "call-1", "durable": True}
    return Claimed(**{**values, "attempt": 1, "expires_at": NOW + timedelta(hours=72), "payload": {}, **fields})


@pytest.mark.parametrize(
    ("status", "durable", "becomes"),
    [
        (200, True, "succeeded"),
        (204, False, "succeeded"),
        (500, True, "pending"),
        (404, True, "pending"),
        (301, True, "pending"),
        (None, True, "pending"),
        (410, True, "failed"),
        (500, False, "failed"),
        (None, False, "failed"),
    ],
)
def test_what_becomes_of_a_delivery(status: int | None, durable: bool, becomes: str) -> None:
    """2xx is taken, 410 ends it, single attempts are single; anything else is tried again."""
    delivered = status is not None and status < 300
    outcome = Outcome(delivered, status, None if delivered else "no", "https://crm.example.com", NOW)
    settled = settled_as(_claimed(durable=durable), outcome, NOW)
    assert settled.status == becomes
    assert (settled.next_attempt_at is not None) == (becomes == "pending")
    assert (settled.delivered_at is not None) == delivered


def test_a_delivery_is_not_put_off_past_its_end() -> None:
    """The last attempt falls due when it expires, so that it expires then."""
    end = NOW + timedelta(hours=1)
    outcome = Outcome(False, 500, "no", "https://crm.example.com", NOW)
    assert settled_as(_claimed(attempt=8, expires_at=end), outcome, NOW).next_attempt_at == end


CALL = {"agent_id": "desk", "direction": "inbound", "dialed_number": "+12015550199"}


def _catalog() -> AgentCatalog:
    hooks = {"postCall": {"url": "https://agent.example.com/"}, "status": {"url": "https://agent.example.com/"}}
    agent = AgentConfig.model_validate({"name": "Desk", "systemPrompt": "Hi.", "webhooks": hooks})
    template = {"webhooks": {k: {"url": "https://number.example.com/"} for k in ("postCall", "recording")}}
    broken = {"webhooks": {"postCall": {"url": 5}}}
    numbers = [
        NumberConfig.model_validate({"e164": "+12015550199", "dispatchMetadataTemplate": template}),
        NumberConfig.model_validate({"e164": "+12015550100", "dispatchMetadataTemplate": broken}),
    ]
    return AgentCatalog.of({"desk": agent}, numbers)


@pytest.mark.parametrize(
    ("event", "call", "endpoint_id"),
    [
        ("call.report", {}, "agent:desk:postCall"),
        ("call.status", {}, "agent:desk:status"),
        ("call.analysis", {}, None),
        ("call.recording", {}, "number:pn_12015550199:recording"),
        ("call.report", {"agent_id": None}, "number:pn_12015550199:postCall"),
        ("call.recording", {"direction": "outbound"}, None),
        ("call.report", {"agent_id": None, "dialed_number": "+12015550100"}, None),
        ("call.report", {"agent_id": "gone", "dialed_number": None}, None),
        ("call.answered", {}, None),
    ],
)
def test_whose_hook_is_told(event: str, call: dict[str, Any], endpoint_id: str | None) -> None:
    """The agent's, else that of the number that was dialled."""
    assert hook_for(_catalog(), {**CALL, **call}, event) == endpoint_id


def test_hooks_are_endpoints_with_names() -> None:
    """Every hook of the configuration has an id that leads back to it."""
    catalog = _catalog()
    found = all_hooks(catalog)
    assert {endpoint_id for endpoint_id in found if find_hook(catalog, endpoint_id)} == set(found)
    assert [name_of(catalog, endpoint_id) for endpoint_id in found[:2]] == ["Desk status", "Desk postCall"]
    assert find_hook(catalog, "agent:desk:preCall") is None
    assert find_hook(catalog, "agent:desk") is None


def test_a_replaced_secret_is_kept_for_a_day() -> None:
    """The old one signs too; giving the same again changes nothing; going back to the organization's drops it."""
    custom = {**DEFAULTS, "signing_secret_source": "custom", "signing_secret": "old-secret"}
    kept = {"previous_signing_secret": "old-secret", "previous_secret_until": NOW + timedelta(hours=24)}
    assert changed_row(custom, {"signing_secret": "new-secret"}, NOW) == {"signing_secret": "new-secret", **kept}
    assert changed_row(custom, {"signing_secret": "old-secret"}, NOW) == {"signing_secret": "old-secret"}
    back = changed_row(custom, {"signing_secret_source": "workspace"}, NOW)
    assert back == {"signing_secret_source": "workspace", "signing_secret": None, **kept}


def test_an_auth_header_without_a_value_keeps_the_one_it_has() -> None:
    """Others go; one that was not there needs a value."""
    row = {**DEFAULTS, "auth_headers": [{"name": "X-Key", "value": "1"}, {"name": "X-Other", "value": "2"}]}
    changed = changed_row(row, {"auth_headers": [{"name": "x-key", "value": None}]}, NOW)
    assert changed == {"auth_headers": [{"name": "x-key", "value": "1"}]}
    with pytest.raises(NotPossible, match="X-New has no value"):
        changed_row(row, {"auth_headers": [{"name": "X-New", "value": None}]}, NOW)


def test_the_organizations_secret_is_rotated_in_its_file(tmp_path: Path) -> None:
    """The new one first, then the one before; a second rotation drops the oldest; the file stays its owner's."""
    given = Settings(data_dir=tmp_path)
    first = webhook_secret(given)
    new, old = secret_file.rotate(given)
    assert (old, webhook_secret(given)) == (first, f"{new} {first}")
    newest, before = secret_file.rotate(given)
    assert before == new
    assert secret_file.finish(given) == [newest]
    assert webhook_secret(given) == newest
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("webhook-secret", 0o600)]


def test_a_secret_of_the_environment_is_not_rotated_here(tmp_path: Path) -> None:
    """The sentence says how it is done; nothing is written."""
    given = Settings(data_dir=tmp_path, webhook_secret=SecretStr("whsec_AAAA"))
    with pytest.raises(SettingsError, match="AGENT_WORKER_WEBHOOK_SECRET"):
        secret_file.rotate(given)
    assert list(tmp_path.iterdir()) == []


def test_the_command_prints_what_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One secret a line, the newest first."""
    monkeypatch.setenv("AGENT_WORKER_DATA_DIR", str(tmp_path))
    settings.cache_clear()
    said = [CliRunner().invoke(app, ["webhook-secret", verb]).output.split() for verb in ("show", "rotate", "finish")]
    settings.cache_clear()
    assert [len(lines) for lines in said] == [1, 2, 1]
    assert (said[1][1], said[2]) == (said[0][0], said[1][:1])
