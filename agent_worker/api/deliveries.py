"""`/v1/webhook-deliveries`: what endpoints were told, every attempt, and sending again by hand (contract 1.6)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import ConfigDict

from agent_worker.api.audit import audit
from agent_worker.api.backend import Backend
from agent_worker.api.call_query import Time
from agent_worker.api.errors import ApiError
from agent_worker.api.shapes import CamelShape, Moment, errors
from agent_worker.api.webhooks import Operator, Reader
from agent_worker.store.columns import wire_time
from agent_worker.store.delivery_history import DeliveryFilter, attempts_of, find_delivery, list_deliveries
from agent_worker.store.endpoints import endpoints_of
from agent_worker.webhooks.hooks import all_hooks, is_hook, name_of
from agent_worker.webhooks.redelivery import NotPossible, redeliver

DeliveryId = Annotated[str, Path(max_length=200, description="The delivery's id, which is its `webhook-id`.")]
Status = Literal["pending", "delivering", "succeeded", "failed", "cancelled", "expired"]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]

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


def deliveries_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["webhooks"], prefix="/webhook-deliveries")
    organization = backend.organization_id

    @router.get("", responses=errors())
    async def get_deliveries(
        _: Reader,
        endpoint_id: Annotated[Text, Query(alias="endpointId")] = None,
        event: Text = None,
        agent_id: Annotated[Text, Query(alias="agentId")] = None,
        status: Status | None = None,
        session_id: Annotated[Text, Query(alias="sessionId")] = None,
        event_id: Annotated[Text, Query(alias="eventId")] = None,
        since: Annotated[Time | None, Query(alias="from")] = None,
        until: Annotated[Time | None, Query(alias="to")] = None,
        cursor: Annotated[str | None, Query(max_length=300, description="`nextCursor` of the page before.")] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> DeliveryPage:
        """Deliveries, newest first."""
        wanted = DeliveryFilter(endpoint_id, event, agent_id, status, session_id, event_id, since, until)
        after = None if cursor is None else _read_cursor(cursor)
        async with backend.control.reading() as connection:
            rows = await list_deliveries(connection, organization, wanted, after=after, limit=limit + 1)
            options = _options(await endpoints_of(connection, organization, with_deleted=True), backend)
        page = rows[:limit]
        return DeliveryPage(
            data=[Delivery(**_shown(row, options), attempts=row["attempt_count"]) for row in page],
            next_cursor=f"{wire_time(page[-1]['created_at'])}_{page[-1]['id']}" if len(rows) > limit else None,
            endpoint_options=list(options.values()),
        )

    @router.get("/{delivery_id}", responses=errors(404))
    async def get_delivery(delivery_id: DeliveryId, _: Reader) -> DeliveryDetail:
        """One delivery with its attempts."""
        async with backend.control.reading() as connection:
            row = await find_delivery(connection, organization, delivery_id)
            if row is None:
                raise _unknown()
            tried = await attempts_of(connection, delivery_id)
            options = _options(await endpoints_of(connection, organization, with_deleted=True), backend)
        return DeliveryDetail(
            **_shown(row, options),
            attempt_count=row["attempt_count"],
            request_payload=row["payload"],
            attempts=[_attempt(one, row["payload"]) for one in tried],
        )

    @router.post("/{delivery_id}/redeliver", responses=errors(404, 409))
    async def redeliver_now(delivery_id: DeliveryId, principal: Operator) -> Redelivered:
        """Send a delivery again, now and under the same `webhook-id`; the answer says what came of it."""
        control = backend.control
        try:
            outcome = await redeliver(control, control.egress, backend.settings, backend.catalog.current, delivery_id)
        except NotPossible as error:
            raise ApiError(409, error.code, str(error)) from None
        if outcome is None:
            raise _unknown()
        async with control.writing() as connection:
            detail = {"delivered": outcome.delivered}
            await audit(
                connection, backend, principal, "webhook.redeliver", f"webhook-deliveries/{delivery_id}", detail
            )
        return Redelivered(delivered=outcome.delivered, http_status=outcome.http_status, error=outcome.error)

    return router


def _options(rows: list[dict[str, Any]], backend: Backend) -> dict[str, EndpointOption]:
    """Return whom deliveries go or went to, by id: endpoints, also deleted ones, and the hooks of the configuration."""
    found = {
        row["id"]: EndpointOption(
            id=row["id"], name=row["name"], kind="workspace", deleted=row["deleted_at"] is not None
        )
        for row in rows
    }
    catalog = backend.catalog.current()
    for endpoint_id in all_hooks(catalog):
        name = name_of(catalog, endpoint_id)
        found[endpoint_id] = EndpointOption(id=endpoint_id, name=name, kind="workspace", deleted=False)
    return found


def _shown(row: Mapping[str, Any], options: Mapping[str, EndpointOption]) -> dict[str, Any]:
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


def _attempt(row: Mapping[str, Any], payload: dict[str, Any]) -> Attempt:
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


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    time, _, delivery_id = cursor.partition("_")
    try:
        at = datetime.fromisoformat(time)
        if not delivery_id or at.tzinfo is None:
            raise ValueError
        return at.astimezone(UTC), delivery_id
    except (ValueError, OverflowError):
        issues = [{"path": ["cursor"], "message": "This is no cursor: use nextCursor of the page before."}]
        raise ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=issues) from None


def _unknown() -> ApiError:
    return ApiError(404, "NOT_FOUND", "There is no such delivery.", retryable=False)
