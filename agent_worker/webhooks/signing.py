"""Signs webhooks as Standard Webhooks asks (contract 5.3), with a secret that is made once and kept."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from agent_worker.domain.lifecycle_hook import variable_of
from agent_worker.errors import SettingsError
from agent_worker.made_once import read_or_make
from agent_worker.settings import Settings

PREFIX = "whsec_"
SECRET_FILE = "webhook-secret"


class WebhookSigner:
    """Signs bodies, with every secret it is given: a receiver accepts what any of its own secrets verifies.

    Args:
        secrets: each one secret, or several `whsec_…` separated by spaces, the newest first.

    Raises:
        SettingsError: a secret is empty, or starts with `whsec_` and is not base64 after it.
    """

    def __init__(self, *secrets: str) -> None:
        self._webhooks = [Webhook(_key(one)) for written in secrets for one in each_secret(written)]

    def headers(self, delivery_id: str, body: bytes, at: datetime) -> dict[str, str]:
        """Return the three headers of a webhook.

        Args:
            delivery_id: the same for every attempt of a delivery, so that a receiver can tell a repetition.
            body: exactly the bytes that are sent.
            at: time of the attempt, aware; receivers refuse what is older than about five minutes.
        """
        at = at.astimezone(UTC)
        return {
            "content-type": "application/json",
            "webhook-id": delivery_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(webhook.sign(delivery_id, at, body.decode()) for webhook in self._webhooks),
        }


def body_of(payload: Mapping[str, Any]) -> bytes:
    """Return the payload as the bytes that are signed and sent; half a surrogate pair, which UTF-8 lacks, is a `?`."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def secret_value(written: str, env: Mapping[str, str]) -> str | None:
    """Return a secret as configured, or of `env:NAME` the variable's value; None where that is missing or empty."""
    variable = variable_of(written)
    return written if variable is None else env.get(variable, "").strip() or None


def required_value(written: str, what: str, env: Mapping[str, str]) -> str:
    """Return a secret as configured, or of `env:NAME` the variable's value.

    Raises:
        SettingsError: there is none; the sentence says of `what`.
    """
    value = secret_value(written, env)
    if not value:
        where = f" ({written[:200]} is not set)" if variable_of(written) is not None else ""
        raise SettingsError("webhook_secret_missing", f"There is no value for {what}{where}.")
    return value


def sent_headers(configured: Mapping[str, str], signed: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request: no configured one passes for one of ours, for what a receiver trusts is signed.

    Args:
        configured: by name in any case.
        signed: what `WebhookSigner.headers` returns.
    """
    own = {name.lower(): value for name, value in configured.items()}
    return {name: value for name, value in own.items() if not name.startswith("webhook-")} | dict(signed)


def each_secret(written: str) -> list[str]:
    """Return the secrets of a value that may hold several: `whsec_…` ones, separated by spaces, the newest first."""
    parts = written.split()
    return parts if len(parts) > 1 and all(part.startswith(PREFIX) for part in parts) else [written]


def new_secret() -> str:
    """Return a fresh secret of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def webhook_secret(settings: Settings) -> str:
    """Return the operator's secret, or the one in the data folder, made there (0600) at first use.

    While it is rotated there are two, the new one first, separated by a space.

    Raises:
        SettingsError: the file can neither be read nor made.
    """
    given = settings.webhook_secret.get_secret_value()
    if given:
        return given
    path = settings.data_dir / SECRET_FILE
    try:
        return read_or_make(path, new_secret)
    except OSError as error:
        raise SettingsError(
            "webhook_secret_unreadable",
            f"The webhook secret {path} can neither be read nor made ({type(error).__name__}).",
            remedy="Set AGENT_WORKER_WEBHOOK_SECRET, or make the data folder writable.",
        ) from error


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret[len(PREFIX) :] + "==") if secret.startswith(PREFIX) else secret.encode()
    except binascii.Error:
        key = b""
    if not key:
        raise SettingsError(
            "webhook_secret_invalid",
            "The webhook secret is empty or not base64 after whsec_.",
            remedy="Write whsec_ and the base64 of 32 random bytes, or leave it out to have one made.",
        )
    return key
