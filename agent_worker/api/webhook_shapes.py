"""Webhook endpoints as they are sent and shown (contract 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator

from agent_worker.api.shapes import CamelShape, Integral, Moment, RequestShape
from agent_worker.domain.lifecycle_hook import ExtractionField, HeaderName, Headers, HeaderValue
from agent_worker.egress.client import OWN_HEADERS
from agent_worker.errors import SettingsError
from agent_worker.store.columns import wire_time
from agent_worker.webhooks.payloads import ControlEvent
from agent_worker.webhooks.signing import WebhookSigner

Event = Literal["call.status", "call.report", "call.analysis", "call.recording", ControlEvent]
"""What an endpoint can subscribe to."""

PRE_CALL = "call.pre_call is asked of an agent's own webhook: set webhooks.preCall of the agent."

_Name = Annotated[str, Field(min_length=1, max_length=120)]
_Url = Annotated[str, Field(min_length=8, max_length=2_048)]
_Events = Annotated[list[Event], Field(min_length=1, max_length=50)]
_AgentIds = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=1_000)]
_Tags = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=100)], Annotated[str, Field(max_length=500)]],
    Field(max_length=50),
]
_TimeoutMs = Annotated[Integral, Field(ge=100, le=10_000)]
_Secret = Annotated[str, Field(min_length=8, max_length=4_096)]
_Source = Literal["workspace", "custom"]
_ContentMode = Literal["full", "metadata_only"]

_NEW: dict[str, Any] = {
    "name": "CRM",
    "url": "https://crm.example.com/calls",
    "events": ["call.report", "call.analysis"],
    "filterTags": {"tenant": "north"},
    "authHeaders": [{"name": "X-Api-Key", "value": "a-key-of-the-crm"}],
}


class AuthHeaderChange(RequestShape):
    """A header whose value is a secret; without a value the one that is kept under this name stays."""

    name: HeaderName
    value: HeaderValue | None = None


class EndpointChange(RequestShape):
    """What of an endpoint is to change; what is left out, or null, stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"timeoutMs": 5_000}, {"signingSecret": "a-new-secret"}]})

    name: _Name | None = None
    url: _Url | None = None
    events: _Events | None = None
    all_agents: bool | None = None
    agent_ids: _AgentIds | None = None
    filter_tags: _Tags | None = None
    headers: Headers | None = None
    auth_headers: Annotated[list[AuthHeaderChange], Field(max_length=20)] | None = None
    timeout_ms: _TimeoutMs | None = None
    signing_secret_source: _Source | None = None
    signing_secret: _Secret | None = Field(None, json_schema_extra={"writeOnly": True})
    extraction_fields: Annotated[list[ExtractionField], Field(max_length=100)] | None = None
    content_mode: _ContentMode | None = None

    @field_validator("events", mode="before")
    @classmethod
    def _subscribable(cls, value: object) -> object:
        if isinstance(value, list) and "call.pre_call" in value:
            raise ValueError(PRE_CALL)
        return value

    @field_validator("signing_secret")
    @classmethod
    def _signs(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                WebhookSigner(value)
        except SettingsError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("headers")
    @classmethod
    def _their_own(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        _check_names(value or {})
        return value

    @field_validator("auth_headers")
    @classmethod
    def _each_once(cls, value: list[AuthHeaderChange] | None) -> list[AuthHeaderChange] | None:
        _check_names([header.name for header in value or []])
        return value


class NewEndpoint(EndpointChange):
    """An endpoint to register."""

    model_config = ConfigDict(json_schema_extra={"examples": [_NEW]})

    name: _Name
    url: _Url
    events: _Events


class AuthHeaderStatus(CamelShape):
    """A header whose value is kept and not shown."""

    name: str
    configured: Literal[True]


class Endpoint(CamelShape):
    """A webhook endpoint of the workspace."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "whe_5d7963c4f471e142f5a72214a9666fb1",
                    **_NEW,
                    "allAgents": True,
                    "agentIds": [],
                    "headers": {},
                    "authHeaders": [{"name": "X-Api-Key", "configured": True}],
                    "timeoutMs": 8_000,
                    "signingSecretSource": "workspace",
                    "hasCustomSigningSecret": False,
                    "extractionFields": [],
                    "contentMode": "full",
                    "legacyManaged": False,
                    "createdAt": "2026-03-02T09:31:05.000000Z",
                    "updatedAt": "2026-03-02T09:31:05.000000Z",
                }
            ]
        }
    )

    id: str
    name: str
    url: str
    events: list[str]
    all_agents: bool
    agent_ids: list[str]
    filter_tags: dict[str, str]
    headers: dict[str, str]
    auth_headers: list[AuthHeaderStatus]
    timeout_ms: int
    signing_secret_source: _Source
    has_custom_signing_secret: bool
    extraction_fields: list[ExtractionField]
    content_mode: _ContentMode
    legacy_managed: Literal[False]
    created_at: Moment
    updated_at: Moment


class EndpointList(CamelShape):
    """All endpoints, oldest first."""

    data: list[Endpoint]


def endpoint_of(row: Mapping[str, Any]) -> Endpoint:
    """Return an endpoint as it is shown, without its secrets.

    Args:
        row: by column.
    """
    return Endpoint(
        id=row["id"],
        name=row["name"],
        url=row["url"],
        events=row["events"],
        all_agents=row["all_agents"],
        agent_ids=row["agent_ids"],
        filter_tags=row["filter_tags"],
        headers=row["headers"],
        auth_headers=[AuthHeaderStatus(name=header["name"], configured=True) for header in row["auth_headers"]],
        timeout_ms=row["timeout_ms"],
        signing_secret_source=row["signing_secret_source"],
        has_custom_signing_secret=row["signing_secret"] is not None,
        extraction_fields=[ExtractionField.model_validate(field) for field in row["extraction_fields"]],
        content_mode=row["content_mode"],
        legacy_managed=False,
        created_at=wire_time(row["created_at"]) or "",
        updated_at=wire_time(row["updated_at"]) or "",
    )


def _check_names(names: Mapping[str, str] | list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        key = name.lower()
        if key in seen:
            raise ValueError(f"{name} is there twice")
        if key.startswith("webhook-") or key in OWN_HEADERS:
            raise ValueError(f"{name} is a header that is set here")
        seen.add(key)
