"""Facts: what happened on a call, in the order it happened, each with an id so that a second delivery is harmless.

A worker appends facts to the call's journal, one JSON object a line; the control plane applies them.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from agent_worker.domain.call import CallStatus, Direction, DisconnectionReason
from agent_worker.domain.transfer import TransferKind, TransferStatus

EventProvider = Literal["livekit", "speko", "telnyx"]
TranscriptSource = Literal["user", "agent", "system"]
LatencyStatus = Literal["partial", "complete", "interrupted", "error"]
RecordingStatus = Literal["pending", "uploading", "ready", "failed", "suppressed"]


class _Fact(BaseModel):
    """What all facts have.

    Attributes:
        id: `<call_id>:<sequence number>`; applying the same id twice changes nothing.
        at: when it happened, aware, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    call_id: str
    at: datetime


class CallOpened(_Fact):
    """The call exists: first fact of every journal."""

    kind: Literal["call_opened"] = "call_opened"
    organization_id: str
    direction: Direction
    room_name: str
    status: CallStatus = CallStatus.CONNECTING
    caller_number: str | None = None
    dialed_number: str | None = None
    worker_id: str | None = None
    job_id: str | None = None


class CallPlanned(_Fact):
    """It is known who takes the call and how that agent is configured, or that nobody does."""

    kind: Literal["call_planned"] = "call_planned"
    agent_id: str | None = None
    language: str = "en"
    pipeline_config: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class CallAnswered(_Fact):
    """The line is open both ways: status `active`, and the clock of the duration starts."""

    kind: Literal["call_answered"] = "call_answered"


class EventOccurred(_Fact):
    """One row of the call's event list (contract 2.5)."""

    kind: Literal["event"] = "event"
    event_type: str
    provider: EventProvider = "speko"
    status: str | None = None
    failure_cause: str | None = None
    sip_status_code: int | None = None
    sip_status: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)


class TranscriptSpoken(_Fact):
    """One entry of the transcript; a later fact with the same `index` replaces it (latencies arrive late).

    Attributes:
        index: position in the transcript, from 0.
        started_at, ended_at: when the words were spoken, aware, UTC.
        eou_ms: the person stopped speaking -> their turn was taken as complete.
        llm_ttft_ms: request -> first token.
        tts_ttfb_ms: first text -> first audio.
        conversational_latency_ms: the person stopped speaking -> the agent was heard.
    """

    kind: Literal["transcript"] = "transcript"
    index: int
    source: TranscriptSource
    text: str
    started_at: datetime
    ended_at: datetime | None = None
    provider: str | None = None
    model: str | None = None
    eou_ms: float | None = None
    llm_ttft_ms: float | None = None
    tts_ttfb_ms: float | None = None
    conversational_latency_ms: float | None = None
    latency_status: LatencyStatus | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


UsageMetric = Literal[
    "stt_seconds",
    "llm_input_tokens",
    "llm_cached_tokens",
    "llm_output_tokens",
    "tts_characters",
    "telephony_seconds",
    "recording_seconds",
]


class UsageLine(BaseModel):
    """How much of one metric one provider's model has been used on this call so far."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    provider: str
    model: str | None = None
    metric: UsageMetric
    quantity: float


class UsageCounted(_Fact):
    """All usage of the call up to now; replaces what was counted before."""

    kind: Literal["usage"] = "usage"
    lines: list[UsageLine]


class RecordingChanged(_Fact):
    """Where the recording stands; what is written whole is `uploading` until the control plane has it in the store.

    Attributes:
        path: where the file is on the worker's disk, None before it is written.
    """

    kind: Literal["recording"] = "recording"
    status: RecordingStatus
    path: str | None = None
    duration_ms: int | None = None
    detail: str | None = None


class TransferChanged(_Fact):
    """Where one attempt to put the caller through stands; a later fact of the same attempt replaces it."""

    kind: Literal["transfer"] = "transfer"
    transfer_id: str
    transfer_kind: TransferKind
    status: TransferStatus
    transfer_to: str
    from_room_name: str | None = None
    consultation_room_name: str | None = None
    caller_participant_identity: str | None = None
    recipient_participant_identity: str | None = None
    outbound_trunk_id: str | None = None
    screening_prompt: str | None = None
    summary: str | None = None
    failure_cause: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime
    completed_at: datetime | None = None


class DataCollected(_Fact):
    """All the agent's tools have collected so far; it reaches the report with the call's end, whoever writes that."""

    kind: Literal["data_collected"] = "data_collected"
    structured_data: dict[str, Any]


class CallEnded(_Fact):
    """The call is over: last fact of every journal.

    Attributes:
        structured_data: what the agent's tools collected, for the report.
    """

    kind: Literal["call_ended"] = "call_ended"
    disconnection_reason: DisconnectionReason
    failure_cause: str | None = None
    sip_status_code: int | None = None
    sip_status: str | None = None
    structured_data: dict[str, Any] = Field(default_factory=dict)


Fact = Annotated[
    CallOpened
    | CallPlanned
    | CallAnswered
    | EventOccurred
    | TranscriptSpoken
    | UsageCounted
    | RecordingChanged
    | TransferChanged
    | DataCollected
    | CallEnded,
    Field(discriminator="kind"),
]

_ADAPTER: TypeAdapter[Fact] = TypeAdapter(Fact)


def encode(fact: Fact) -> bytes:
    """Return the fact as one line of a journal, newline included."""
    try:
        return fact.model_dump_json(exclude_none=True).encode() + b"\n"
    except PydanticSerializationError:
        # half a surrogate pair, from a model that streams an emoji in two pieces: a fact is worth more than a letter
        plain = json.dumps(fact.model_dump(exclude_none=True), ensure_ascii=False, default=_wire)
        return plain.encode("utf-8", "replace") + b"\n"


def _wire(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def decode(line: bytes) -> Fact:
    """Return the fact a journal line holds.

    Raises:
        pydantic.ValidationError: the line is not a fact (a torn last line of a killed process, for example).
    """
    return _ADAPTER.validate_json(line)
