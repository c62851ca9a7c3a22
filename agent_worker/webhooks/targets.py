"""Where a delivery goes and what proves that it is ours: looked up when it is sent, never kept with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent_worker.config.catalog import AgentCatalog
from agent_worker.domain.lifecycle_hook import LifecycleHook
from agent_worker.errors import SettingsError
from agent_worker.settings import Settings
from agent_worker.store.endpoints import find_endpoints
from agent_worker.webhooks.hooks import find_hook, is_hook
from agent_worker.webhooks.signing import required_value, webhook_secret

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

DEFAULT_TIMEOUT_MS = 8_000
DELETED = "The endpoint was deleted."


@dataclass(frozen=True)
class Target:
    """One endpoint, as it is now.

    Attributes:
        secrets: what signs, the newest first; each gives a signature of its own.
        shown_headers: the endpoint's own, which everybody may see.
        secret_headers: those with values that nobody may.
        problem: why nothing can be sent, "" where it can.
    """

    url: str
    timeout_seconds: float
    secrets: tuple[str, ...] = field(repr=False)
    shown_headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    problem: str = ""


async def targets_of(
    connection: AsyncConnection,
    endpoint_ids: Collection[str],
    settings: Settings,
    catalog: Callable[[], AgentCatalog],
    now: datetime,
) -> dict[str, Target | None]:
    """Return the targets of these endpoints and hooks, None for those that were deleted."""
    rows = await find_endpoints(connection, [one for one in endpoint_ids if not is_hook(one)])
    targets = {endpoint_id: endpoint_target(row, settings, now) for endpoint_id, row in rows.items()}
    for endpoint_id in filter(is_hook, endpoint_ids):
        hook = find_hook(catalog(), endpoint_id)
        targets[endpoint_id] = None if hook is None else hook_target(hook, settings, os.environ)
    return targets


def endpoint_target(row: Mapping[str, Any], settings: Settings, now: datetime) -> Target | None:
    """Return the target of a workspace endpoint, None where it was deleted.

    Args:
        row: by column.
    """
    if row["deleted_at"] is not None:
        return None
    problem = ""
    secrets: tuple[str, ...] = ()
    try:
        secrets = _endpoint_secrets(row, settings, now)
    except SettingsError as error:
        problem = str(error)
    return Target(
        url=row["url"],
        timeout_seconds=row["timeout_ms"] / 1000,
        secrets=secrets,
        shown_headers=row["headers"],
        secret_headers={header["name"]: header["value"] for header in row["auth_headers"]},
        problem=problem,
    )


def hook_target(hook: LifecycleHook, settings: Settings, env: Mapping[str, str]) -> Target:
    """Return the target of an agent's own hook.

    Args:
        env: the environment, for values written `env:NAME`.
    """
    problem = ""
    secrets: tuple[str, ...] = ()
    secret_headers: dict[str, str] = {}
    try:
        own = required_value(hook.secret, "the webhook's secret", env) if hook.secret else None
        secrets = (own,) if own else (webhook_secret(settings),)
        for header in hook.auth_headers:
            secret_headers[header.name] = required_value(header.value or "", f"the auth header {header.name}", env)
    except SettingsError as error:
        problem = str(error)
    timeout_ms = hook.timeout_ms or DEFAULT_TIMEOUT_MS
    return Target(hook.url, timeout_ms / 1000, secrets, hook.headers, secret_headers, problem)


def _endpoint_secrets(row: Mapping[str, Any], settings: Settings, now: datetime) -> tuple[str, ...]:
    until = row["previous_secret_until"]
    previous = (row["previous_signing_secret"],) if until is not None and now < until else ()
    current = row["signing_secret"] if row["signing_secret_source"] == "custom" else webhook_secret(settings)
    return (current, *(secret for secret in previous if secret))
