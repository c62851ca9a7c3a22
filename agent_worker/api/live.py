"""Reaches the process that has a live call, through LiveKit, wherever it runs."""

from __future__ import annotations

from typing import Any

from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import the_call
from agent_worker.domain.call import CallStatus
from agent_worker.errors import TelephonyError

Record = dict[str, Any]

NO_LIVEKIT = "This control plane does not know LiveKit: set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET for it."


async def noted_call(
    backend: Backend, principal: Principal, call_id: str, action: str, detail: Record | None = None
) -> Record:
    """Return the call's row; what is about to be done to it is noted where it is live."""
    async with backend.control.reading() as connection:
        row = await the_call(connection, backend, principal, call_id)
    if row["ended_at"] is None:
        async with backend.control.writing() as connection:
            await audit(connection, backend, principal, action, f"calls/{call_id}", detail)
    return row


def live_row(row: Record) -> Record:
    """Return the row of a call whose parties hear each other.

    Raises:
        ApiError: it is over, or still ringing.
    """
    if row["ended_at"] is not None or not row["room_name"]:
        raise not_live("over")
    if row["status"] != CallStatus.ACTIVE:
        raise not_live("ringing")
    return row


def not_live(why: str) -> ApiError:
    """Return the error of a call that nobody can be spoken to on."""
    sentence = "The call is still ringing: nobody can be spoken to yet." if why == "ringing" else "The call is over."
    return ApiError(409, "CALL_NOT_LIVE", sentence, retryable=why == "ringing")


def require_livekit(backend: Backend) -> None:
    """Raise `ApiError` 501 where this process has not been told of a LiveKit server."""
    settings = backend.settings
    if not (settings.livekit_url and settings.livekit_api_key and settings.livekit_api_secret.get_secret_value()):
        raise ApiError(501, "NOT_AVAILABLE", NO_LIVEKIT, retryable=False)


async def ask_live(backend: Backend, row: Record, method: str, payload: str) -> str:
    """Return what the call's process answers to a command.

    Raises:
        ApiError: 503; it does not answer, or LiveKit does not.
    """
    from agent_worker.telephony.rpc import ask_call

    if not row["room_name"] or not row["job_id"]:
        raise unavailable("CALL_NOT_REACHED", "It is not known yet where this call is; try again.")
    try:
        return await ask_call(backend.settings, row["room_name"], row["job_id"], method, payload)
    except TelephonyError as error:
        raise unavailable(error.code.upper(), str(error)) from error


def unavailable(code: str, sentence: str) -> ApiError:
    """Return the error of something that may work a moment later."""
    return ApiError(503, code, sentence, retryable=True, headers={"retry-after": "1"})
