"""Whether the process runs, and whether it can do its work; asked by whoever watches over it, without a token."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from agent_worker.control.catalog_keeper import OK


def health_routes(database: Callable[[], str]) -> APIRouter:
    """Return the routes.

    Args:
        database: `ok`, or why the database could not be read when last tried.
    """
    router = APIRouter()

    @router.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @router.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        """Ready means: facts are taken now; calls are planned either way."""
        state = database()
        status = "ready" if state == OK else "database_unavailable"
        return JSONResponse({"status": status, "database": state}, status_code=200 if state == OK else 503)

    return router
