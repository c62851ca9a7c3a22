"""Is LiveKit there, is it LiveKit, and does it know our key?"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
from livekit import api

from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status

NAME = "livekit"
CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 10.0
MOST_BYTES = 65_536
SKEW_WARNING_SECONDS = 30.0
"""LiveKit refuses tokens of a clock that is about a minute ahead; receivers of webhooks allow five minutes."""

NEW_KEY = "Copy LIVEKIT_API_KEY and LIVEKIT_API_SECRET again from the server's configuration (keys:)."


async def check_server(exam: Examination) -> None:
    """Reach LiveKit the way the worker does: DNS, TCP, TLS, HTTP, the key, a WebSocket."""
    settings = exam.known_settings
    missing = [
        name
        for name, value in {
            "LIVEKIT_URL": settings.livekit_url,
            "LIVEKIT_API_KEY": settings.livekit_api_key,
            "LIVEKIT_API_SECRET": settings.livekit_api_secret.get_secret_value(),
        }.items()
        if not value
    ]
    if missing:
        _fail(exam, "not_set", f"{' and '.join(missing)} not set.", "Set them in the environment (see .env.example).")
        return
    url = http_url(settings.livekit_url)
    if url is None:
        _fail(exam, "url_invalid", "LIVEKIT_URL is not a URL.", "Write wss://host, or ws://host:port.")
        return
    token = _token(settings.livekit_api_key, settings.livekit_api_secret.get_secret_value())
    timeout = aiohttp.ClientTimeout(total=TOTAL_SECONDS, sock_connect=CONNECT_SECONDS)
    started = time.monotonic()
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client:
            if await _ask(exam, client, url, token) and await _open_websocket(exam, client, url, token):
                took = round((time.monotonic() - started) * 1000)
                exam.report(
                    NAME, Status.OK, f"LiveKit answers at {_place(url)} and takes the key.", detail={"ms": took}
                )
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        code, message, remedy = explain_connection(error, url)
        _fail(exam, code, message, remedy)


def http_url(url: str) -> str | None:
    """Return LiveKit's address as http(s) without a trailing slash, None where it is none."""
    parts = urlsplit(url.strip())
    schemes = {"ws": "http", "wss": "https", "http": "http", "https": "https"}
    try:
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            return None
    except ValueError:
        return None
    return f"{schemes[parts.scheme]}://{parts.netloc}{parts.path}".rstrip("/")


def explain_connection(error: Exception, url: str) -> tuple[str, str, str]:
    """Return code, cause and remedy of a connection that could not be made."""
    place, host = _place(url), urlsplit(url).hostname
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return "dns", f"The name {host} cannot be resolved.", "Correct LIVEKIT_URL, or the DNS of this machine."
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        why = getattr(getattr(error, "certificate_error", error), "verify_message", "") or "it is not trusted"
        return (
            "certificate",
            f"The certificate of {place} is refused: {why}.",
            "Give LiveKit a valid certificate, or this machine the authority's (SSL_CERT_FILE).",
        )
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "tls", f"{place} does not speak TLS.", "Write ws:// instead of wss://, or the port that has TLS."
    if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        return (
            "timeout",
            f"{place} does not answer in time.",
            "Look for a firewall between here and there, and that the address is right.",
        )
    if isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError):
        return (
            "refused",
            f"Nothing listens at {place}.",
            "Start livekit-server, or correct host and port in LIVEKIT_URL.",
        )
    return (
        "no_http",
        f"{place} breaks the connection ({type(error).__name__}).",
        "Look at what listens there: LIVEKIT_URL may need wss:// instead of ws://, or another port.",
    )


