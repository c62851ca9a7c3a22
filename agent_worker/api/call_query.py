"""What a list of calls is asked for: our names, and those that other platforms' clients send (contract 8)."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent_worker.api.auth import Principal
from agent_worker.api.bodies import invalid
from agent_worker.config.agent_body import Remark
from agent_worker.domain.call import CallStatus
from agent_worker.store.call_lists import BUSY, COMPLETED, FAILED, IN_PROGRESS, NO_ANSWER, Filters

MOST_SKIPPED = 50_000
"""Calls before a page; whoever wants more goes on with the cursor, which costs the same wherever it is."""

MOST_AGENTS = 50

ALIASES = {
    "agentId": "agent_id",
    "agentIds": "agent_id",
    "agent_ids": "agent_id",
    "campaignId": "campaign_id",
    "campaignIds": "campaign_id",
    "campaign_ids": "campaign_id",
    "callType": "call_type",
    "callTypes": "call_type",
    "statusFilter": "status",
    "dateFrom": "from",
    "dateTo": "to",
    "phoneNumber": "phone_number",
    "includeDeleted": "include_deleted",
}
"""Names of other platforms' clients, and ours."""

_UNKNOWN = ("disconnectReasonFilter", "disconnection_reason")

RESULTS: dict[str, frozenset[int]] = {
    "dialing": frozenset({IN_PROGRESS}),
    "connecting": frozenset({IN_PROGRESS}),
    "active": frozenset({IN_PROGRESS}),
    "in_progress": frozenset({IN_PROGRESS}),
    "ended": frozenset({COMPLETED}),
    "completed": frozenset({COMPLETED}),
    "failed": frozenset({FAILED, NO_ANSWER, BUSY}),
    "no_answer": frozenset({NO_ANSWER}),
    "busy": frozenset({BUSY}),
}
"""The calls of each status, by their facet: the contract's words and those of other platforms."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_EARLIEST, _LATEST = 1970, 2999

_LIVE = frozenset({CallStatus.DIALING.value, CallStatus.CONNECTING.value, CallStatus.ACTIVE.value})

TYPES: dict[str, bool | None] = {
    "inbound": False,
    "telephony_inbound": False,
    "outbound": True,
    "telephony_outbound": True,
    "chat": None,
    "webcall": None,
}
"""Whether calls of this type are outbound; None where there are no calls of it."""


def _utc(value: datetime) -> datetime:
    if not _EARLIEST <= value.year <= _LATEST:
        raise ValueError("the time is out of range")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _written_out(value: object) -> object:
    if isinstance(value, str) and not _DATE.match(value):  # a number would be taken for seconds since 1970
        raise ValueError("this is no time, such as 2026-03-02T09:30:00Z")
    # a `+` that was not escaped has become a space on its way
    return value.replace(" ", "+") if isinstance(value, str) and "T" in value else value


def _number(value: object) -> object:
    if not isinstance(value, str):
        return value
    return "+" + value.strip() if value[:1] == " " and value.strip().isdigit() else value.strip()


def _words(value: str) -> str:
    if {*_split(value)} - RESULTS.keys():
        raise ValueError(f"a word of it is no status; there are {', '.join(RESULTS)}")
    return value


def _kinds(value: str) -> str:
    if {*_split(value)} - TYPES.keys():
        raise ValueError(f"a word of it is no type of call; there are {', '.join(TYPES)}")
    return value


def _few(value: str) -> str:
    if len(_split(value)) > MOST_AGENTS:
        raise ValueError(f"at most {MOST_AGENTS} at once")
    return value


def _split(value: str) -> list[str]:
    return [part.strip() for part in value.replace("\x00", "").split(",") if part.strip()]


Time = Annotated[datetime, BeforeValidator(_written_out), AfterValidator(_utc)]


class CallQuery(BaseModel):
    """The filters of a list of calls, all of which have to hold, and which page of it."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, hide_input_in_errors=True)

    limit: int = Field(50, ge=1, le=100, description="Calls on a page.")
    cursor: Time | None = Field(None, description="The `next_cursor` of the page before.")
    page: int | None = Field(
        None, ge=1, le=MOST_SKIPPED + 1, description="Instead of a cursor: which page, from 1; the answer has totals."
    )
    since: Time | None = Field(None, description="Began at this time or later.")
    from_: Time | None = Field(None, alias="from", description="The same as `since`.")
    until: Time | None = Field(None, description="Began before this time.")
    to: Time | None = Field(None, description="The same as `until`.")
    status: Annotated[str, AfterValidator(_words)] | None = Field(
        None, max_length=200, description=f"One of {', '.join(RESULTS)}, or several with commas."
    )
    direction: Annotated[str, AfterValidator(_kinds)] | None = Field(
        None, max_length=200, description="`inbound` or `outbound`."
    )
    call_type: Annotated[str, AfterValidator(_kinds)] | None = Field(
        None, max_length=200, description="`telephony_inbound`, `telephony_outbound`; of `chat` there are no calls."
    )
    campaign_id: Annotated[str, AfterValidator(_few)] | None = Field(
        None, max_length=4_000, description="What the calls' metadata says as `campaignId`; several with commas."
    )
    phone_number: Annotated[str, BeforeValidator(_number)] | None = Field(
        None, max_length=60, description="On either side of the call, exactly."
    )
    search: str | None = Field(
        None,
        max_length=200,
        description="Beginnings of words in the customer's name and request and the summary; the beginning or the end "
        "of a number; the beginning of a call's id.",
    )
    done: bool | None = Field(None, description="Whether somebody has marked it as done.")
    include_deleted: bool = Field(False, description="Deleted calls too.")

    def filters(self, organization_id: str, principal: Principal, agent_ids: str | None) -> Filters:
        """Return what to list.

        Args:
            agent_ids: of these agents only, with commas.

        Raises:
            ApiError: 400; the values do not go together.
        """
        if self.page is not None and self.cursor is not None:
            raise invalid([Remark(("cursor",), "A list goes by page or by cursor.")])
        if self.page is not None and (self.page - 1) * self.limit > MOST_SKIPPED:
            sentence = f"Pages begin within the first {MOST_SKIPPED} calls: go on with a cursor, or narrow the dates."
            raise invalid([Remark(("page",), sentence)])
        asked = None if agent_ids is None else frozenset(_split(agent_ids))
        seen = principal.agent_ids
        results, statuses = self._results()
        directions = self._directions()
        return Filters(
            organization_id,
            agent_ids=asked if seen is None else seen if asked is None else asked & seen,
            campaign_ids=None if self.campaign_id is None else frozenset(_split(self.campaign_id)),
            number=None if self.phone_number is None else self.phone_number.replace("\x00", ""),
            results=frozenset() if not directions else results,
            statuses=statuses,
            outbound=next(iter(directions)) if len(directions) == 1 else None,
            done=self.done,
            include_deleted=self.include_deleted,
            since=max((at for at in (self.since, self.from_) if at is not None), default=None),
            until=min((at for at in (self.until, self.to) if at is not None), default=None),
            before=self.cursor,
            search=self.search if self.search and self.search.strip() else None,
        )

    def _results(self) -> tuple[frozenset[int] | None, frozenset[str] | None]:
        words = frozenset(_split(self.status or ""))
        if not words:
            return None, None
        results = frozenset().union(*(RESULTS[word] for word in words))
        live = words & _LIVE
        if not live or "in_progress" in words:
            return results, None
        return results, live | {CallStatus.ENDED.value, CallStatus.FAILED.value}

    def _directions(self) -> set[bool]:
        passing = {False, True}
        for asked in (self.direction, self.call_type):
            if asked and _split(asked):
                passing &= {TYPES[word] for word in _split(asked) if TYPES[word] is not None}
        return passing


class ListRoute(APIRoute):
    """A route whose query may use other platforms' names."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request, with the names as they are ours."""
        handle = super().get_route_handler()

        async def renamed(request: Request) -> Response:
            given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
            if refused := [name for name, _ in given if name in _UNKNOWN]:
                raise invalid([Remark((refused[0],), "Calls cannot be listed by this.")])
            if not any(name in ALIASES for name, _ in given):
                return await handle(request)
            query = urlencode([(ALIASES.get(name, name), value) for name, value in given])
            return await handle(Request({**request.scope, "query_string": query.encode()}, request.receive))

        return renamed
