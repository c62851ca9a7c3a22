"""A call: its vocabulary, what is offered to the product, and what the product decides to do with it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from agent_worker.domain.agent import AgentConfig


class Direction(StrEnum):
    """Who dialled: the person (`inbound`) or us (`outbound`); contract 2.3."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class CallStatus(StrEnum):
    """Contract 2.1: `failed` only where the call could not be held or its worker died."""

    DIALING = "dialing"
    CONNECTING = "connecting"
    ACTIVE = "active"
    ENDED = "ended"
    FAILED = "failed"


class DisconnectionReason(StrEnum):
    """Why the call is over, on the call row as `metadata.disconnection_reason` (contract 2.6, superset)."""

    USER_HANGUP = "user_hangup"
    AGENT_HANGUP = "agent_hangup"
    CALL_TRANSFER = "call_transfer"
    CANCELLED = "cancelled"  # the caller gave up while it rang
    IDLE = "idle"  # the caller said nothing through the whole reprompt ladder
    MAX_DURATION = "max_duration"
    MEDIA_TIMEOUT = "media_timeout"  # the caller's audio stopped and the bridge gave up
    UNKNOWN_NUMBER = "unknown_number"
    REJECTED = "rejected"  # the pre-call webhook declined the call
    NOT_A_PHONE_CALL = "not_a_phone_call"
    CONFIG_ERROR = "config_error"
    STT_ERROR = "stt_error"
    LLM_ERROR = "llm_error"
    TTS_ERROR = "tts_error"
    WORKER_LOST = "worker_lost"
    WORKER_SHUTDOWN = "worker_shutdown"
    TIMEOUT = "timeout"
    DIAL_NO_ANSWER = "dial_no_answer"
    DIAL_BUSY = "dial_busy"
    DIAL_FAILED = "dial_failed"
    VOICEMAIL = "voicemail"
    ERROR = "error"


FAILED_REASONS = frozenset(
    {
        DisconnectionReason.CANCELLED,
        DisconnectionReason.UNKNOWN_NUMBER,
        DisconnectionReason.REJECTED,
        DisconnectionReason.NOT_A_PHONE_CALL,
        DisconnectionReason.CONFIG_ERROR,
        DisconnectionReason.WORKER_LOST,
        DisconnectionReason.DIAL_NO_ANSWER,
        DisconnectionReason.DIAL_BUSY,
        DisconnectionReason.DIAL_FAILED,
        DisconnectionReason.ERROR,
    }
)
"""Reasons with which a call is `failed`; with every other reason it is `ended`."""


def final_status(reason: DisconnectionReason) -> CallStatus:
    """Return `ended` or `failed`, the status a call is left with for this reason."""
    return CallStatus.FAILED if reason in FAILED_REASONS else CallStatus.ENDED


def new_call_id() -> str:
    """Return a new call id: a UUID, which is also the session id (contract 5.2)."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)


class CallOffer(BaseModel):
    """What is known of a call before anybody picks up.

    Attributes:
        caller_number: E.164 where it is a number, None where the caller is anonymous.
        dialed_number: E.164 number the caller dialled, None where the room says none.
        attributes: SIP attributes of the caller's participant, verbatim (`sip.*`).
        job_metadata: the object a dispatch rule or a dispatch request sent along.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    call_id: str
    direction: Direction
    room_name: str
    caller_number: str | None = None
    dialed_number: str | None = None
    caller_identity: str | None = None
    attributes: dict[str, str] = Field(default_factory=dict)
    job_metadata: dict[str, Any] = Field(default_factory=dict)


class PlanEvent(BaseModel):
    """Something that happened while the call was planned; the worker writes it among the call's events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_type: str
    status: str | None = None
    failure_cause: str | None = None
    payload: dict[str, Any] = Field(default_factory=dict)


class CallPlan(BaseModel):
    """The control plane's answer to an offer: take the call with this agent, so configured.

    Attributes:
        agent_id: id of the agent row, or the file's agent name; None where a number's template is the whole agent.
        agent: the configuration in force, its texts rendered; without the webhooks' secrets.
        pipeline_config: the effective configuration for the call row, camelCase, without secrets.
        provenance: for each key of `pipeline_config`, `intent.language` or `voice`, the layer it came from.
        events: what happened on the way here, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    organization_id: str
    agent_id: str | None
    agent: AgentConfig
    pipeline_config: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, str] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    events: tuple[PlanEvent, ...] = ()


class CallRefusal(BaseModel):
    """The control plane's answer where no agent may take the call.

    Attributes:
        sentence: what the caller is told before the line is closed; "" closes it while it rings.
        detail: one sentence for the operator, on the call row.
        voice: the agent whose voice says the sentence, where there is one.
        agent_id: the agent that would have taken the call, where there is one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    organization_id: str
    reason: DisconnectionReason
    sentence: str
    detail: str
    voice: AgentConfig | None = None
    agent_id: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    events: tuple[PlanEvent, ...] = ()
