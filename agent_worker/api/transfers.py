"""Transfers of a live call to a person: begun, completed and cancelled by an operator (contract 1.2 and 6).

The process that has the call does the work; its first row is the answer, its rows and events tell the rest.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.call_shapes import TRANSFER_EXAMPLE, CallTransfer
from agent_worker.api.errors import ApiError, issues_of
from agent_worker.api.known_calls import CallId, Operator
from agent_worker.api.live import ask_live, live_row, noted_call, require_livekit, unavailable
from agent_worker.api.shapes import RequestShape, SnakeShape, errors
from agent_worker.domain.refer_headers import ReferHeaders
from agent_worker.domain.transfer import (
    E164,
    Prompt,
    Seconds,
    Target,
    TransferDestination,
    TransferFallback,
    TransferKind,
    TransferPlan,
    VoicemailDetection,
)
from agent_worker.domain.transfer_command import (
    BEGIN,
    CANCEL,
    COMPLETE,
    MAX_BYTES,
    MOST_REASON_CHARS,
    BeginTransfer,
    CancelTransfer,
    CompleteTransfer,
    TransferAnswer,
)
from agent_worker.store.columns import wire_time
from agent_worker.store.queries import call_transfers

Record = dict[str, Any]
TransferId = Annotated[str, Path(max_length=200, examples=["tr_5f2b6c1e0d3a4c8e9f572f1d8a6b7c90"])]

LONGEST_WAIT_SECONDS = 25.0
"""Of `waitUntilAnswered`: the contract's client gives up after 30 s."""

NEXT_SECONDS = 1.0
"""How long after one attempt the row of the next may take to be there."""

_STATUS = {
    "NOT_FOUND": 404,
    "CALL_NOT_LIVE": 409,
    "TRANSFER_ACTIVE": 409,
    "TRANSFER_NOT_ACTIVE": 409,
    "TOO_MANY_ATTEMPTS": 409,
    "TOO_MANY_TRANSFERS": 429,
    "RECIPIENT_MISMATCH": 409,
    "PARTICIPANT_MISMATCH": 409,
    "DESTINATION_NOT_ALLOWED": 400,
    "VALIDATION_ERROR": 400,
}


def _without_nulls(said: Any) -> Any:
    if isinstance(said, list):
        return [_without_nulls(part) for part in said]
    if not isinstance(said, dict):
        return said
    return {
        key: value if key in ("metadata", "headers") else _without_nulls(value)
        for key, value in said.items()
        if value is not None
    }


class _TransferRequest(RequestShape):
    """What is null is as good as left out."""

    @model_validator(mode="before")
    @classmethod
    def _null_says_nothing(cls, said: Any) -> Any:
        return _without_nulls(said)


class BlindTransferRequest(_TransferRequest):
    """The caller's carrier is asked to call somebody else."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "+12015551234", "ringingTimeout": 25}]})

    to: Target
    participant_identity: str | None = Field(None, max_length=200)
    play_dialtone: bool = False
    ringing_timeout: Seconds | None = None
    headers: ReferHeaders = Field(default_factory=dict)
    metadata: Record = Field(default_factory=dict)


class WarmTransferRequest(_TransferRequest):
    """A person is asked first; `to` or `destinations`, which are tried in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"destinations": [{"to": "+12015551234", "label": "Front desk"}], "ringingTimeout": 25}]
        }
    )

    to: E164 | None = None
    destinations: list[TransferDestination] | None = Field(None, min_length=1, max_length=10)
    from_: E164 | None = Field(None, alias="from")
    participant_identity: str | None = Field(None, max_length=200)
    outbound_trunk_id: str | None = Field(None, max_length=200)
    screening_prompt: Prompt | None = None
    summary: Prompt | None = None
    ringing_timeout: Seconds | None = None
    wait_until_answered: bool = False
    fallback: TransferFallback | None = None
    voicemail_detection: VoicemailDetection | None = None
    metadata: Record = Field(default_factory=dict)


class CompleteTransferRequest(_TransferRequest):
    """The person takes the caller."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"summary": "It is about invoice 7."}]})

    recipient_participant_identity: str | None = Field(None, max_length=200)
    summary: Prompt | None = None


class CancelTransferRequest(_TransferRequest):
    """The person does not take the caller."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "in_a_meeting", "tryNext": True}]})

    reason: str | None = Field(None, max_length=MOST_REASON_CHARS)
    summary: Prompt | None = None
    try_next: bool = False
    voicemail_detected: bool = False


class FallbackResult(SnakeShape):
    """What becomes of a caller nobody took."""

    action: Literal["return_to_assistant", "take_message", "end_call"]
    message: str
    take_message_prompt: str | None
    hold_audio_url: str | None
    voicemail_detected: bool


