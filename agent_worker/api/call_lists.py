"""Lists of calls: of an agent, of all of them, and of given ids (contract 1.3, 8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.call_query import CallQuery, ListRoute
from agent_worker.api.call_shapes import CALL_ENTRY_EXAMPLE, CallEntry, entry_fields
from agent_worker.api.known_agents import AgentId, the_agent, unknown_agent
from agent_worker.api.known_calls import Reader
from agent_worker.api.shapes import Moment, SnakeShape, errors
from agent_worker.control.call_totals import CallTotals
from agent_worker.store.call_lists import Filters, by_id, page, times_of
from agent_worker.store.columns import wire_time

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

MOST_IDS = 100


class Pagination(SnakeShape):
    """Where a page is among all of them."""

    page: int
    limit: int
    total: int = Field(description="Exact; of a search that finds more than 300 calls, 300.")
    total_is_exact: bool
    total_as_of: Moment = Field(description="When it was counted: a total of 10000 or more is counted every 30 s.")
    total_pages: int
    has_more: bool


class CallPage(SnakeShape):
    """A page of calls, newest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "calls": [CALL_ENTRY_EXAMPLE],
                    "entries": [CALL_ENTRY_EXAMPLE],
                    "next_cursor": CALL_ENTRY_EXAMPLE["created_at"],
                    "pagination": None,
                }
            ]
        },
    )

    calls: list[CallEntry]
    entries: list[CallEntry] = Field(description="The same as `calls`.")
    next_cursor: Moment | None = Field(description="Give it as `cursor` for the next page; null on the last.")
    pagination: Pagination | None = Field(description="Where a `page` was asked for.")


class SearchRequest(BaseModel):
    """Which calls."""

    model_config = ConfigDict(
        extra="ignore",
        hide_input_in_errors=True,
        json_schema_extra={"examples": [{"callIds": [CALL_ENTRY_EXAMPLE["id"]]}]},
    )

    call_ids: list[Annotated[str, Field(max_length=200)]] = Field(
        validation_alias=AliasChoices("callIds", "call_ids"), min_length=1, max_length=MOST_IDS
    )


class FoundCalls(SnakeShape):
    """Those of the calls asked for that there are, in the order they were asked for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"calls": [CALL_ENTRY_EXAMPLE], "total": 1, "requested_count": 1}]},
    )

    calls: list[CallEntry]
    total: int
    requested_count: int


class AllCallsQuery(CallQuery):
    """The filters of a list of all calls."""

    agent_id: str | None = Field(None, max_length=4_000, description="Of this agent; several with commas.")


def call_lists_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["calls"], route_class=ListRoute)
    totals = CallTotals()

    @router.get("/agents/{agent_id}/calls", responses=errors(404))
    async def list_agent_calls(agent_id: AgentId, principal: Reader, query: Annotated[CallQuery, Query()]) -> CallPage:
        """List the calls of an agent, newest first."""
        filters = query.filters(backend.organization_id, principal, agent_id)
        async with backend.control.reading() as connection:
            await _known_agent(connection, backend, principal, agent_id)
            return await _page(connection, query, filters, totals)

    @router.get("/calls", responses=errors())
    async def list_calls(principal: Reader, query: Annotated[AllCallsQuery, Query()]) -> CallPage:
        """List calls, newest first."""
        filters = query.filters(backend.organization_id, principal, query.agent_id)
        async with backend.control.reading() as connection:
            return await _page(connection, query, filters, totals)

    @router.post("/calls/search", responses=errors())
    async def search_calls(principal: Reader, body: SearchRequest) -> FoundCalls:
        """Return up to 100 calls by their ids; those that are not there, or deleted, are left out."""
        ids = list(dict.fromkeys(call_id for call_id in body.call_ids if "\x00" not in call_id))
        async with backend.control.reading() as connection:
            rows = await by_id(connection, backend.organization_id, ids)
        seen = {row["id"]: row for row in rows if row["deleted_at"] is None and principal.may_see(row["agent_id"])}
        calls = [CallEntry.model_validate(entry_fields(seen[call_id])) for call_id in ids if call_id in seen]
        return FoundCalls(calls=calls, total=len(calls), requested_count=len(body.call_ids))

    return router


async def _known_agent(connection: AsyncConnection, backend: Backend, principal: Principal, agent_id: str) -> None:
    """Raise 404 unless there is such an agent, or was when it took calls."""
    if not principal.may_see(agent_id) or "\x00" in agent_id:
        raise unknown_agent()
    took = Filters(backend.organization_id, agent_ids=frozenset({agent_id}), include_deleted=True)
    if not await times_of(connection, took, 1):
        await the_agent(connection, backend, principal, agent_id)


async def _page(connection: AsyncConnection, query: CallQuery, filters: Filters, totals: CallTotals) -> CallPage:
    offset = ((query.page or 1) - 1) * query.limit
    rows = await page(connection, filters, query.limit + 1, offset)
    shown: list[Any] = [CallEntry.model_validate(entry_fields(row)) for row in rows[: query.limit]]
    has_more = len(rows) > query.limit
    pagination = None
    if query.page is not None:
        total = await totals.total(connection, filters)
        # calls may have come since they were counted
        calls = max(total.calls, offset + len(rows)) if rows else total.calls
        pagination = Pagination(
            page=query.page,
            limit=query.limit,
            total=calls,
            total_is_exact=total.is_exact,
            total_as_of=wire_time(total.as_of) or "",
            total_pages=-(-calls // query.limit),
            has_more=has_more,
        )
    following = wire_time(rows[query.limit - 1]["created_at"]) if has_more else None
    return CallPage(calls=shown, entries=shown, next_cursor=following, pagination=pagination)
