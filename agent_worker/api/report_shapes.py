"""The contract's CallReport and what is in it (7.3), typed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from agent_worker.api.shapes import CamelShape, Moment, RequestShape, SnakeShape

CALL_ID = "7b0c1f0e-5d0a-4f43-9c39-6d5c2f0a8e11"
_AT = "2026-03-02T09:31:05.000000Z"

ENTRY_EXAMPLE: dict[str, Any] = {
    "id": f"{CALL_ID}:1",
    "index": 1,
    "source": "user",
    "text": "Can somebody call me back tomorrow at three?",
    "started_at": "2026-03-02T09:30:12.000000Z",
    "ended_at": "2026-03-02T09:30:15.000000Z",
    "provider": "deepgram",
    "model": "nova-3",
    "metadata": {},
    "eou_ms": 310.0,
    "llm_ttft_ms": None,
    "tts_ttfb_ms": None,
    "conversational_latency_ms": None,
    "latency_status": None,
}

REPORT_EXAMPLE: dict[str, Any] = {
    "session_id": CALL_ID,
    "organization_id": "org_local",
    "summary": "Maya asked to be called back about a repair. The agent promised a call tomorrow at three.",
    "outcome": "callback_scheduled",
    "structured_data": {"item": "bicycle"},
    "custom_data": {"urgent": False},
    "transcript": {"entries": [ENTRY_EXAMPLE]},
    "cost_micro_usd": "4717",
    "cost_breakdown": [
        {
            "provider": "deepgram",
            "model": "nova-3",
            "metric": "stt_seconds",
            "quantity": 65.8,
            "keySource": "BYOK",
            "costMicroUsd": "4717",
        }
    ],
    "artifacts": {
        "recording": {
            "status": "ready",
            "duration_ms": 65_000,
            "resource_uri": f"/v1/calls/{CALL_ID}/recording",
        }
    },
    "metadata": {"direction": "inbound"},
    "scheduled_callback": {
        "id": "cb_5d7963c4f471e142f5a72214a9666fb1",
        "scheduled_at": "2026-03-03T15:00:00+01:00",
        "timezone": "Europe/Berlin",
        "when_said": "tomorrow at three",
        "reason": "To talk about a repair.",
    },
    "voicemail": None,
    "analysis_status": "completed",
    "analysis_provider": "openai",
    "analysis_model": "gpt-4.1-mini",
    "analysis_error": None,
    "analysis_completed_at": _AT,
    "customer_name": "Maya",
    "customer_request": "A call back about a repair.",
    "general_success": True,
    "final_score": 8,
    "score_reason": "The agent understood at once and agreed a time.",
    "disconnection_reason": "user_hangup",
    "latency": {"eou_ms": {"average": 310.0, "p50": 310.0, "p95": 310.0, "turns": 1}},
    "average_transcriber_latency": 310.0,
    "average_agent_latency": None,
    "average_synthesizer_latency": None,
    "unpriced": [],
    "post_call_webhook_status": "delivered",
    "post_call_webhook_attempts": 1,
    "post_call_webhook_next_retry_at": None,
    "post_call_webhook_delivered_at": _AT,
    "post_call_webhook_error": None,
    "webhook_deliveries": [
        {
            "endpointId": "whe_1",
            "deliveryId": "dlv_1",
            "eventId": "evt_1",
            "delivered": True,
            "status": 200,
            "error": None,
            "createdAt": _AT,
        }
    ],
    "created_at": "2026-03-02T09:31:04.000000Z",
    "updated_at": _AT,
}


class TranscriptEntry(SnakeShape):
    """One turn. `metadata.toolCalls` lists the tools the agent used, each `{name, args}`, `args` a JSON string."""

    model_config = ConfigDict(json_schema_extra={"examples": [ENTRY_EXAMPLE]})

    id: str
    index: int
    source: Literal["user", "agent", "system"]
    text: str
    started_at: Moment
    ended_at: Moment | None
    provider: str | None
    model: str | None
    metadata: dict[str, Any]
    eou_ms: float | None
    llm_ttft_ms: float | None
    tts_ttfb_ms: float | None
    conversational_latency_ms: float | None
    latency_status: Literal["partial", "complete", "interrupted", "error"] | None


class Transcript(SnakeShape):
    """Who said what, in order."""

    entries: list[TranscriptEntry]


class CostLine(CamelShape):
    """What was used of one metric of one provider, and its price."""

    provider: str
    model: str | None
    metric: str
    quantity: float
    key_source: Literal["BYOK", "MANAGED"]
    cost_micro_usd: str = Field(description="Whole millionths of a dollar, a decimal string.")


class Unpriced(SnakeShape):
    """Something that was used and that the price file has no price for."""

    provider: str
    model: str | None
    metric: str


class Leg(SnakeShape):
    """One leg of the agent's turns, ms."""

    average: float | None = None
    p50: float
    p95: float
    turns: int


