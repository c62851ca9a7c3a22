"""One attempt to deliver: the signed request, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from agent_worker.domain.call import utc_now
from agent_worker.egress.client import EgressClient, Reply
from agent_worker.errors import EgressError, SettingsError
from agent_worker.webhooks.schedule import read_retry_after
from agent_worker.webhooks.signing import WebhookSigner, body_of, sent_headers
from agent_worker.webhooks.targets import Target

READ_BYTES = 65_536
"""So much of an answer is read; the rest is left unread."""

KEPT_CHARS = 4_096
"""So much of it is kept with the attempt."""

MASK = "***"
GONE = 410


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt.

    Attributes:
        error: one sentence where it was not delivered, None where it was.
        request_headers: what was sent, with `***` for values nobody may see.
        retry_after: how long the receiver wants not to be asked again.
    """

    delivered: bool
    http_status: int | None
    error: str | None
    url: str
    started_at: datetime
    duration_ms: int | None = None
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: str | None = None
    response_truncated: bool = False
    retry_after: timedelta | None = None

    @property
    def is_final(self) -> bool:
        """Whether the receiver wants no more of this."""
        return self.http_status == GONE


async def send(client: EgressClient, target: Target, delivery_id: str, payload: Mapping[str, Any]) -> Outcome:
    """Send once; nothing the network or the receiver does raises."""
    now = utc_now()
    if target.problem:
        return Outcome(False, None, target.problem, target.url, now)
    shown: dict[str, str] = {}
    try:
        body = body_of(payload)
        signed = WebhookSigner(*target.secrets).headers(delivery_id, body, now)
        headers = sent_headers({**target.shown_headers, **target.secret_headers}, signed)
        shown = sent_headers({**target.shown_headers, **dict.fromkeys(target.secret_headers, MASK)}, signed)
        reply = await client.post(
            target.url, body, headers, timeout_seconds=target.timeout_seconds, max_bytes=READ_BYTES, cut=True
        )
    except (SettingsError, EgressError) as error:
        duration_ms = round((utc_now() - now).total_seconds() * 1000)
        return Outcome(False, None, str(error), target.url, now, duration_ms, shown)
    text = reply.body.decode("utf-8", "replace")
    return Outcome(
        delivered=reply.is_success,
        http_status=reply.status,
        error=None if reply.is_success else _sentence(reply),
        url=target.url,
        started_at=now,
        duration_ms=reply.duration_ms,
        request_headers=shown,
        response_body=text[:KEPT_CHARS],
        response_truncated=reply.truncated or len(text) > KEPT_CHARS,
        retry_after=None if reply.is_success else read_retry_after(reply.headers.get("retry-after"), utc_now()),
    )


def _sentence(reply: Reply) -> str:
    if reply.status == GONE:
        return "The endpoint answered 410 Gone, so it is not tried again."
    if 300 <= reply.status < 400:
        return (
            f"The endpoint answered HTTP {reply.status}. Redirects are not followed: register the address it leads to."
        )
    return f"The endpoint answered HTTP {reply.status}."
