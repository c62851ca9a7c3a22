"""Notes every change that came over the API: who, what, to which resource; a row beside the change and a log line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.domain.call import utc_now
from agent_worker.store.audit import save_entry

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

logger = logging.getLogger("agent_worker.audit")


async def audit(
    connection: AsyncConnection,
    backend: Backend,
    principal: Principal,
    action: str,
    resource: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note a change, in the transaction that makes it.

    Args:
        action: what was done, such as `agent.create`.
        resource: to what, such as `agents/<id>`.
        detail: little, and neither secrets nor what people said nor their numbers; names of changed keys, say.
    """
    said = dict(detail or {})
    await save_entry(
        connection,
        backend.organization_id,
        key_id=principal.key_id,
        action=action,
        resource=resource,
        detail=said,
        now=utc_now(),
    )
    logger.info("changed", extra={"key_id": principal.key_id, "action": action, "resource": resource, "detail": said})
