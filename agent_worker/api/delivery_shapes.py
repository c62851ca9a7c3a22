"""Deliveries of webhooks as they are shown (contract 1.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import ConfigDict

from agent_worker.api.shapes import CamelShape, Moment
from agent_worker.config.catalog import AgentCatalog
from agent_worker.store.columns import wire_time
from agent_worker.webhooks.hooks import all_hooks, is_hook, name_of

Status = Literal["pending", "delivering", "succeeded", "failed", "cancelled", "expired"]

_DELIVERY: dict[str, Any] = {
    "id": "dlv_0d4f2d5ce2a3f4d0a9c5b4c8f7e61a2b",
    "eventId": "evt_5d7963c4f471e142f5a72214a9666fb1",
    "endpointId": "whe_5d7963c4f471e142f5a72214a9666fb1",
    "endpointName": "CRM",
    "endpointKind": "workspace",
    "endpointDeleted": False,
    "event": "call.report",
    "sessionId": "7b0c1f0e-5d0a-4f43-9c39-6d5c2f0a8e11",
    "agentId": "front-desk",
    "webhookTags": {"tenant": "north"},
    "status": "succeeded",
    "httpStatus": 200,
    "error": None,
    "occurredAt": "2026-03-02T09:31:05.000000Z",
    "expiresAt": "2026-03-05T09:31:05.000000Z",
    "deliveredAt": "2026-03-02T09:31:06.000000Z",
    "createdAt": "2026-03-02T09:31:05.000000Z",
    "canRedeliver": True,
}
_OPTION: dict[str, Any] = {
    "id": "whe_5d7963c4f471e142f5a72214a9666fb1",
    "name": "CRM",
    "kind": "workspace",
    "deleted": False,
}


class _Delivery(CamelShape):
    id: str
    event_id: str
    endpoint_id: str
    endpoint_name: str
    endpoint_kind: Literal["workspace"]
    endpoint_deleted: bool
    event: str
    session_id: str | None
    agent_id: str | None
    webhook_tags: dict[str, Any]
    status: Status
    http_status: int | None
    error: str | None
    occurred_at: Moment
    expires_at: Moment
    delivered_at: Moment | None
    created_at: Moment
    can_redeliver: bool


class Delivery(_Delivery):
    """One thing one endpoint is told."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_DELIVERY, "attempts": 1}]})

    attempts: int


class EndpointOption(CamelShape):
    """An endpoint deliveries can be filtered by: of the workspace, or a hook of an agent's."""

    id: str
    name: str
    kind: Literal["workspace"]
    deleted: bool


class DeliveryPage(CamelShape):
    """A page of deliveries, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"data": [{**_DELIVERY, "attempts": 1}], "nextCursor": None, "endpointOptions": [_OPTION]}]
        }
    )

    data: list[Delivery]
    next_cursor: str | None
    endpoint_options: list[EndpointOption]


class Attempt(CamelShape):
    """One request, and what was answered.

    Attributes:
        request_headers: `***` stands for values nobody may see.
        request_body: what was sent, the same at every attempt.
    """

    id: str
    attempt_number: int
    trigger: Literal["automatic", "manual"]
    request_url: str
    request_headers: dict[str, str]
    request_body: dict[str, Any]
    response_status: int | None
    response_body: str | None
    response_truncated: bool
    duration_ms: int
    error: str | None
    created_at: Moment


_ATTEMPT: dict[str, Any] = {
    "id": "att_3b6d02c4a1f84e0d",
    "attemptNumber": 1,
    "trigger": "automatic",
    "requestUrl": "https://crm.example.com/calls",
    "requestHeaders": {"content-type": "application/json", "webhook-signature": "***"},
    "requestBody": {"type": "call.report"},
    "responseStatus": 200,
    "responseBody": "ok",
    "responseTruncated": False,
    "durationMs": 38,
    "error": None,
    "createdAt": "2026-03-02T09:31:06.000000Z",
}


class DeliveryDetail(_Delivery):
    """A delivery with what it says and every attempt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_DELIVERY, "attemptCount": 1, "requestPayload": {"type": "call.report"}, "attempts": [_ATTEMPT]}
            ]
        }
    )

    attempt_count: int
    request_payload: dict[str, Any]
    attempts: list[Attempt]


class Redelivered(CamelShape):
    """What came of an attempt by hand."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"delivered": False, "httpStatus": 503, "error": "The endpoint answered HTTP 503."}]
        }
    )

    delivered: bool
    http_status: int | None
    error: str | None


def options_of(rows: Sequence[Mapping[str, Any]], catalog: AgentCatalog) -> dict[str, EndpointOption]:
    """Return whom deliveries go or went to, by id: endpoints, also deleted ones, and the hooks of the configuration."""
    found = {
        row["id"]: EndpointOption(
            id=row["id"], name=row["name"], kind="workspace", deleted=row["deleted_at"] is not None
        )
        for row in rows
    }
    for endpoint_id in all_hooks(catalog):
        name = name_of(catalog, endpoint_id)
        found[endpoint_id] = EndpointOption(id=endpoint_id, name=name, kind="workspace", deleted=False)
    return found


def shown(row: Mapping[str, Any], options: Mapping[str, EndpointOption]) -> dict[str, Any]:
    """Return what a delivery has in a list and by itself.

    Args:
        row: by column, and `has_payload`.
        options: what `options_of` returns.
    """
    endpoint_id = row["endpoint_id"]
    option = options.get(endpoint_id)
    gone = option is None or option.deleted
    name = option.name if option else endpoint_id.partition(":")[2].replace(":", " ") if is_hook(endpoint_id) else ""
    return {
        "id": row["id"],
        "event_id": row["event_id"],
        "endpoint_id": endpoint_id,
        "endpoint_name": name,
        "endpoint_kind": "workspace",
        "endpoint_deleted": gone,
        "event": row["event"],
        "session_id": row["call_id"],
        "agent_id": row["agent_id"],
        "webhook_tags": row["webhook_tags"],
        "status": row["status"],
        "http_status": row["http_status"],
        "error": row["error"],
        "occurred_at": wire_time(row["occurred_at"]),
        "expires_at": wire_time(row["expires_at"]),
        "delivered_at": wire_time(row["delivered_at"]),
        "created_at": wire_time(row["created_at"]),
        "can_redeliver": not gone and row["has_payload"],
    }


def attempt_of(row: Mapping[str, Any], payload: dict[str, Any]) -> Attempt:
    """Return an attempt as it is shown.

    Args:
        row: by column.
        payload: of its delivery.
    """
    names = ("id", "attempt_number", "trigger", "request_url", "request_headers", "response_status")
    return Attempt(
        **{name: row[name] for name in names},
        request_body=payload,
        response_body=row["response_body"],
        response_truncated=row["response_truncated"],
        duration_ms=row["duration_ms"] or 0,
        error=row["error"],
        created_at=wire_time(row["created_at"]) or "",
    )
