"""One HTTP connection to another host's `serve`: deadlines, retries, and every way to fail in our words."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import ValidationError

from agent_worker import __version__
from agent_worker.control.wire import ControlAddress, Refused
from agent_worker.errors import ControlPlaneError

logger = logging.getLogger("agent_worker.control")

T = TypeVar("T")

TOKEN_REFUSED = "control_token_refused"
TOO_LARGE = "control_plane_too_large"

CONNECT_SECONDS = 2.0
KEEP_CONNECTION_SECONDS = 30.0
"""Less than `serve` keeps an idle connection, so that none is closed under a request."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
SHORTEST_ATTEMPT_SECONDS = 0.02
MAX_ANSWER_BYTES = 8 * 2**20

_TRY_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Answer:
    """What came back: status, lower-case headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Transient(Exception):
    """An attempt failed in a way the next one may not.

    Attributes:
        wait_seconds: what the other side asks for, None where it does not say.
    """

    def __init__(self, error: ControlPlaneError, wait_seconds: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait_seconds = wait_seconds


class ControlClient:
    """Asks `serve`; connections are kept and used again, redirects are not followed."""

    def __init__(self, address: ControlAddress) -> None:
        self._address = address
        # made here and not at the first request, which is a call that rings: it reads all certificate authorities
        self._client: httpx.AsyncClient | None = self._connect()

    async def ask(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        seconds: float,
        content: Callable[[float], bytes] | bytes | AsyncIterator[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
        again: bool = True,
    ) -> T:
        """Return what `read` makes of a good answer; tried again until the time is over.

        Args:
            read: raises `ValueError` where the answer is not what was asked for.
            seconds: for all attempts together.
            content: the body, or what makes it of the seconds that are left; one that is streamed is sent once, so
                that needs `again=False` and the header `content-length`.
            again: False where the caller itself asks again soon.

        Raises:
            ControlPlaneError: `retryable` unless `serve` says that this request can never succeed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            left = max(deadline - loop.time(), SHORTEST_ATTEMPT_SECONDS)
            try:
                async with asyncio.timeout(left):
                    body = content(left) if callable(content) else content
                    answer = await self._exchange(method, path, body, headers or {}, max_bytes)
                return _good(answer, read)
            except TimeoutError as error:
                raise _error("control_plane_timeout", f"did not answer within {seconds:.1f} s.") from error
            except _Transient as failed:
                wait = failed.wait_seconds or pause * random.uniform(0.5, 1.5)
                if not again or loop.time() + wait + SHORTEST_ATTEMPT_SECONDS >= deadline:
                    raise failed.error from failed
                await asyncio.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def aclose(self) -> None:
        """Close every connection; a later request opens one again."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self._address.url,
            headers={
                "authorization": f"Bearer {self._address.token}",
                "user-agent": f"agent-worker/{__version__}",
            },
            # each attempt has a deadline as a whole; a connection that is not made quickly is not made
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=20, keepalive_expiry=KEEP_CONNECTION_SECONDS),
            follow_redirects=False,
            trust_env=not self._address.is_loopback,
        )

    async def _exchange(
        self, method: str, path: str, body: bytes | AsyncIterator[bytes], headers: Mapping[str, str], max_bytes: int
    ) -> Answer:
        self._client = self._client or self._connect()
        try:
            async with self._client.stream(method, path.lstrip("/"), content=body, headers=dict(headers)) as response:
                found = bytearray()
                async for chunk in response.aiter_bytes():
                    found += chunk
                    if len(found) > max_bytes:
                        raise _error("control_plane_garbled", "answered with more than it should.")
                return Answer(response.status_code, dict(response.headers), bytes(found))
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            kind = type(error).__name__
            raise _Transient(_error("control_plane_unreachable", f"cannot be reached ({kind}).")) from error


def _good(answer: Answer, read: Callable[[Answer], T]) -> T:
    if answer.status not in (200, 304):
        raise _failure(answer)
    try:
        return read(answer)
    except (ValueError, RecursionError) as error:
        sentence = "answered with something that is no answer: is AGENT_WORKER_CONTROL_URL the address of `serve`?"
        raise _Transient(_error("control_plane_garbled", sentence)) from error


def _failure(answer: Answer) -> Exception:
    status = answer.status
    said = _said(answer.body)
    if status == 401:
        return _error(
            TOKEN_REFUSED, "refuses the token: set AGENT_WORKER_CONTROL_TOKEN to the same value on both hosts."
        )
    if status == 413:
        ours = said is not None and said.retryable is False
        return ControlPlaneError(TOO_LARGE, "The control plane takes no request this large.", retryable=not ours)
    if said is not None and said.retryable is False and status < 500:
        return ControlPlaneError(said.code.lower()[:100], said.error[:500], retryable=False)
    if status >= 500 or status in _TRY_AGAIN:
        code = said.code.lower()[:100] if said else "control_plane_failed"
        return _Transient(_error(code, f"answered HTTP {status}."), _retry_after(answer))
    return _error(
        "control_plane_unexpected",
        f"answered HTTP {status}: is AGENT_WORKER_CONTROL_URL the address of `serve`, of this version?",
    )


def _said(body: bytes) -> Refused | None:
    try:
        return Refused.model_validate_json(body)
    except ValidationError:
        return None


def _retry_after(answer: Answer) -> float | None:
    written = answer.headers.get("retry-after", "")
    return float(written) if written.isascii() and written.isdigit() and len(written) < 6 else None


def _error(code: str, sentence: str) -> ControlPlaneError:
    return ControlPlaneError(code, f"The control plane {sentence}", retryable=True)
