"""Why LiveKit's server API did not do what was asked, in a sentence with its remedy."""

from __future__ import annotations

import os

import aiohttp
from google.protobuf.message import DecodeError
from livekit import api

from agent_worker.errors import TelephonyError

_KEY = frozenset({api.TwirpErrorCode.UNAUTHENTICATED, api.TwirpErrorCode.PERMISSION_DENIED})
REFUSALS = (api.TwirpError, aiohttp.ClientError, TimeoutError, DecodeError)
"""What the server API raises; the last where something that is not LiveKit answers 200."""

_AGAIN = frozenset({api.TwirpErrorCode.UNAVAILABLE, api.TwirpErrorCode.DEADLINE_EXCEEDED})


def explained(error: Exception, what: str) -> TelephonyError:
    """Return the error to tell an operator.

    Args:
        what: what LiveKit was asked to do: "to create the inbound trunk 'carrier'".
    """
    if isinstance(error, TimeoutError):
        return TelephonyError(
            "livekit_silent",
            f"LiveKit was asked {what} and did not answer in time.",
            remedy="Is LIVEKIT_URL right, and the server well?",
            retryable=True,
        )
    if isinstance(error, api.TwirpError):
        return _refused(error, what)
    if isinstance(error, DecodeError):
        return _not_livekit()
    if isinstance(error, aiohttp.InvalidURL):
        return TelephonyError("livekit_url_invalid", "LIVEKIT_URL is not a URL.", remedy="Write wss://host.")
    return TelephonyError(
        "livekit_unreachable",
        f"LiveKit cannot be reached: {_reason(error)}.",
        remedy="LIVEKIT_URL must name the server; is it running, and the port open?",
        retryable=True,
    )


def _refused(error: api.TwirpError, what: str) -> TelephonyError:
    if error.code in _KEY or error.status in (401, 403):
        return TelephonyError(
            "livekit_key_refused",
            f"LiveKit was asked {what} and refuses the key.",
            remedy="LIVEKIT_API_KEY and LIVEKIT_API_SECRET must be one of the pairs in the server's `keys`.",
        )
    if "redis required" in error.message:
        return TelephonyError(
            "livekit_without_sip",
            "LiveKit has no redis, and without it no SIP.",
            remedy="Give livekit-server and livekit-sip the same `redis.address`.",
        )
    if error.code == api.TwirpErrorCode.BAD_ROUTE or not error.message:
        return _not_livekit()
    return TelephonyError(
        "livekit_refuses",
        f"LiveKit was asked {what} and refuses: {error.message.removesuffix('.')}.",
        retryable=error.code in _AGAIN,
    )


def _reason(error: Exception) -> str:
    cause = getattr(error, "os_error", None) or error
    number = getattr(cause, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)  # asyncio's own text is "Connect call failed"
    return getattr(cause, "strerror", None) or type(error).__name__


def _not_livekit() -> TelephonyError:
    return TelephonyError(
        "livekit_not_there",
        "What answers at LIVEKIT_URL is not a LiveKit server.",
        remedy="LIVEKIT_URL is wss://host or ws://host:port of livekit-server, not of livekit-sip or a web page.",
    )
