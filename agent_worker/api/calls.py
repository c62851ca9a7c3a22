"""A call: everything known of it, what people note about it, and doing away with it (contract 1.2, 8.4)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import ConfigDict, Field

from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.call_shapes import CallDetail, CallEntry, CallEvents, entry_fields
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import CallId, Operator, Reader, the_call
from agent_worker.api.shapes import Moment, RequestShape, SnakeShape, errors
from agent_worker.control.purge import purge_call
from agent_worker.control.span_tree import span_tree
from agent_worker.domain.call import utc_now
from agent_worker.store.call_lists import by_id
from agent_worker.store.call_notes import delete_call, note_call
from agent_worker.store.columns import wire_time
from agent_worker.store.queries import call_detail, call_events

Admin = Annotated[Principal, Depends(requires(Scope.ADMIN))]

NOTE_CHARS = 10_000
_AVERAGES = ("average_transcriber_latency", "average_agent_latency", "average_synthesizer_latency")


class CallNotes(RequestShape):
    """What people say about a call; what is not supplied stays, null clears."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"done": True, "note": "Called back.", "employee": "Kim"}]}
    )

    done: bool | None = Field(None, description="Whether it has been dealt with; null is false.")
    note: str | None = Field(None, max_length=NOTE_CHARS)
    employee: str | None = Field(None, max_length=200, description="Who deals with it.")


class DeletedCall(SnakeShape):
    """The call is in no list any more."""

    deleted: Literal[True]


class PurgedCall(SnakeShape):
    """Nobody's words, numbers or voice are left of the call."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "7b0c1f0e-5d0a-4f43-9c39-6d5c2f0a8e11",
                    "is_purged": True,
                    "purged_at": "2026-04-01T09:00:00.000000Z",
                }
            ]
        },
    )

    id: str
    is_purged: Literal[True]
    purged_at: Moment


def calls_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["calls"])

    @router.get("/calls/{call_id}", responses=errors(404))
    async def get_call(call_id: CallId, principal: Reader) -> CallDetail:
        """Return everything known of a call, also of one that is live."""
        async with backend.control.reading() as connection:
            row = await the_call(connection, backend, principal, call_id)
            [entry] = await by_id(connection, backend.organization_id, [call_id])
            detail = await call_detail(connection, call_id)
            assert detail is not None, "it was just read, in the same transaction"
            tree = span_tree(row, detail["transcript"]["entries"], await call_events(connection, call_id))
        fields = detail | entry_fields(entry) | _averages(detail["report"])
        fields |= {"span_tree": tree, "purged_at": wire_time(row["purged_at"])}
        return CallDetail.model_validate({name: fields[name] for name in _DETAIL})

    @router.get("/calls/{call_id}/events", responses=errors(404))
    async def get_call_events(call_id: CallId, principal: Reader) -> CallEvents:
        """Return all events of a call, in the order they happened."""
        async with backend.control.reading() as connection:
            await the_call(connection, backend, principal, call_id)
            events = await call_events(connection, call_id)
        return CallEvents.model_validate({"events": events})

    _add_changes(router, backend)
    return router


def _add_changes(router: APIRouter, backend: Backend) -> None:
    @router.patch("/calls/{call_id}", responses=errors(404))
    async def update_call(call_id: CallId, principal: Operator, body: CallNotes) -> CallEntry:
        """Note something about a call."""
        changes = body.model_dump(exclude_unset=True, by_alias=False)
        if "done" in changes:
            changes["done"] = bool(changes["done"])
        async with backend.control.writing() as connection:
            await the_call(connection, backend, principal, call_id)
            if changes:
                await note_call(connection, call_id, changes)
                await audit(
                    connection, backend, principal, "call.update", f"calls/{call_id}", {"keys": sorted(changes)}
                )
            [entry] = await by_id(connection, backend.organization_id, [call_id])
        return CallEntry.model_validate(entry_fields(entry))

    @router.delete("/calls/{call_id}", responses=errors(404))
    async def remove_call(call_id: CallId, principal: Admin) -> DeletedCall:
        """Take a call out of the lists; nothing of it is erased, which is what purging is for."""
        async with backend.control.writing() as connection:
            await the_call(connection, backend, principal, call_id, deleted=True)
            if await delete_call(connection, call_id, utc_now()):
                await audit(connection, backend, principal, "call.delete", f"calls/{call_id}")
        return DeletedCall(deleted=True)

    @router.post("/calls/{call_id}/purge", responses=errors(404, 409))
    async def purge(call_id: CallId, principal: Admin) -> PurgedCall:
        """Erase what anybody said on a call, their numbers and the recording; done again, it changes nothing more."""
        async with backend.control.writing() as connection:
            await the_call(connection, backend, principal, call_id, deleted=True)
            purged = await purge_call(connection, call_id, utc_now())
            if purged is None:
                sentence = "The call is live: end it first, or wait until it is over."
                raise ApiError(409, "CALL_LIVE", sentence, retryable=True)
            if purged.anew:
                await audit(connection, backend, principal, "call.purge", f"calls/{call_id}")
        return PurgedCall(id=call_id, is_purged=True, purged_at=wire_time(purged.at) or "")


_DETAIL = [field.alias or name for name, field in CallDetail.model_fields.items()]


def _averages(report: dict[str, Any] | None) -> dict[str, Any]:
    return {name: None if report is None else report[name] for name in _AVERAGES}
