"""How an error is told over HTTP: one shape for all of them, and never what went on inside (contract 1.0)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.api")

RETRY_SECONDS = "1"

_CODES = {401: "UNAUTHORIZED", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}


class ApiError(Exception):
    """An answer that is no success.

    Args:
        code: stable machine word, upper case.
        message: one sentence for a person.
        retryable: False where the very same request can never succeed; None where it is not said.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        retryable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retryable = retryable
        self.headers = dict(headers or {})


def install_errors(app: FastAPI) -> None:
    """Have every error of the app told in the contract's shape."""

    async def told(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ApiError)
        return _answer(error)

    async def http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "HTTP_ERROR")
        return _answer(ApiError(error.status_code, code, str(error.detail), headers=error.headers))

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        issues = [{"path": list(issue["loc"]), "message": issue["msg"]} for issue in error.errors()]
        return _answer(ApiError(400, "VALIDATION_ERROR", "Invalid request"), {"issues": issues})

    async def control_plane(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ControlPlaneError)
        if error.retryable:
            headers = {"retry-after": RETRY_SECONDS}
            return _answer(ApiError(503, error.code.upper(), error.message, retryable=True, headers=headers))
        return _answer(ApiError(422, error.code.upper(), error.message, retryable=False))

    async def broken(request: Request, error: Exception) -> JSONResponse:
        # the server logs the trace; here it says which route, which the trace does not
        logger.error("request broke", extra={"route": request.url.path, "error": type(error).__name__})
        return _answer(ApiError(500, "INTERNAL", "Something broke on this side; the log says what."))

    app.add_exception_handler(ApiError, told)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(ControlPlaneError, control_plane)
    app.add_exception_handler(Exception, broken)


def _answer(error: ApiError, more: Mapping[str, Any] | None = None) -> JSONResponse:
    body: dict[str, Any] = {"error": error.message, "code": error.code}
    if error.retryable is not None:
        body["retryable"] = error.retryable
    return JSONResponse({**body, **(more or {})}, status_code=error.status, headers=error.headers)
