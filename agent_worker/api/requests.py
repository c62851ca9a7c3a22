"""What is checked of every request before it is understood: its token, how large, slow and deep its body is."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.types import Receive

from agent_worker.api.errors import ApiError
from agent_worker.domain.plain_json import depth_within, parse_json, storable

BODY_SECONDS = 15.0
"""How long a body may take to arrive."""

MAX_DEPTH = 50
"""How deep objects and lists of a body may lie in one another; what is read here is written and read again."""

DISCARDED_BYTES = 4_194_304
DISCARD_SECONDS = 1.0
"""How much of a body nobody wants is waited for: a client that is still sending never sees its answer."""

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


async def discard(receive: Receive) -> None:
    """Take in what is left of a body, up to a point, before it is refused."""
    left = DISCARDED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                if not message.get("more_body"):
                    return
                left -= len(message.get("body", b""))


def check_json(body: bytes, content_type: str) -> None:
    """Check that a body that says it is JSON, or says nothing, can be read, kept and sent on.

    Raises:
        ApiError: it cannot.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not body or not (kind in ("", "application/json") or kind.endswith("+json")):
        return
    try:
        value = parse_json(body)
        too_deep = not depth_within(value, MAX_DEPTH)
    except RecursionError:
        too_deep = True
    except ValueError:
        raise _invalid("The body is not valid JSON.") from None
    if too_deep:
        raise _invalid(f"The body nests more than {MAX_DEPTH} deep.")
    if not storable(value):
        raise _invalid("A string of the body has a NUL character or half a surrogate pair.")


def _invalid(sentence: str) -> ApiError:
    issue = {"path": [], "message": sentence}
    return ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=[issue])


def _too_large(most_bytes: int) -> ApiError:
    sentence = f"The body must be at most {most_bytes} bytes."
    return ApiError(413, "TOO_LARGE", sentence, retryable=False, headers=_CLOSING)
