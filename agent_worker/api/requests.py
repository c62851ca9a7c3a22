"""What is checked of every request before it is understood: its token, and how large and how slow its body is."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request

from agent_worker.api.errors import ApiError

BODY_SECONDS = 15.0
"""How long a body may take to arrive."""

_CLOSING = {"connection": "close"}
"""Of an answer to a body that was not read to its end: nothing else can come over that connection."""


def bearer(token: str) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that lets requests with this bearer token pass."""
    expected = token.encode()

    async def check(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # both are compared in constant time, so that nobody learns a token byte by byte
        same = hmac.compare_digest(given.strip().encode(errors="replace"), expected)
        if scheme.lower() != "bearer" or not same:
            raise ApiError(
                401,
                "UNAUTHORIZED",
                "The token is missing or wrong.",
                headers={"www-authenticate": "Bearer"},
            )

    return check


async def body_of(request: Request, most_bytes: int) -> bytes:
    """Return the request's body.

    Raises:
        ApiError: it is larger than allowed, or takes too long to arrive.
    """
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or int(declared) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise _too_large(most_bytes)
    except TimeoutError as error:
        sentence = f"The body took longer than {BODY_SECONDS:.0f} s."
        raise ApiError(408, "REQUEST_TIMEOUT", sentence, headers=_CLOSING) from error
    return bytes(body)


def _too_large(most_bytes: int) -> ApiError:
    sentence = f"The body must be at most {most_bytes} bytes."
    return ApiError(413, "TOO_LARGE", sentence, retryable=False, headers=_CLOSING)
