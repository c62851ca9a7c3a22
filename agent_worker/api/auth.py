"""Who may do what: each route names the scope it needs, and gets to know whose key it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from agent_worker.api.errors import ApiError
from agent_worker.domain.api_key import KEY_PREFIX, Scope, hash_of, new_key

__all__ = [
    "KEY_PREFIX",
    "Authenticate",
    "Principal",
    "RequiredKey",
    "Scope",
    "given_key",
    "hash_of",
    "new_key",
    "requires",
]


@dataclass(frozen=True)
class Principal:
    """Who asks.

    Attributes:
        agent_ids: the only agents the key sees, None for all; what belongs to others is not found (404).
    """

    key_id: str
    scope: Scope
    agent_ids: frozenset[str] | None = None

    def may_see(self, agent_id: str | None) -> bool:
        """Return whether what belongs to this agent exists as far as the key is concerned."""
        return self.agent_ids is None or agent_id in self.agent_ids


Authenticate = Callable[[str], Awaitable[Principal | None]]
"""Returns whose key this is, None where it is nobody's."""


def given_key(authorization: str) -> str:
    """Return the key in this `Authorization` header; "" where there is none."""
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def unauthorized() -> ApiError:
    """Return what somebody without a key of ours is told; the same whatever was wrong with it."""
    sentence = "The API key is missing, wrong or revoked: send `Authorization: Bearer <key>`."
    return ApiError(401, "UNAUTHORIZED", sentence, retryable=False, headers={"www-authenticate": "Bearer"})


class RequiredKey(SecurityBase):
    """A dependency that lets keys of at least one scope pass, and says whose it is.

    The gate in front of `/v1` has looked the key up by then; OpenAPI learns the scope from `scheme_name`.

    Args:
        every_agent: whether the key must see every agent.
    """

    def __init__(self, scope: Scope, *, every_agent: bool = False) -> None:
        self.scope = scope
        self.every_agent = every_agent
        self.scheme_name = scope.name.lower()
        self.model = HTTPBearer()

    async def __call__(self, request: Request) -> Principal:
        """Return whose key it is, or raise what is told instead."""
        principal: Principal | None = getattr(request.state, "principal", None)
        if principal is None:
            raise unauthorized()
        if principal.scope < self.scope:
            sentence = f"This needs a key of scope {self.scheme_name}; yours has {principal.scope.name.lower()}."
            raise ApiError(403, "FORBIDDEN", sentence, retryable=False)
        if self.every_agent and principal.agent_ids is not None:
            sentence = "This is about the whole workspace, and your key is limited to some agents."
            raise ApiError(403, "FORBIDDEN", sentence, retryable=False)
        return principal


def requires(scope: Scope, *, every_agent: bool = False) -> RequiredKey:
    """Return the dependency of a route that needs this scope, and perhaps a key that is not limited to some agents."""
    return RequiredKey(scope, every_agent=every_agent)
