"""The routes workers on other hosts speak to: the verbs of `ControlPlane` over HTTP, and the configuration."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, ValidationError

from agent_worker.api.errors import ApiError
from agent_worker.api.open_calls import OpenCalls
from agent_worker.api.requests import bearer, body_of
from agent_worker.config.catalog import AgentCatalog
from agent_worker.control import wire
from agent_worker.control.base import ControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallEnded, CallOpened, Fact, RecordingChanged, decode
from agent_worker.settings import Settings

ModelT = TypeVar("ModelT", bound=BaseModel)
JSON = "application/json"


def worker_routes(
    control: ControlPlane, opened: OpenCalls, catalog: Callable[[], AgentCatalog], settings: Settings
) -> APIRouter:
    """Return the routes; every one of them needs the token.

    Raises:
        SettingsError: there is no token, or it is too short.
    """
    router = APIRouter(dependencies=[Depends(bearer(wire.required_token(settings)))], include_in_schema=False)
    published = _Published(catalog, settings)

    @router.post(wire.OPEN_CALL)
    async def open_call(request: Request) -> Response:
        asked = _read(wire.OpenCall, await body_of(request, wire.MAX_OFFER_BYTES))
        answer = await opened.open_call(asked.offer, budget_seconds=asked.budget_seconds)
        return Response(wire.OpenCallAnswer.of(answer).encode(), media_type=JSON)

    @router.post(wire.FACTS)
    async def facts(request: Request) -> Response:
        batch = _facts(await body_of(request, wire.MAX_FACTS_BYTES), settings)
        await control.record(batch)
        return _received(len(batch))

    @router.post(wire.FINISH_CALL)
    async def finish_call(request: Request) -> Response:
        batch = _facts(await body_of(request, wire.MAX_FACTS_BYTES), settings)
        if len(batch) != 1 or not isinstance(batch[0], CallEnded):
            raise ApiError(400, "FACT_INVALID", "The body must be the one fact that ends a call.", retryable=False)
        await control.finish_call(batch[0])
        return _received(1)

    @router.post(wire.LEASES)
    async def leases(request: Request) -> Response:
        asked = _read(wire.RenewLeases, await body_of(request, wire.MAX_LEASES_BYTES))
        until = utc_now() + timedelta(seconds=asked.seconds)
        await control.renew_leases(asked.call_ids, worker_id=asked.worker_id, until=until)
        return _received(len(asked.call_ids))

    @router.get(wire.CATALOG)
    async def configuration(request: Request) -> Response:
        body, etag = published.current()
        headers = {"etag": etag, "cache-control": "no-store"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=JSON, headers=headers)

    return router


class _Published:
    """The configuration as workers get it, made anew where it changed."""

    def __init__(self, catalog: Callable[[], AgentCatalog], settings: Settings) -> None:
        self._catalog = catalog
        self._settings = settings
        self._of: AgentCatalog | None = None
        self._body = b""
        self._etag = ""

    def current(self) -> tuple[bytes, str]:
        """Return body and ETag."""
        found = self._catalog()
        if found is not self._of:
            self._body = wire.encode_catalog(wire.worker_catalog(found, self._settings))
            self._etag = wire.etag_of(self._body)
            self._of = found
        return self._body, self._etag


def _read(model: type[ModelT], body: bytes) -> ModelT:
    try:
        # this parser has a limit of its own to how deep JSON may go; a newer worker may say more than is known here
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        # what was sent is nobody's business in an answer or a log: places and reasons only
        issues = error.errors(include_url=False, include_context=False, include_input=False)
        first = f"{'.'.join(str(part) for part in issues[0]['loc'])}: {issues[0]['msg']}"
        raise ApiError(400, "VALIDATION_ERROR", f"Invalid request: {first}"[:500], retryable=False) from None


def _facts(body: bytes, settings: Settings) -> list[Fact]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > wire.MAX_FACTS:
        raise ApiError(413, "TOO_LARGE", f"A batch has at most {wire.MAX_FACTS} facts.", retryable=False)
    try:
        facts = [decode(line) for line in lines]
    except ValidationError:
        raise ApiError(422, "FACT_INVALID", "A line of the body is no fact.", retryable=False) from None
    # calls are this control plane's organization's, whatever a worker's own settings say
    own = {"organization_id": settings.organization_id}
    return [fact.model_copy(update=own) if isinstance(fact, CallOpened) else _as_seen_here(fact) for fact in facts]


def _as_seen_here(fact: Fact) -> Fact:
    """Return a worker's fact; where its file is on its own disk says nothing here, and it has yet to bring it."""
    if not isinstance(fact, RecordingChanged):
        return fact
    status = "uploading" if fact.status == "ready" else fact.status
    return fact.model_copy(update={"path": None, "status": status})


def _received(count: int) -> Response:
    return Response(wire.Received(received=count).model_dump_json(), media_type=JSON)
