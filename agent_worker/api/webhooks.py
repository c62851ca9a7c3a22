"""`/v1/webhooks`: the endpoints of the workspace that are told of calls (contract 1.6)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.shapes import errors
from agent_worker.api.webhook_shapes import Endpoint, EndpointChange, EndpointList, NewEndpoint, endpoint_of
from agent_worker.domain.call import utc_now
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import EgressError
from agent_worker.store import endpoints
from agent_worker.store.deliveries import cancel_for
from agent_worker.webhooks.registration import DEFAULTS, NotPossible, changed_row, check_url
from agent_worker.webhooks.targets import DELETED

EndpointId = Annotated[str, Path(max_length=200, description="The endpoint's id.")]

MOST_ENDPOINTS = 100


# endpoints, and what they are told, are the whole workspace's
Reader = Annotated[Principal, Depends(requires(Scope.READ, every_agent=True))]
Operator = Annotated[Principal, Depends(requires(Scope.OPERATE, every_agent=True))]
Admin = Annotated[Principal, Depends(requires(Scope.ADMIN, every_agent=True))]


def webhooks_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["webhooks"], prefix="/webhooks")
    organization = backend.organization_id

    @router.get("", responses=errors())
    async def list_endpoints(_: Reader) -> EndpointList:
        """Every endpoint, oldest first."""
        async with backend.control.reading() as connection:
            rows = await endpoints.endpoints_of(connection, organization)
        return EndpointList(data=[endpoint_of(row) for row in rows])

    @router.post("", status_code=201, responses=errors(409))
    async def create_endpoint(principal: Admin, body: NewEndpoint) -> Endpoint:
        """Register an endpoint; it is told of what happens from now on."""
        now = utc_now()
        values = await _checked(backend, DEFAULTS, body, now)
        endpoint_id = f"whe_{uuid.uuid4().hex}"
        new = {**DEFAULTS, **values, "id": endpoint_id, "organization_id": organization}
        async with backend.control.writing() as connection:
            if await endpoints.count_endpoints(connection, organization) >= MOST_ENDPOINTS:
                sentence = f"There are {MOST_ENDPOINTS} endpoints already: delete one first."
                raise ApiError(409, "LIMIT_REACHED", sentence, retryable=False)
            await endpoints.add_endpoint(connection, {**new, "created_at": now, "updated_at": now})
            await audit(connection, backend, principal, "webhook.create", f"webhooks/{endpoint_id}", _keys(values))
            row = await _the_endpoint(connection, organization, endpoint_id)
        return endpoint_of(row)

    @router.get("/{endpoint_id}", responses=errors(404))
    async def get_endpoint(endpoint_id: EndpointId, _: Reader) -> Endpoint:
        """One endpoint."""
        async with backend.control.reading() as connection:
            return endpoint_of(await _the_endpoint(connection, organization, endpoint_id))

    _add_changes(router, backend)
    return router


def _add_changes(router: APIRouter, backend: Backend) -> None:
    organization = backend.organization_id

    @router.patch("/{endpoint_id}", responses=errors(404))
    async def update_endpoint(endpoint_id: EndpointId, principal: Admin, body: EndpointChange) -> Endpoint:
        """Change what is supplied. A secret that is replaced signs beside the new one for another 24 hours."""
        now = utc_now()
        async with backend.control.reading() as connection:
            await _the_endpoint(connection, organization, endpoint_id)
        if body.url is not None:
            await _reachable(backend, body.url)
        async with backend.control.writing() as connection:
            before = await _the_endpoint(connection, organization, endpoint_id, locked=True)
            values = _possible(backend, before, body, now)
            await endpoints.change_endpoint(connection, endpoint_id, {**values, "updated_at": now})
            await audit(connection, backend, principal, "webhook.update", f"webhooks/{endpoint_id}", _keys(values))
            row = await _the_endpoint(connection, organization, endpoint_id)
        return endpoint_of(row)

    @router.delete("/{endpoint_id}", status_code=204, responses=errors(404))
    async def delete_endpoint(endpoint_id: EndpointId, principal: Admin) -> Response:
        """Delete an endpoint; what was still to be sent to it is cancelled."""
        now = utc_now()
        async with backend.control.writing() as connection:
            await _the_endpoint(connection, organization, endpoint_id, locked=True)
            forgotten: dict[str, Any] = {"signing_secret": None, "previous_signing_secret": None, "auth_headers": []}
            await endpoints.change_endpoint(
                connection, endpoint_id, {**forgotten, "deleted_at": now, "updated_at": now}
            )
            await cancel_for(connection, endpoint_id, DELETED)
            await audit(connection, backend, principal, "webhook.delete", f"webhooks/{endpoint_id}")
        return Response(status_code=204)


async def _the_endpoint(
    connection: AsyncConnection, organization_id: str, endpoint_id: str, *, locked: bool = False
) -> dict[str, Any]:
    row = await endpoints.find_endpoint(connection, organization_id, endpoint_id, locked=locked)
    if row is None:
        raise ApiError(404, "NOT_FOUND", "There is no such webhook endpoint.", retryable=False)
    return row


async def _checked(backend: Backend, before: Mapping[str, Any], body: EndpointChange, now: datetime) -> dict[str, Any]:
    values = _possible(backend, before, body, now)
    await _reachable(backend, values["url"])
    return values


def _possible(backend: Backend, before: Mapping[str, Any], body: EndpointChange, now: datetime) -> dict[str, Any]:
    try:
        values = changed_row(
            before, body.model_dump(mode="json", exclude_none=True, exclude=_IN_FULL) | _full(body), now
        )
    except NotPossible as error:
        raise _wrong(error.key, str(error)) from None
    known = backend.catalog.current().agents
    unknown = [agent_id for agent_id in body.agent_ids or [] if agent_id not in known]
    if unknown:
        raise _wrong("agentIds", f"There is no agent {unknown[0]}.")
    return values


_IN_FULL = {"auth_headers", "extraction_fields"}


def _full(body: EndpointChange) -> dict[str, Any]:
    """Return the lists of objects as they are kept: with their nulls, and with the keys of an agent file."""
    found: dict[str, Any] = {}
    if body.auth_headers is not None:
        found["auth_headers"] = [header.model_dump() for header in body.auth_headers]
    if body.extraction_fields is not None:
        found["extraction_fields"] = [
            field.model_dump(mode="json", by_alias=True, exclude_none=True) for field in body.extraction_fields
        ]
    return found


async def _reachable(backend: Backend, url: str) -> None:
    try:
        await check_url(url, AddressPolicy.of(backend.settings.egress_allow))
    except EgressError as error:
        raise _wrong("url", str(error)) from None


def _wrong(key: str, sentence: str) -> ApiError:
    issues = [{"path": [key], "message": sentence}]
    return ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=issues)


def _keys(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"keys": sorted(values)}