class CallTransferResponse(CallTransfer):
    """An attempt, those of the same transfer, and what follows a cancelled one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                TRANSFER_EXAMPLE | {"routing_attempts": [TRANSFER_EXAMPLE], "next_transfer": None, "fallback": None}
            ]
        }
    )

    routing_attempts: list[CallTransfer | None]
    next_transfer: CallTransfer | None
    fallback: FallbackResult | None


def transfers_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/calls/{call_id}/transfers", tags=["calls"])
    live_only = errors(404, 409, 501)

    @router.post("/blind", status_code=201, responses=live_only)
    async def transfer_blind(call_id: CallId, principal: Operator, body: BlindTransferRequest) -> CallTransfer:
        """Have the caller's carrier call somebody else; the row says what came of it."""
        given = body.model_dump(exclude_none=True, exclude={"to", "participant_identity"})
        plan = _plan(kind=TransferKind.BLIND, destinations=[TransferDestination(to=body.to)], **given)
        answer = await _begin(backend, principal, call_id, plan, body.participant_identity)
        return CallTransfer.model_validate(_wire(answer.row))

    @router.post("/warm", status_code=201, responses=live_only)
    async def transfer_warm(call_id: CallId, principal: Operator, body: WarmTransferRequest) -> CallTransferResponse:
        """Ask one person after another whether they take the caller, who waits with music meanwhile."""
        if (body.to is None) == (body.destinations is None):
            raise ApiError(400, "VALIDATION_ERROR", "Give either to or destinations.", retryable=False)
        destinations = body.destinations or [TransferDestination(to=body.to or "")]
        given = body.model_dump(
            exclude_none=True, exclude={"to", "destinations", "participant_identity", "wait_until_answered"}
        )
        plan = _plan(kind=TransferKind.WARM, destinations=destinations, **given)
        answer = await _begin(backend, principal, call_id, plan, body.participant_identity)
        if body.wait_until_answered and answer.row is not None:
            attempts = await _once_answered(backend, call_id, answer.row, plan)
            answer = answer.model_copy(update={"row": attempts[-1], "attempts": attempts})
        return _response(answer)

    @router.post("/{transfer_id}/complete", responses=live_only)
    async def complete_transfer(
        call_id: CallId, transfer_id: TransferId, principal: Operator, body: CompleteTransferRequest | None = None
    ) -> CallTransfer:
        """Say that the person who has picked up takes the caller: the two are joined."""
        asked = CompleteTransfer(
            transfer_id=transfer_id,
            recipient_identity=body.recipient_participant_identity if body else None,
            summary=body.summary if body else None,
        )
        answer = await _ask(backend, principal, call_id, COMPLETE, asked, "transfer.complete")
        return CallTransfer.model_validate(_wire(answer.row))

    @router.post("/{transfer_id}/cancel", responses=live_only)
    async def cancel_transfer(
        call_id: CallId, transfer_id: TransferId, principal: Operator, body: CancelTransferRequest | None = None
    ) -> CallTransferResponse:
        """Say that the person does not take the caller: the next one is tried, or the fallback runs."""
        said = body.model_dump() if body else {}
        answer = await _ask(
            backend, principal, call_id, CANCEL, CancelTransfer(transfer_id=transfer_id, **said), "transfer.cancel"
        )
        return _response(answer)

    return router


def _plan(**fields: Any) -> TransferPlan:
    try:
        return TransferPlan(**fields)
    except ValidationError as error:
        issues = issues_of(error.errors(include_url=False, include_input=False))
        raise ApiError(400, "VALIDATION_ERROR", "Invalid request", retryable=False, issues=issues) from None


async def _begin(
    backend: Backend, principal: Principal, call_id: str, plan: TransferPlan, identity: str | None
) -> TransferAnswer:
    asked = BeginTransfer(plan=plan, participant_identity=identity)
    return await _ask(backend, principal, call_id, BEGIN, asked, f"transfer.{plan.kind.value}")


async def _ask(
    backend: Backend, principal: Principal, call_id: str, method: str, asked: BaseModel, action: str
) -> TransferAnswer:
    payload = asked.model_dump_json(by_alias=True, exclude_none=True)
    if len(payload.encode()) > MAX_BYTES:
        raise ApiError(400, "VALIDATION_ERROR", "Prompts, summaries and metadata are too long together.")
    row = live_row(await noted_call(backend, principal, call_id, action))
    require_livekit(backend)
    said = await ask_live(backend, row, method, payload)
    try:
        answer = TransferAnswer.model_validate_json(said)
    except ValueError as error:
        raise unavailable("CALL_NOT_REACHED", "The call gives an answer nobody here understands.") from error
    if answer.code:
        status = _STATUS.get(answer.code, 409)
        later = {"retry-after": "60"} if status == 429 else None
        raise ApiError(status, answer.code, answer.message, retryable=status == 429, headers=later)
    return answer


async def _once_answered(backend: Backend, call_id: str, first: Record, plan: TransferPlan) -> list[Record]:
    """Return the attempts once somebody has picked up or nobody will, or as they are when the waiting is over."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + min(plan.ringing_timeout * len(plan.destinations), LONGEST_WAIT_SECONDS)
    attempts, not_reached = [first], deadline
    while clock() < min(deadline, not_reached):
        await asyncio.sleep(0.2)
        async with backend.control.reading() as connection:
            known = await call_transfers(connection, call_id)
        attempts = [row for row in known if row["created_at"] >= _time(first["created_at"])] or attempts
        status = attempts[-1]["status"]
        if status == "failed" and len(attempts) < len(plan.destinations):
            # the row of the next one is there a moment later, unless there is no next one
            not_reached = min(not_reached, clock() + NEXT_SECONDS)
        elif status == "requested":
            not_reached = deadline
        else:
            break
    return attempts


def _response(answer: TransferAnswer) -> CallTransferResponse:
    return CallTransferResponse.model_validate(
        {
            **_wire(answer.row),
            "routing_attempts": [_wire(row) for row in answer.attempts],
            "next_transfer": _wire(answer.following) if answer.following else None,
            "fallback": answer.fallback,
        }
    )


def _wire(row: Record | None) -> Record:
    assert row is not None
    return {**row, **{name: _time(row[name]) for name in ("created_at", "updated_at", "completed_at")}}


def _time(written: str | None) -> str | None:
    return wire_time(datetime.fromisoformat(written)) if written else None
