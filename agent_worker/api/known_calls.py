"""The calls a request can name, as far as its key sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Path

from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.store.queries import call_row

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

Reader = Annotated[Principal, Depends(requires(Scope.READ))]
Operator = Annotated[Principal, Depends(requires(Scope.OPERATE))]
CallId = Annotated[str, Path(max_length=200, examples=["5f2b6c1e-0d3a-4c8e-9f57-2f1d8a6b7c90"])]


async def the_call(
    connection: AsyncConnection, backend: Backend, principal: Principal, call_id: str, *, deleted: bool = False
) -> dict[str, Any]:
    """Return a call's row.

    Args:
        deleted: also of a call that was deleted.

    Raises:
        ApiError: there is none, as far as the key sees.
    """
    row = None if "\x00" in call_id else await call_row(connection, call_id)
    is_theirs = row is not None and row["organization_id"] == backend.organization_id
    if row is None or not is_theirs or not principal.may_see(row["agent_id"]) or (row["deleted_at"] and not deleted):
        raise ApiError(404, "NOT_FOUND", "There is no such call.", retryable=False)
    return row