class ReportDelivery(CamelShape):
    """A delivery of `call.report`."""

    endpoint_id: str
    delivery_id: str
    event_id: str
    delivered: bool
    status: int | None
    error: str | None
    created_at: Moment


class Voicemail(SnakeShape):
    """What is known of a machine that answered."""

    detected: bool
    amd_verdict: str | None
    delivery: (
        Literal["delivered", "missing_message", "greeting_timeout", "playout_failed", "call_ended", "not_attempted"]
        | None
    )


class ScheduledCallbackNote(SnakeShape):
    """The callback that was asked for; `id` is null where none could be scheduled, for want of a time or a number."""

    id: str | None
    scheduled_at: str | None = Field(description="ISO 8601 with the offset of `timezone`.")
    timezone: str
    when_said: str | None
    reason: str | None


class CallReport(SnakeShape):
    """What came of a call: facts at once, a model's reading of the conversation soon after."""

    model_config = ConfigDict(json_schema_extra={"examples": [REPORT_EXAMPLE]})

    session_id: str
    organization_id: str
    summary: str
    outcome: str
    structured_data: dict[str, Any]
    custom_data: dict[str, Any]
    transcript: Transcript
    cost_micro_usd: str
    cost_breakdown: list[CostLine]
    artifacts: dict[str, Any]
    metadata: dict[str, Any]
    scheduled_callback: ScheduledCallbackNote | None
    voicemail: Voicemail | None
    analysis_status: Literal["heuristic", "completed", "failed"]
    analysis_provider: str | None
    analysis_model: str | None
    analysis_error: str | None
    analysis_completed_at: Moment | None
    customer_name: str | None
    customer_request: str | None
    general_success: bool | None
    final_score: int | None = Field(ge=1, le=10)
    score_reason: str | None
    disconnection_reason: str | None
    latency: dict[str, Leg]
    average_transcriber_latency: float | None
    average_agent_latency: float | None
    average_synthesizer_latency: float | None
    unpriced: list[Unpriced]
    post_call_webhook_status: Literal["not_configured", "pending", "delivered", "failed"]
    post_call_webhook_attempts: int
    post_call_webhook_next_retry_at: Moment | None
    post_call_webhook_delivered_at: Moment | None
    post_call_webhook_error: str | None
    webhook_deliveries: list[ReportDelivery]
    created_at: Moment
    updated_at: Moment


class FinalizeRequest(RequestShape):
    """What to do beside making the report."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"forceAnalysis": True}]})

    force_analysis: bool | None = Field(None, description="Have the call analysed once more, in the background.")
    retry_webhook: bool | None = Field(None, description="Send the report again to whoever has not taken it yet.")


class ReportWebhook(SnakeShape):
    """All deliveries of the report at once: the worst state is the state."""

    status: Literal["not_configured", "pending", "delivered", "failed"]
    attempts: int
    next_retry_at: Moment | None
    delivered_at: Moment | None
    error: str | None


_FINALIZED = ("session_id", "summary", "outcome", "cost_micro_usd", "analysis_status", "webhook_deliveries")


class FinalizeResult(SnakeShape):
    """The report as it is now, in short."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {name: REPORT_EXAMPLE[name] for name in _FINALIZED}
                | {
                    "analysis_pending": True,
                    "webhook": {
                        "status": "delivered",
                        "attempts": 1,
                        "next_retry_at": None,
                        "delivered_at": _AT,
                        "error": None,
                    },
                }
            ]
        }
    )

    session_id: str
    summary: str
    outcome: str
    cost_micro_usd: str
    analysis_status: Literal["heuristic", "completed", "failed"]
    analysis_pending: bool = Field(description="Whether an analysis is under way; GET the report again for it.")
    webhook: ReportWebhook
    webhook_deliveries: list[ReportDelivery]
