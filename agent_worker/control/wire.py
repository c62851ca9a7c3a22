"""What a worker and another host's `serve` say to each other: routes, JSON shapes, the token, and the catalog.

Facts travel as the lines of their journal. Keys a reader does not know are left unread, so that either side may be
of a newer version.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal
from agent_worker.errors import SettingsError
from agent_worker.settings import Settings

PREFIX = "/worker/v1"
OPEN_CALL = f"{PREFIX}/open-call"
FACTS = f"{PREFIX}/facts"
FINISH_CALL = f"{PREFIX}/finish-call"
LEASES = f"{PREFIX}/leases"
CATALOG = f"{PREFIX}/catalog"
RECORDING = f"{PREFIX}/recordings/{{call_id}}"

FACTS_TYPE = "application/x-ndjson"
MAX_OFFER_BYTES = 2**20
MAX_FACTS_BYTES = 16 * 2**20
MAX_FACTS = 1_000
MAX_LEASES_BYTES = 2**20
MAX_LEASES = 5_000
MAX_LEASE_SECONDS = 3_600.0
MAX_RECORDING_BYTES = 2**30
"""More than the longest call has."""
MAX_RING_SECONDS = 30.0

MIN_TOKEN_LENGTH = 16
WITHHELD_URL = "https://withheld.invalid/"
"""Stands in a worker's catalog for a webhook that only the control plane can ask."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class OpenCall(_Message):
    """Asks who takes a call; `budget_seconds` is what is left of the time it may ring."""

    offer: CallOffer
    budget_seconds: float = Field(gt=0, le=MAX_RING_SECONDS)


class OpenCallAnswer(_Message):
    """Exactly one of both."""

    plan: CallPlan | None = None
    refusal: CallRefusal | None = None

    @classmethod
    def of(cls, answer: CallPlan | CallRefusal) -> OpenCallAnswer:
        """Return the answer as it travels."""
        return cls(plan=answer) if isinstance(answer, CallPlan) else cls(refusal=answer)

    def encode(self) -> bytes:
        """Return it as JSON, the agent with the keys of the configuration."""
        return self.model_dump_json(by_alias=True).encode()

    @classmethod
    def decode(cls, body: bytes) -> CallPlan | CallRefusal:
        """Return what was answered.

        Raises:
            ValueError: it is no answer.
        """
        # a newer control plane may say more than this version knows
        answer = cls.model_validate_json(body, extra="ignore")
        found = answer.plan or answer.refusal
        if found is None:
            raise ValueError("neither a plan nor a refusal")
        return found


class RenewLeases(_Message):
    """Says that a worker's calls live; `seconds` from now, for clocks of two hosts differ."""

    call_ids: list[str] = Field(max_length=MAX_LEASES)
    worker_id: str = Field(max_length=400)
    seconds: float = Field(ge=-MAX_LEASE_SECONDS, le=MAX_LEASE_SECONDS)


class Received(_Message):
    """Says that so many facts or leases are stored; anything else that answers 200 does not say this."""

    received: int


class Held(_Message):
    """Says how much of a recording has arrived.

    Attributes:
        held: bytes from its beginning; the worker goes on from there.
        settled: all of it is kept, or nobody may have it any more: the worker deletes its own.
    """

    held: int
    settled: bool


class Refused(_Message):
    """The body of every answer that is no success (contract 1.0).

    Attributes:
        retryable: False where the very same request can never succeed; absent where the sender cannot know.
    """

    error: str
    code: str
    retryable: bool | None = None


class RoutingSettings(_Message):
    """Settings of the control plane that decide who takes a call; a worker that plans one alone uses these."""

    organization_id: str
    default_agent: str
    unknown_number_message: str
    unknown_number_policy: Literal["speak", "reject"]

    @classmethod
    def of(cls, settings: Settings) -> RoutingSettings:
        """Return those of these settings."""
        return cls.model_validate({name: getattr(settings, name) for name in cls.model_fields})


def worker_catalog(catalog: AgentCatalog, settings: Settings) -> dict[str, Any]:
    """Return the configuration as workers get it: no webhook's address or secret, but tools' secrets.

    Where a call is to be asked for beforehand, the worker learns just that, and what becomes of the call
    when nobody can be asked.
    """
    snapshot = catalog.snapshot(secrets=False)
    for agent_id, agent in catalog.agents.items():
        hook = agent.webhooks.pre_call
        if hook is not None:
            withheld = {"url": WITHHELD_URL, "onFailure": hook.on_failure}
            snapshot["agents"][agent_id]["webhooks"] = {"preCall": withheld}
    for number in snapshot["numbers"].values():
        template = number.get("dispatchMetadataTemplate")
        if template and "webhooks" in template:
            number["dispatchMetadataTemplate"] = {**template, "webhooks": _withheld(template["webhooks"])}
    return {**snapshot, "settings": RoutingSettings.of(settings).model_dump()}


def _withheld(hooks: Any) -> dict[str, Any]:
    asked = next((hooks[key] for key in ("preCall", "pre_call") if isinstance(hooks, dict) and hooks.get(key)), None)
    if not isinstance(asked, dict):
        return {}
    on_failure = asked.get("onFailure", asked.get("on_failure", "continue"))
    return {"preCall": {"url": WITHHELD_URL, "onFailure": on_failure}}


def encode_catalog(snapshot: Mapping[str, Any]) -> bytes:
    """Return the catalog as it travels."""
    return json.dumps(snapshot, separators=(",", ":")).encode()


def etag_of(body: bytes) -> str:
    """Return what `GET catalog` names this content with."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


@dataclass(frozen=True)
class ControlAddress:
    """Where another host's `serve` is.

    Attributes:
        url: without a slash at its end.
        is_loopback: whether it is on this very host.
        is_private: whether nobody on the way can read along: https, or a connection that stays on this host.
    """

    url: str
    token: str
    is_loopback: bool
    is_private: bool

    @classmethod
    def of(cls, settings: Settings) -> ControlAddress:
        """Return what the settings say.

        Raises:
            SettingsError: the URL or the token cannot be used.
        """
        try:
            url = httpx.URL(settings.control_url)
        except httpx.InvalidURL as error:
            raise _bad_url() from error
        if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
            raise _bad_url()
        loopback = _is_loopback(url.host)
        text = str(url).rstrip("/")
        return cls(text, required_token(settings), loopback, loopback or url.scheme == "https")


def required_token(settings: Settings) -> str:
    """Return the token that workers present to `serve`.

    Raises:
        SettingsError: there is none, or it is too short or cannot stand in a header.
    """
    token = settings.control_token.get_secret_value()
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(
            "control_token_missing" if not token else "control_token_invalid",
            "AGENT_WORKER_CONTROL_TOKEN is not set."
            if not token
            else f"AGENT_WORKER_CONTROL_TOKEN must be {MIN_TOKEN_LENGTH} or more ASCII characters without spaces.",
            remedy="Make one with `openssl rand -hex 32`, and set the same on `serve` and on every worker.",
        )
    return token


def _bad_url() -> SettingsError:
    return SettingsError(
        "control_url_invalid",
        "AGENT_WORKER_CONTROL_URL is not the URL of a host.",
        remedy="Write https://control.example.com, without user, query or fragment.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
