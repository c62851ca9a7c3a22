"""The page about webhooks says what the code does, and its receivers verify what we sign."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from agent_worker.api.webhook_shapes import Event, NewEndpoint
from agent_worker.domain.call import utc_now
from agent_worker.webhooks import payloads, schedule
from agent_worker.webhooks.dispatcher import LEASE, SHARED
from agent_worker.webhooks.outbox import EXPIRY, ONE_SHOT_EXPIRY
from agent_worker.webhooks.sending import KEPT_CHARS, READ_BYTES
from agent_worker.webhooks.signing import WebhookSigner, body_of, new_secret

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
WORDS = " ".join(PAGE.split())

Verify = Callable[[str, dict[str, str], bytes], Any]


def _block(language: str, having: str) -> str:
    return next(code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if having in code)


def _in_python() -> Verify:
    names: dict[str, Any] = {}
    exec(_block("python", "def verified"), names)
    found: Verify = names["verified"]
    return found


def _in_node() -> Verify:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    ask = """
    const given = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
    process.stdout.write(JSON.stringify(verified(given.secret, given.headers, Buffer.from(given.body, "base64"))));
    """
    program = _block("js", "function verified") + ask

    def verified(secret: str, headers: dict[str, str], body: bytes) -> Any:
        given = {"secret": secret, "headers": headers, "body": base64.b64encode(body).decode()}
        command = [node, "-e", program]
        ran = subprocess.run(command, input=json.dumps(given).encode(), capture_output=True, timeout=60, check=True)
        return json.loads(ran.stdout)

    return verified


@pytest.mark.parametrize("receiver", [_in_python, _in_node], ids=["python", "node"])
@pytest.mark.parametrize("secret", [new_secret(), "a-secret-in-plain-words"], ids=["made here", "in plain words"])
def test_the_receivers_of_the_docs_verify_our_signature(receiver: Callable[[], Verify], secret: str) -> None:
    """What we sign passes, also while secrets change; another body, another secret and an old message do not."""
    verified = receiver()
    payload = {"type": "call.report", "summary": "Grüße, 東京"}
    body = body_of(payload)
    headers = WebhookSigner(secret).headers("dlv_1", body, utc_now())
    assert verified(secret, headers, body) == payload
    assert verified(secret, headers, body + b" ") is None
    assert verified(new_secret(), headers, body) is None
    both = WebhookSigner(new_secret(), secret).headers("dlv_1", body, utc_now())
    assert verified(secret, both, body) == payload
    old = WebhookSigner(secret).headers("dlv_1", body, utc_now() - timedelta(minutes=6))
    assert verified(secret, old, body) is None


def test_the_example_of_the_page_is_an_endpoint() -> None:
    """What the curl line sends is accepted."""
    sent = PAGE.split("-d '")[1].split("'\n```")[0]
    assert NewEndpoint.model_validate_json(sent).name == "CRM"


def test_every_event_and_every_key_of_an_endpoint_is_described() -> None:
    """The tables have all that can be subscribed to and set, and nothing else."""
    told = PAGE.split("## What it tells")[1].split("## Delivery")[0]
    rows = [line.split("|")[1] for line in told.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`([a-z_.]+)`", " ".join(rows))) == set(get_args(Event))
    about = PAGE.split("## Whom it tells")[1].split("## What it tells")[0]
    keys = [line.split("|")[1] for line in about.splitlines() if line.startswith("| `")]
    fields = {field.alias or name for name, field in NewEndpoint.model_fields.items()}
    assert set(re.findall(r"`([a-zA-Z]+)`", " ".join(keys))) == fields


def test_what_can_be_subscribed_to_is_what_is_told() -> None:
    """Each event of the API is one the outbox writes."""
    assert set(get_args(Event)) == payloads.CONTROL_EVENTS | payloads.DURABLE_EVENTS | {"call.status"}


def test_what_metadata_only_leaves_out_is_told() -> None:
    """The list is the code's."""
    sentence = PAGE.split("With `contentMode: metadata_only` a body has none of ")[1].split(".\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", sentence)) == payloads.CONTENT


def test_the_figures_are_those_of_the_code() -> None:
    """Schedule, limits and times."""
    assert "after 10 s, 1 min, 5 min, 30 min, 2 h, 6 h, 12 h, 24 h" in WORDS
    assert schedule.RETRY_SECONDS == (10, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400)
    assert (timedelta(hours=72), timedelta(hours=1)) == (EXPIRY, ONE_SHOT_EXPIRY)
    assert f"up to {schedule.MOST_AT_ONCE} requests are made to one endpoint" in WORDS
    assert f"and {SHARED} to all" in WORDS
    assert f"{READ_BYTES // 1024} KiB are read and {KEPT_CHARS:,} characters kept" in WORDS
    assert f"claims after {LEASE.total_seconds():g} s" in WORDS
    assert (schedule.FIRST_AT_ONCE, schedule.FAILURES_TO_PAUSE) == (2, 5)
    assert (schedule.FIRST_PAUSE_SECONDS, schedule.LONGEST_PAUSE_SECONDS) == (2, 120)
