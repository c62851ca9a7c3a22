"""Who may do what: bearer keys, looked up by their hash, each with a scope and perhaps a list of agents."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

from fastapi import Request

from agent_worker.api.errors import ApiError


class Scope(IntEnum):
    """What a key allows; each allows what is below it.

    `read` sees calls and configuration, `operate` acts on calls (end, message, transfer, dial, notes), `admin`
    changes configuration (agents, tools, numbers, webhooks) and deletes.
    """

    READ = 1
    OPERATE = 2
    ADMIN = 3


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


KEY_PREFIX = "aw_live_"

Authenticate = Callable[[str], Awaitable[Principal | None]]
"""Returns whose key this is, None where it is nobody's."""


def new_key() -> str:
    """Return a fresh key; it is shown once, and only its hash is kept."""
    return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def requires(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """Return a dependency that lets keys of at least this scope pass, and says whose it is."""

    async def check(request: Request) -> Principal:
        authenticate: Authenticate = request.app.state.authenticate
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        principal = await authenticate(given.strip()) if scheme.lower() == "bearer" and given.strip() else None
        if principal is None:
            headers = {"www-authenticate": "Bearer"}
            raise ApiError(401, "UNAUTHORIZED", "The API key is missing or wrong.", headers=headers)
        if principal.scope < scope:
            needed = scope.name.lower()
            raise ApiError(403, "FORBIDDEN", f"This needs a key of scope {needed}; this one has less.")
        request.state.principal = principal
        return principal

    return check
