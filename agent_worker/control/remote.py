"""The control plane on another host: its `serve` answers, this host's cache and journals do while it cannot."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_worker.config.catalog_cache import REMOTE_FILE, CachedCatalog
from agent_worker.control import wire
from agent_worker.control.open_call import plan_call
from agent_worker.control.recording_sender import send_recording
from agent_worker.control.remote_client import TOO_LARGE, Answer, ControlClient
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal, PlanEvent, utc_now
from agent_worker.domain.fact import CallEnded, Fact, encode
from agent_worker.domain.lifecycle_hook import LifecycleHook
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings
from agent_worker.webhooks.pre_call import PreCallAnswer

logger = logging.getLogger("agent_worker.control")

UNREACHABLE_EVENT = "control_plane.unreachable"

ANSWER_SECONDS = 0.4
"""From the end of a webhook's time at the other end to its answer here."""

LOCAL_SECONDS = 0.5
"""What asking leaves of the time a call may ring: enough to plan it here."""

RECORD_SECONDS = 8.0
"""For one batch, retries included; longer than a database that is locked is waited for."""

LEASE_SECONDS = 5.0
CATALOG_SECONDS = 10.0
MAX_CATALOG_BYTES = 128 * 2**20
BATCH_BYTES = 512 * 1024


class RemoteControlPlane:
    """Implements `ControlPlane` over HTTP.

    Args:
        catalog: what calls are planned from while the other host cannot be asked.

    Raises:
        SettingsError: the URL or the token cannot be used.
    """

    def __init__(self, settings: Settings, catalog: CachedCatalog | None = None) -> None:
        address = wire.ControlAddress.of(settings)
        self._settings = settings
        self._catalog = catalog or cached_catalog(settings)
        self._client = ControlClient(address)

    async def open_call(self, offer: CallOffer, *, budget_seconds: float) -> CallPlan | CallRefusal:
        """Return the control plane's answer; while it cannot be had, what the cached configuration says.

        Raises:
            ControlPlaneError: there is no answer, and no configuration has ever been cached here.
        """
        loop = asyncio.get_running_loop()
        answer_by = loop.time() + budget_seconds
        ask_seconds = max(budget_seconds - LOCAL_SECONDS, budget_seconds / 2)
        reserve = budget_seconds - ask_seconds

        def request(left: float) -> bytes:
            # what follows at this end needs its share of the ringing too, so the other is told the whole rest; but a
            # webhook it asks takes up to four fifths of that, and the answer has to be back here in time
            budget = max(0.001, min(left + reserve, (left - ANSWER_SECONDS) / 0.8, wire.MAX_RING_SECONDS))
            try:
                return wire.OpenCall(offer=offer, budget_seconds=budget).model_dump_json().encode()
            except ValueError as error:  # metadata nested deeper than JSON goes here
                raise ControlPlaneError("offer_not_sendable", "The offer is no JSON.", retryable=False) from error

        try:
            return await self._client.ask(
                "POST",
                wire.OPEN_CALL,
                lambda answer: wire.OpenCallAnswer.decode(answer.body),
                seconds=ask_seconds,
                content=request,
                headers={"content-type": "application/json"},
            )
        except ControlPlaneError as error:
            await self._catalog.fresh()
            if not self._catalog.is_known:
                raise
            logger.error("call planned from the cache", extra={"call_id": offer.call_id, "code": error.code})
            return await self._plan_here(offer, max(answer_by - loop.time(), 0.1), error)

    async def record(self, facts: Sequence[Fact]) -> None:
        """Apply facts of one or several calls, in the order given; ids already applied change nothing.

        Raises:
            ControlPlaneError: some were not applied; `retryable` unless a fact cannot be stored as it is.
        """
        for lines in _batches(encode(fact) for fact in facts):
            try:
                await self._tell(wire.FACTS, b"".join(lines), wire.FACTS_TYPE, len(lines), RECORD_SECONDS)
            except ControlPlaneError as error:
                if error.code == TOO_LARGE and len(lines) > 1:
                    # whoever delivers tries the facts of a refused batch one by one
                    raise ControlPlaneError(error.code, error.message, retryable=False) from error
                raise

    async def finish_call(self, ended: CallEnded) -> None:
        """End the call: row, heuristic report and outbox rows in one transaction; once is enough."""
        await self._tell(wire.FINISH_CALL, encode(ended), wire.FACTS_TYPE, 1, RECORD_SECONDS)

    async def renew_leases(self, call_ids: Sequence[str], *, worker_id: str, until: datetime) -> None:
        """Say that the workers of these calls are alive; counted from the moment it arrives."""
        seconds = (until - utc_now()).total_seconds()
        seconds = max(-wire.MAX_LEASE_SECONDS, min(wire.MAX_LEASE_SECONDS, seconds))
        for start in range(0, len(call_ids), wire.MAX_LEASES):
            some = list(call_ids[start : start + wire.MAX_LEASES])
            body = wire.RenewLeases(call_ids=some, worker_id=worker_id, seconds=seconds).model_dump_json().encode()
            await self._tell(wire.LEASES, body, "application/json", len(some), LEASE_SECONDS)

    async def fetch_catalog(self, known: str | None) -> dict[str, Any] | None:
        """Return the configuration as `serve` has it, with its `etag`; None where it is still the known one.

        Raises:
            ControlPlaneError: it cannot be had now.
        """
        return await self._client.ask(
            "GET",
            wire.CATALOG,
            _read_catalog,
            seconds=CATALOG_SECONDS,
            headers={"if-none-match": known} if known else {},
            max_bytes=MAX_CATALOG_BYTES,
            again=False,
        )

    async def send_recording(self, call_id: str, path: Path) -> None:
        """Return once all of the file is kept at the other host, or nobody may have it any more.

        What was sent before a connection broke, or either side was restarted, is not sent again.

        Raises:
            ControlPlaneError: it is not all there; `retryable` unless the other host knows of no such call.
            OSError: the file cannot be read.
        """
        await send_recording(self._client, call_id, path)

    async def aclose(self) -> None:
        """Let go of connections; a later verb opens them again."""
        await self._client.aclose()

    async def _tell(self, path: str, body: bytes, content_type: str, count: int, seconds: float) -> None:
        def check(answer: Answer) -> None:
            if answer.status != 200 or wire.Received.model_validate_json(answer.body).received != count:
                raise ValueError("not what was sent")

        await self._client.ask(
            "POST", path, check, seconds=seconds, content=body, headers={"content-type": content_type}
        )

    async def _plan_here(self, offer: CallOffer, left: float, error: ControlPlaneError) -> CallPlan | CallRefusal:
        catalog = self._catalog.current()
        settings = _with_routing(self._settings, self._catalog.about.get("settings"))
        planned = await plan_call(offer, catalog, settings, budget_seconds=left, ask=_nobody_to_ask)
        event = PlanEvent(
            event_type=UNREACHABLE_EVENT,
            status="failed",
            failure_cause=error.code,
            payload={"planned_from": "cache", "cached_at": self._catalog.about.get("cached_at")},
        )
        return planned.model_copy(update={"events": (event, *planned.events)})


