"""`GET /v1/organization`: whose deployment this is; clients ask it to see whether their key works."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import ConfigDict

from agent_worker.api.auth import Principal, Scope, requires
from agent_worker.api.backend import Backend
from agent_worker.api.shapes import CamelShape, errors


class Organization(CamelShape):
    """The one organization of a deployment."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": "org_local", "name": "org_local"}]})

    id: str
    name: str


def organization_routes(backend: Backend) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["organization"])

    @router.get("/organization", responses=errors())
    async def get_organization(_: Annotated[Principal, Depends(requires(Scope.READ))]) -> Organization:
        """Whose deployment this is, and with that, whether the key works."""
        return Organization(id=backend.organization_id, name=backend.organization_id)

    return router
