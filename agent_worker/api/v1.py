"""The contract's API, `/v1`: one line for each family of routes."""

from __future__ import annotations

from fastapi import APIRouter

from agent_worker.api.backend import Backend
from agent_worker.api.organization import organization_routes


def v1_routes(backend: Backend) -> APIRouter:
    """Return all routes of the contract; each names the scope it needs."""
    router = APIRouter(prefix="/v1")
    for routes in (organization_routes,):
        router.include_router(routes(backend))
    return router
