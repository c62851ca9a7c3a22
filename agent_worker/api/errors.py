"""How an error is told over HTTP: one shape for all of them, and never what went on inside (contract 1.0)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Route, compile_path

from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.api")

RETRY_SECONDS = "1"

MOST_ISSUES = 20
_PATH_CHARS = 100

_TOLD = {
    404: ("NOT_FOUND", "There is nothing at this address."),
    405: ("METHOD_NOT_ALLOWED", "This address does not take this method."),
}

_PLACES = frozenset({"body", "query", "path", "header", "cookie"})
"""What the framework puts before a place in a request; the contract's paths begin behind it."""

_API = "/v1/"
"""Under it a value that cannot be stored is the client's mistake; workers must tell such a fact from a bad request."""


class ApiError(Exception):
    """An answer that is no success.

    Args:
        code: stable machine word, upper case.
        message: one sentence for a person.
        retryable: False where the very same request can never succeed; None where it is not said.
        issues: what is wrong with which part of the request.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        issues: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.headers = dict(headers or {})
        self.issues = list(issues)


def install_errors(app: FastAPI) -> None:
    """Have every error of the app told in the contract's shape."""

    async def raised(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError | ControlPlaneError)
        return told(error, stored_for_a_client=request.url.path.startswith(_API))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, sentence = _TOLD.get(error.status_code, ("HTTP_ERROR", str(error.detail)))
        return told(ApiError(error.status_code, code, sentence, headers=_headers(request, error)))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return told(ApiError(400, "VALIDATION_ERROR", "Invalid request", issues=issues_of(error.errors())))

    async def broken(request: Request, error: Exception) -> JSONResponse:
        # the server logs the trace; here it says which route, which the trace does not
        logger.error("request broke", extra={"route": request.url.path, "error": type(error).__name__})
        return told(ApiError(500, "INTERNAL", "Something broke on this side; the log says what."))

    app.add_exception_handler(ApiError, raised)
    app.add_exception_handler(ControlPlaneError, raised)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, broken)


def told(error: ApiError | ControlPlaneError, *, stored_for_a_client: bool = True) -> JSONResponse:
    """Return the error as an answer.

    Args:
        stored_for_a_client: whether a value that cannot be stored is told as any other invalid one.
    """
    if isinstance(error, ControlPlaneError):
        return told(_of_control_plane(error, stored_for_a_client))
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.issues:
        body["issues"] = error.issues
    if error.retryable is not None:
        body["retryable"] = error.retryable
    return JSONResponse(body, status_code=error.status, headers=error.headers)


def issues_of(problems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return where a request is wrong and why, the first few; never what was sent."""
    return [{"path": _path_of(problem["loc"]), "message": _reason(problem)} for problem in problems[:MOST_ISSUES]]


def _path_of(place: Sequence[str | int]) -> list[str | int]:
    inner = place[1:] if place and place[0] in _PLACES else place
    return [part if isinstance(part, int) else part[:_PATH_CHARS] for part in inner]


def _reason(problem: Mapping[str, Any]) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _of_control_plane(error: ControlPlaneError, stored_for_a_client: bool) -> ApiError:
    code = error.code.upper()
    if error.retryable:
        return ApiError(503, code, error.message, retryable=True, headers={"retry-after": RETRY_SECONDS})
    if stored_for_a_client:
        issue = {"path": [], "message": error.message}
        return ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=[issue])
    return ApiError(422, code, error.message, retryable=False)


def _headers(request: Request, error: HTTPException) -> Mapping[str, str]:
    """Return the error's headers; `Allow` names what every route of this address takes, not the first one only."""
    if error.status_code != 405:
        return error.headers or {}
    methods: dict[str, set[str]] = {}
    for route in iter_route_contexts(request.app.routes):
        if isinstance(route.original_route, Route):
            methods.setdefault(str(route.path), set()).update(route.methods or ())
    address = next(path for path in methods if compile_path(path)[0].match(request.url.path))
    return {"allow": ", ".join(sorted(methods[address] - {"HEAD"}))}
