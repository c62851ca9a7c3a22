"""Asks a live call something through LiveKit: `RoomService/PerformRpc`, a request to one participant and its answer."""

from __future__ import annotations

import asyncio

import aiohttp
from livekit import api
from livekit.api.twirp_client import TwirpClient
from livekit.protocol.room import PerformRpcRequest, PerformRpcResponse

from agent_worker.errors import TelephonyError
from agent_worker.settings import Settings
from agent_worker.telephony.rooms import agent_identity

ANSWER_SECONDS = 2.0
"""How long a call has to answer; LiveKit itself gives up on one that does not react after 2 s."""

MORE_SECONDS = 1.0
"""What LiveKit may take beyond that."""


async def ask_call(settings: Settings, room: str, job_id: str, method: str, payload: str) -> str:
    """Return what the call's process answers.

    Raises:
        TelephonyError: `livekit_unavailable` where LiveKit does not answer, `call_not_reached` where the call does not.
    """
    grants = api.VideoGrants(room_admin=True, room=room)
    secret = settings.livekit_api_secret.get_secret_value()
    token = api.AccessToken(settings.livekit_api_key, secret).with_grants(grants).to_jwt()
    request = PerformRpcRequest(
        room=room,
        destination_identity=agent_identity(job_id),
        method=method,
        payload=payload,
        response_timeout_ms=round(ANSWER_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS + MORE_SECONDS), aiohttp.ClientSession() as session:
            client = TwirpClient(session, settings.livekit_url, "livekit", failover=False)
            headers = {"authorization": f"Bearer {token}"}
            answer = await client.request("RoomService", "PerformRpc", request, headers, PerformRpcResponse)
    except api.TwirpError as error:
        raise TelephonyError("call_not_reached", f"The call does not answer ({error.code}).", retryable=True) from error
    except (aiohttp.ClientError, OSError) as error:
        sentence = f"LiveKit does not answer ({type(error).__name__})."
        raise TelephonyError("livekit_unavailable", sentence, retryable=True) from error
    except TimeoutError as error:
        raise TelephonyError("call_not_reached", "The call does not answer in time.", retryable=True) from error
    return answer.payload
