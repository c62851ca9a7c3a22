"""The HTTP client for URLs that agents name: checked addresses, no redirects, one deadline, bounded replies."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpcore
import httpx

from agent_worker.egress.connections import Connections
from agent_worker.egress.destination import Destination
from agent_worker.egress.policy import AddressPolicy
from agent_worker.egress.resolver import Resolve, resolve_host
from agent_worker.errors import EgressError

MAX_REPLY_BYTES = 65_536
USER_AGENT = "agent-worker"

# What frames the request, and what it says of this connection, is the client's to say.
OWN_HEADERS = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip

_Answer = tuple[int, dict[str, str], bytes, bool]
"""Status, headers, body, and whether there was more of it."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]{0,8192}")


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: HTTP status; a redirect is a reply like any other.
        headers: by lower-case name; of a repeated one the values are joined by commas.
        body: of a 2xx whole; of any other status cut at the limit, and empty where it came compressed.
        duration_ms: from the start of the request to the end of the body, ms.
        truncated: there was more of the body.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    duration_ms: int
    truncated: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class _Request:
    method: str
    destination: Destination
    headers: list[tuple[bytes, bytes]]
    body: bytes
    max_bytes: int
    cut: bool


class EgressClient:
    """Posts to, and gets from, URLs that agents name.

    It is made once per process, also before a loop runs, and used from one loop. It reads no proxy settings, keeps no
    cookies and follows no redirects; connections are kept alive per scheme, host and port.

    Args:
        resolve: asks for a host's addresses.
        tls: what certificates are verified against; default: the usual authorities, or SSL_CERT_FILE's.
    """

    def __init__(
        self, policy: AddressPolicy, *, resolve: Resolve = resolve_host, tls: ssl.SSLContext | None = None
    ) -> None:
        self._policy = policy
        self._connections = Connections(policy, resolve, tls or httpx.create_ssl_context())

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        max_bytes: int = MAX_REPLY_BYTES,
        cut: bool = False,
    ) -> Reply:
        """Send the body and return what the server answers.

        Args:
            headers: those that frame the request or belong to the connection are left out.
            timeout_seconds: for all of it: DNS, connecting, TLS, sending, and the last byte of the answer.
            max_bytes: longest body taken.
            cut: the body of a 2xx is of no use to us, so it is cut at the limit like any other.

        Raises:
            EgressError: the URL may not be reached, or there was no usable answer.
        """
        return await self._request("POST", url, body, headers, timeout_seconds, max_bytes, cut=cut)

    async def get(self, url: str, *, timeout_seconds: float, max_bytes: int) -> Reply:
        """Return what the server has there; arguments and errors are those of `post`."""
        return await self._request("GET", url, b"", {}, timeout_seconds, max_bytes, cut=False)

    async def _request(
        self,
        method: str,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float,
        max_bytes: int,
        *,
        cut: bool,
    ) -> Reply:
        started = time.perf_counter()
        destination = self._policy.check_url(url)
        sent = _headers(destination, headers, len(body) if method == "POST" else None)
        asked = _Request(method, destination, sent, body, max_bytes, cut)
        try:
            async with asyncio.timeout(timeout_seconds):
                status, received, answer, rest = await self._exchange(asked)
        except TimeoutError as error:
            raise EgressError(
                "egress_timeout",
                f"{destination.host} did not answer within {timeout_seconds:g} s.",
                remedy="Answer faster, or allow more time.",
            ) from error
        return Reply(status, received, answer, round((time.perf_counter() - started) * 1000), rest)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connections.aclose()

    async def _exchange(self, asked: _Request) -> _Answer:
        # A server may close a kept connection just as we use it. A receiver tells a repeated webhook by its id, so
        # such a request is sent again, once, over a new connection; no other is.
        repeatable = any(name == b"webhook-id" for name, _ in asked.headers)
        fresh = False
        while True:
            progress = _Progress()
            async with self._connections.lend(asked.destination, fresh=fresh) as connection:
                try:
                    return await _send(connection.http, asked, progress)
                except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
                    if not (repeatable and connection.kept and not progress.answered):
                        raise _failed(asked.destination, progress, error) from error
            fresh = True


async def _send(connection: httpcore.AsyncHTTPConnection, asked: _Request, progress: _Progress) -> _Answer:
    destination, max_bytes = asked.destination, asked.max_bytes
    url = httpcore.URL(
        scheme=destination.scheme, host=destination.host, port=destination.port, target=destination.target
    )
    extensions = {"trace": progress}
    async with connection.stream(
        asked.method, url, headers=asked.headers, content=asked.body, extensions=extensions
    ) as response:
        received = _received(response.headers)
        needed = 200 <= response.status < 300 and not asked.cut
        if received.get("content-encoding", "identity").lower() not in ("", "identity"):
            if needed:
                raise _encoded(destination)
            return response.status, received, b"", True
        answer = bytearray()
        async for chunk in response.aiter_stream():
            answer += chunk
            if len(answer) > max_bytes:
                if needed:
                    raise _too_large(destination, max_bytes)
                break
        return response.status, received, bytes(answer[:max_bytes]), len(answer) > max_bytes


class _Progress:
    """How far a request has got: what the library's trace says."""

    def __init__(self) -> None:
        self.in_tls = False
        self.answered = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if event.startswith("connection.start_tls."):
            self.in_tls = not event.endswith(".complete")
        elif event == "http11.receive_response_headers.complete":
            self.answered = True


def _headers(destination: Destination, given: Mapping[str, str], length: int | None) -> list[tuple[bytes, bytes]]:
    headers = {"host": destination.host_header, "user-agent": USER_AGENT, "accept": "*/*"}
    for name, value in given.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise EgressError(
                "egress_header_invalid",
                f"The header {name[:100]!r} for {destination.host} has a name or a value that no header can have.",
                remedy="Use one line of text, at most 8192 characters, without control characters.",
            )
        if name.lower() not in OWN_HEADERS:
            headers[name.lower()] = value.strip()
    headers["accept-encoding"] = "identity"
    if length is not None:
        headers["content-length"] = str(length)
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def _received(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _failed(destination: Destination, progress: _Progress, error: Exception) -> EgressError:
    if progress.in_tls:
        cause = error.__cause__
        why = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else "the handshake failed"
        return EgressError(
            "egress_tls",
            f"{destination.host} has no TLS connection to offer that can be trusted: {why.rstrip('.')}.",
            remedy="Give it a certificate for its name from an authority this machine knows (SSL_CERT_FILE adds one).",
        )
    return EgressError(
        "egress_connection",
        f"{destination.host} took no connection or broke it off ({type(error).__name__}).",
        remedy="Check that the server runs, listens on that port and speaks HTTP/1.1.",
    )


def _too_large(destination: Destination, limit: int) -> EgressError:
    return EgressError(
        "egress_response_too_large",
        f"{destination.host} answered with more than {limit} bytes.",
        remedy="Answer with less.",
    )


def _encoded(destination: Destination) -> EgressError:
    return EgressError(
        "egress_response_encoded",
        f"{destination.host} answered with a compressed body, which was not asked for.",
        remedy="Answer without Content-Encoding.",
    )