def cached_catalog(settings: Settings) -> CachedCatalog:
    """Return this host's copy of the other host's configuration.

    Raises:
        SettingsError: the URL or the token cannot be used.
    """
    source = wire.ControlAddress.of(settings).url
    return CachedCatalog(None, settings.cache_dir / REMOTE_FILE, source=source)


async def _nobody_to_ask(_hook: LifecycleHook, _payload: Mapping[str, Any], _seconds: float) -> PreCallAnswer:
    return PreCallAnswer(
        overrides=None,
        reject=False,
        reject_message="",
        failure="unreachable",
        detail="The control plane, which asks the webhook, cannot be reached.",
        http_status=None,
        duration_ms=0,
    )


def _with_routing(settings: Settings, routing: Any) -> Settings:
    try:
        return settings.model_copy(update=wire.RoutingSettings.model_validate(routing).model_dump())
    except ValidationError:
        return settings


def _read_catalog(answer: Answer) -> dict[str, Any] | None:
    if answer.status == 304:
        return None
    snapshot = json.loads(answer.body)
    if not isinstance(snapshot, dict) or not isinstance(snapshot.get("agents"), dict):
        raise ValueError("no catalog")
    return {**snapshot, "etag": answer.headers.get("etag")}


def _batches(lines: Iterable[bytes]) -> Iterable[list[bytes]]:
    """Group lines so that no group is larger than what any proxy on the way takes, unless one line is."""
    group: list[bytes] = []
    size = 0
    for line in lines:
        if group and (size + len(line) > BATCH_BYTES or len(group) >= wire.MAX_FACTS):
            yield group
            group, size = [], 0
        group.append(line)
        size += len(line)
    if group:
        yield group
