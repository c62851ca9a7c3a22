"""`/v1/callbacks`: calls that callers asked for, as the analysis of their calls found them (contract 1.7)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncConnection

from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.shapes import Moment, RequestShape, SnakeShape, errors
from agent_worker.domain.call import utc_now
from agent_worker.store import callbacks

CallbackId = Annotated[str, Path(max_length=200, description="The callback's id.")]
Reader = Annotated[Principal, Depends(requires(Scope.READ))]
Operator = Annotated[Principal, Depends(requires(Scope.OPERATE))]
Status = Literal["scheduled", "dispatching", "dispatched", "cancelled", "failed"]

NO_DIALLING = (
    "Calling out is not available in this version: the callback stays scheduled. Call the person yourself, then cancel "
    "it with POST /v1/callbacks/{id}/cancel."
)

_EXAMPLE: dict[str, Any] = {
    "id": "cb_5d7963c4f471e142f5a72214a9666fb1",
    "organization_id": "org_local",
    "source_session_id": "7b0c1f0e-5d0a-4f43-9c39-6d5c2f0a8e11",
    "created_session_id": None,
    "agent_id": "front-desk",
    "phone_number_id": None,
    "to_number": "+12015551234",
    "from_number": "+12015550199",
    "scheduled_at": "2026-03-03T14:00:00.000000Z",
    "status": "scheduled",
    "reason": "To talk about a repair.",
    "instructions": None,
    "summary": "Maya asked to be called back about a repair.",
    "pipeline_config": {},
    "metadata": {"when_said": "tomorrow at three"},
    "failure_cause": None,
    "attempted_at": None,
    "dispatched_at": None,
    "cancelled_at": None,
    "created_at": "2026-03-02T09:31:05.000000Z",
    "updated_at": "2026-03-02T09:31:05.000000Z",
}


class Callback(SnakeShape):
    """A call somebody asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str
    organization_id: str
    source_session_id: str | None
    created_session_id: str | None
    agent_id: str | None
    phone_number_id: str | None
    to_number: str
    from_number: str | None
    scheduled_at: Moment
    status: Status
    reason: str | None
    instructions: str | None
    summary: str | None
    pipeline_config: dict[str, Any]
    metadata: dict[str, Any]
    failure_cause: str | None
    attempted_at: Moment | None
    dispatched_at: Moment | None
    cancelled_at: Moment | None
    created_at: Moment
    updated_at: Moment


class Callbacks(SnakeShape):
    """A list of callbacks, the next one first."""

    callbacks: list[Callback]


class CancelRequest(RequestShape):
    """Why it is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "Called by a colleague."}]})

    reason: str | None = Field(None, max_length=500)


def callbacks_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/callbacks", tags=["callbacks"])

    @router.get("", responses=errors())
    async def list_callbacks(
        principal: Reader,
        status: Annotated[Status | None, Query(description="Only those of this status.")] = None,
        source_session_id: Annotated[
            str | None, Query(max_length=200, description="Only those asked for on this call.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 25,
    ) -> Callbacks:
        """List callbacks, the next one first."""
        async with backend.control.reading() as connection:
            found = await callbacks.list_callbacks(
                connection,
                backend.organization_id,
                status=status,
                source_session_id=source_session_id,
                agent_ids=principal.agent_ids,
                limit=limit,
            )
        return Callbacks(callbacks=[Callback.model_validate(row) for row in found])

    @router.get("/{callback_id}", responses=errors(404))
    async def get_callback(callback_id: CallbackId, principal: Reader) -> Callback:
        """Return one callback."""
        async with backend.control.reading() as connection:
            return await _the_callback(connection, backend, principal, callback_id)

    @router.post("/{callback_id}/cancel", responses=errors(404, 409))
    async def cancel_callback(
        callback_id: CallbackId, principal: Operator, body: CancelRequest | None = None
    ) -> Callback:
        """Cancel a callback that waits; one that is cancelled already stays as it is."""
        async with backend.control.writing() as connection:
            found = await _the_callback(connection, backend, principal, callback_id)
            reason = body.reason if body else None
            if await callbacks.cancel_callback(connection, callback_id, reason=reason, now=utc_now()):
                await audit(connection, backend, principal, "callback.cancel", f"callbacks/{callback_id}")
            elif found.status != callbacks.CANCELLED:
                sentence = f"The callback is {found.status}: only one that is scheduled can be cancelled."
                raise ApiError(409, "CALLBACK_NOT_SCHEDULED", sentence, retryable=False)
            return await _the_callback(connection, backend, principal, callback_id)

    @router.post("/{callback_id}/dispatch", responses=errors(404, 501))
    async def dispatch_callback(callback_id: CallbackId, principal: Operator) -> Callback:
        """Place the call now: answers 501 `NOT_AVAILABLE`, for this version does not call out."""
        async with backend.control.reading() as connection:
            await _the_callback(connection, backend, principal, callback_id)
        raise ApiError(501, "NOT_AVAILABLE", NO_DIALLING, retryable=False)

    return router


async def _the_callback(
    connection: AsyncConnection, backend: Backend, principal: Principal, callback_id: str
) -> Callback:
    row = await callbacks.find_callback(connection, backend.organization_id, callback_id)
    if row is None or not principal.may_see(row["agent_id"]):
        raise ApiError(404, "NOT_FOUND", "There is no such callback.", retryable=False)
    return Callback.model_validate(row)
