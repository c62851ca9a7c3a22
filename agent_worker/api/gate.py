"""What every request to `/v1` passes before a route sees it: its key, how often it asks, and what its body may be.

It stands in front of the framework, so that it holds for every route, however that reads its body, and so that
nobody without a key learns which routes there are or has a body read.
"""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_worker.api import livekit_webhook
from agent_worker.api.auth import Authenticate, Principal, given_key, hash_of, unauthorized
from agent_worker.api.errors import ApiError, told
from agent_worker.api.limits import Buckets, Failures
from agent_worker.api.requests import body_of, check_json, discard
from agent_worker.errors import ControlPlaneError
from agent_worker.settings import Settings

PREFIX = "/v1"
MAX_BODY_BYTES = 1_048_576


class Gate:
    """ASGI middleware.

    Args:
        authenticate: whose key it is.
    """

    def __init__(self, app: ASGIApp, authenticate: Authenticate, settings: Settings) -> None:
        self._app = app
        self._authenticate = authenticate
        self._requests = Buckets(settings.api_requests_per_minute)
        self._failures = Failures(Buckets(settings.api_wrong_keys_per_minute))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through to the routes, or answer it here."""
        if scope["type"] != "http" or not _is_of_the_api(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        unread = _has_body(request)
        try:
            request.state.principal = await self._whose(request)
            _check_address(request)
            if unread:
                body = await body_of(request, MAX_BODY_BYTES)
                unread = False
                check_json(body, request.headers.get("content-type", ""))
                receive = _again(body, receive)
        except (ApiError, ControlPlaneError) as error:
            if unread:
                await discard(receive)
            await told(error)(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, receive, send)

    async def _whose(self, request: Request) -> Principal:
        key = given_key(request.headers.get("authorization", ""))
        if not key:
            raise unauthorized()
        address, hashed = request.client.host if request.client else "", hash_of(key)
        if wait := self._failures.wait(address, hashed):
            raise _too_often("Too many wrong keys came from this address", wait)
        principal = await self._authenticate(key)
        if principal is None:
            self._failures.wrong(address, hashed)
            raise unauthorized()
        self._failures.right(hashed)
        if wait := self._requests.take(principal.key_id):
            raise _too_often("This key has made too many requests", wait)
        return principal


def _is_of_the_api(path: str) -> bool:
    return (path == PREFIX or path.startswith(f"{PREFIX}/")) and path != livekit_webhook.PATH


def _check_address(request: Request) -> None:
    # no text a database keeps can have this character, so nothing can be found by it
    if "\0" in request.scope["path"]:
        raise ApiError(404, "NOT_FOUND", "There is nothing at this address.", retryable=False)
    if any("\0" in part for pair in request.query_params.multi_items() for part in pair):
        raise ApiError(400, "VALIDATION_ERROR", "A query parameter has a NUL character.", retryable=False)


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what hands the body, which was read already, to the routes, and then whatever else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


def _too_often(cause: str, wait: int) -> ApiError:
    sentence = f"{cause}; the next is taken in {wait} s."
    return ApiError(429, "RATE_LIMITED", sentence, retryable=True, headers={"retry-after": str(wait)})