def explain_refusal(status: int, content_type: str, body: str, skew_seconds: float | None) -> tuple[str, str, str]:
    """Return code, cause and remedy of an answer that is no list of rooms.

    Args:
        skew_seconds: how far our clock is ahead of the server's, None where it does not say.
    """
    said = _said(body)
    if status == 401 and re.search(r"not valid yet|expired|used before|nbf|exp\b", said):
        by = f" by {abs(skew_seconds):.0f} s" if skew_seconds is not None else ""
        way = "ahead of" if (skew_seconds or 0) > 0 else "behind" if skew_seconds else "different from"
        return (
            "clock",
            f"This machine's clock is {way} LiveKit's{by}, so our tokens are refused.",
            "Have both clocks set by NTP.",
        )
    if status == 401 and "invalid API key" in said:
        return "wrong_key", "LiveKit does not know this API key.", NEW_KEY
    if status == 401 and re.search(r"signature|cryptographic", said):
        return "wrong_secret", "LiveKit knows the API key, but the secret does not belong to it.", NEW_KEY
    if status in (401, 403):
        return "key_refused", f"LiveKit refuses the key or the secret (HTTP {status}).", NEW_KEY
    if 300 <= status < 400:
        return (
            "redirected",
            f"The address redirects elsewhere (HTTP {status}), which LiveKit does not.",
            "Write the address it redirects to into LIVEKIT_URL; it usually begins with wss://.",
        )
    if status >= 500 and "json" in content_type and re.search(r"dial tcp|redis", said):
        return (
            "redis_away",
            "LiveKit answers, but cannot reach its redis.",
            "Start redis, or correct redis.address in LiveKit's configuration.",
        )
    if status >= 500:
        return "server_error", f"The server answers with an error (HTTP {status}).", "Read LiveKit's own log."
    return (
        "not_livekit",
        f"Something answers, but not as LiveKit does (HTTP {status}, {content_type or 'no content type'}).",
        "Write the address of livekit-server itself into LIVEKIT_URL, not that of a web page or dashboard.",
    )


async def _ask(exam: Examination, client: aiohttp.ClientSession, url: str, token: str) -> bool:
    request = client.post(
        f"{url}/twirp/livekit.RoomService/ListRooms",
        data=b"{}",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        allow_redirects=False,
    )
    async with request as answer:
        body = (await answer.content.read(MOST_BYTES)).decode(errors="replace")
        skew = _skew(answer.headers.get("Date"))
        if answer.status == 200 and "json" in answer.content_type and '"rooms"' in body[:200]:
            if skew is not None and abs(skew) > SKEW_WARNING_SECONDS:
                exam.report(
                    NAME,
                    Status.WARNING,
                    f"This machine's clock and LiveKit's differ by {abs(skew):.0f} s.",
                    "Have both clocks set by NTP: tokens and webhook signatures depend on them.",
                    code="clock",
                    detail={"skew_seconds": round(skew)},
                )
            return True
        code, message, remedy = explain_refusal(answer.status, answer.content_type, body, skew)
        _fail(exam, code, message, remedy)
        return False


async def _open_websocket(exam: Examination, client: aiohttp.ClientSession, url: str, token: str) -> bool:
    """Open the socket a worker registers over, and close it: a proxy may pass HTTP only."""
    try:
        async with client.ws_connect(f"{url}/agent", headers={"Authorization": f"Bearer {token}"}):
            return True
    except aiohttp.WSServerHandshakeError as error:
        _fail(
            exam,
            "no_websocket",
            f"LiveKit answers over HTTP, but its WebSocket is refused (HTTP {error.status}).",
            "Let the proxy in front of LiveKit pass WebSocket upgrades.",
        )
        return False


def _token(key: str, secret: str) -> str:
    grants = api.VideoGrants(room_list=True, room_create=True, room_admin=True, agent=True)
    return api.AccessToken(key, secret).with_grants(grants).with_ttl(timedelta(minutes=5)).to_jwt()


def _skew(date: str | None) -> float | None:
    try:
        theirs = parsedate_to_datetime(date or "")
    except ValueError:
        return None
    return (datetime.now(UTC) - theirs).total_seconds() if theirs.tzinfo else None


def _said(body: str) -> str:
    """Return what a refusal says, without the token that LiveKit repeats in it."""
    with contextlib.suppress(ValueError, AttributeError):
        body = str(json.loads(body).get("msg", ""))
    return re.sub(r"eyJ[\w.-]+", "…", body)[:500]


def _place(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def _fail(exam: Examination, code: str, message: str, remedy: str) -> None:
    exam.report(NAME, Status.FAILED, message, remedy, code=code)
