"""`/v1/webhook-deliveries`: what endpoints were told, every attempt, and sending again by hand (contract 1.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.api.audit import audit
from agent_worker.api.backend import Backend
from agent_worker.api.call_query import Time
from agent_worker.api.delivery_shapes import (
    Delivery,
    DeliveryDetail,
    DeliveryPage,
    EndpointOption,
    Redelivered,
    Status,
    attempt_of,
    options_of,
    shown,
)
from agent_worker.api.errors import ApiError
from agent_worker.api.shapes import errors
from agent_worker.api.webhooks import Operator, Reader
from agent_worker.store.columns import wire_time
from agent_worker.store.delivery_history import DeliveryFilter, attempts_of, find_delivery, list_deliveries
from agent_worker.store.endpoints import endpoints_of
from agent_worker.webhooks.redelivery import NotPossible, redeliver

DeliveryId = Annotated[str, Path(max_length=200, description="The delivery's id, which is its `webhook-id`.")]
Text = Annotated[str | None, Query(min_length=1, max_length=200)]


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
            options = await _options(connection, backend)
        page = rows[:limit]
        return DeliveryPage(
            data=[Delivery(**shown(row, options), attempts=row["attempt_count"]) for row in page],
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
            options = await _options(connection, backend)
        return DeliveryDetail(
            **shown(row, options),
            attempt_count=row["attempt_count"],
            request_payload=row["payload"],
            attempts=[attempt_of(one, row["payload"]) for one in tried],
        )

    _add_redelivery(router, backend)
    return router


def _add_redelivery(router: APIRouter, backend: Backend) -> None:
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


async def _options(connection: AsyncConnection, backend: Backend) -> dict[str, EndpointOption]:
    rows = await endpoints_of(connection, backend.organization_id, with_deleted=True)
    return options_of(rows, backend.catalog.current())


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
