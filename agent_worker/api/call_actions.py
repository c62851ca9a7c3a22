"""What an operator does to a live call: end it, tell its agent something, join it from a browser (contract 1.2).

The process that has the call is asked through LiveKit, wherever it runs.
"""

from __future__ import annotations

import logging
import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AfterValidator, ConfigDict, Field

from agent_worker.api.backend import Backend
from agent_worker.api.errors import ApiError
from agent_worker.api.known_calls import CallId, Operator
from agent_worker.api.live import ask_live, live_row, not_live, noted_call, require_livekit, unavailable
from agent_worker.api.shapes import CamelShape, Moment, RequestShape, SnakeShape, errors
from agent_worker.domain.call import utc_now
from agent_worker.domain.command import END, MAX_MESSAGE_CHARS, MESSAGE, CommandAnswer, MessageMode, message_parts
from agent_worker.store.columns import wire_time

logger = logging.getLogger("agent_worker.api")

Record = dict[str, Any]

JOINED = "The caller is talking with a person, and nothing is said into that; send it with mode context."


class EndedCall(SnakeShape):
    """What became of the wish to end a call; `ended_at` only where it was over already."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ok": True, "status": "ending"}]})

    ok: Literal[True] = True
    status: Literal["ending", "already_ended"]
    ended_at: Moment | None = None


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must say something")
    return text.replace("\x00", "")


class MessageRequest(RequestShape):
    """Something for the agent to know."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "The doctor is 20 minutes late today.", "mode": "respond"}]}
    )

    text: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE_CHARS), AfterValidator(_not_blank)]
    mode: MessageMode = Field(
        "respond", description="`respond`: the agent speaks about it at once. `context`: it knows it from now on."
    )


class SentMessage(SnakeShape):
    """The message's id, as in the payload of the event `call.message_sent`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"message_id": "msg_2b8d1c"}]})

    message_id: str


class WebJoinRequest(RequestShape):
    """Who joins."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"displayName": "Maya"}]})

    display_name: Annotated[str, Field(max_length=120)] | None = None


class WebJoin(CamelShape):
    """What a browser joins the call's room with, once, before it expires."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "token": "eyJhbGciOi…",
                    "url": "wss://livekit.example.com",
                    "identity": "web-0c6c8d3e-7f57-4a4e-8a55-5f1c1f3f2a10",
                    "roomName": "call-5f2b6c1e",
                    "expiresAt": "2026-03-02T09:35:00.000000Z",
                }
            ]
        }
    )

    token: str
    url: str
    identity: str
    room_name: str
    expires_at: Moment


def call_actions_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/calls/{call_id}", tags=["calls"])
    live_only = errors(404, 409, 501)

    @router.post("/end", responses=live_only, response_model_exclude_none=True)
    async def end_call(call_id: CallId, principal: Operator) -> EndedCall:
        """End a call at once: nothing more is said, and every leg is hung up."""
        row = await noted_call(backend, principal, call_id, "call.end")
        if row["ended_at"] is not None:
            return EndedCall(status="already_ended", ended_at=wire_time(row["ended_at"]))
        require_livekit(backend)
        await _end(backend, row)
        return EndedCall(status="ending")

    @router.post("/messages", responses=live_only)
    async def send_message(call_id: CallId, principal: Operator, body: MessageRequest) -> SentMessage:
        """Have the agent know something, and speak about it at once or not; 409 where nobody can be spoken to."""
        message_id = f"msg_{uuid.uuid4().hex}"
        detail = {"message_id": message_id, "mode": body.mode}
        row = live_row(await noted_call(backend, principal, call_id, "call.message", detail))
        require_livekit(backend)
        for part in message_parts(message_id, body.mode, body.text):
            answer = await _ask(backend, row, MESSAGE, part.model_dump_json())
            if answer.answer in ("over", "ringing"):
                raise not_live(answer.answer)
            if answer.answer == "joined":
                raise ApiError(409, "TRANSFER_ACTIVE", JOINED, retryable=False)
        return SentMessage(message_id=message_id)

    @router.post("/web-join", responses=live_only)
    async def join_from_web(call_id: CallId, principal: Operator, body: WebJoinRequest | None = None) -> WebJoin:
        """Return a token that joins the call's room for five minutes: it may speak and listen there, nothing else."""
        row = live_row(await noted_call(backend, principal, call_id, "call.web_join"))
        require_livekit(backend)
        from agent_worker.telephony.tokens import join_token

        settings = backend.settings
        joined = join_token(settings, row["room_name"], body.display_name if body else None, utc_now())
        return WebJoin(
            token=joined.token,
            url=settings.livekit_public_url or settings.livekit_url,
            identity=joined.identity,
            room_name=row["room_name"],
            expires_at=wire_time(joined.expires_at) or "",
        )

    return router


async def _end(backend: Backend, row: Record) -> None:
    """Have the call end itself; where it does not answer, its room is deleted and nobody is left in it."""
    try:
        await _ask(backend, row, END, "")
        return
    except ApiError as error:
        if error.code != "CALL_NOT_REACHED":
            raise
    from agent_worker.telephony.client import livekit_client
    from agent_worker.telephony.rooms import delete_room

    logger.warning("call does not answer, its room is deleted", extra={"call_id": row["id"]})
    async with livekit_client(backend.settings) as client:
        if not row["room_name"] or not await delete_room(client, row["room_name"]):
            raise unavailable("CALL_NOT_REACHED", "The call could not be ended; try again.")


async def _ask(backend: Backend, row: Record, method: str, payload: str) -> CommandAnswer:
    answer = await ask_live(backend, row, method, payload)
    try:
        return CommandAnswer.model_validate_json(answer)
    except ValueError as error:
        raise unavailable("CALL_NOT_REACHED", "The call gives an answer nobody here understands.") from error
