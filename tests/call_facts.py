"""Builds the facts of a call, the way a journal holds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from agent_worker.domain.call import Direction, DisconnectionReason
from agent_worker.domain.fact import (
    CallAnswered,
    CallEnded,
    CallOpened,
    CallPlanned,
    EventOccurred,
    Fact,
    RecordingChanged,
    TranscriptSpoken,
    UsageCounted,
    UsageLine,
)

START = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
FactT = TypeVar("FactT", bound=Fact)


class CallStory:
    """Facts of one call with ids and times that follow on one another, a second apart."""

    def __init__(self, call_id: str = "call-1", *, start: datetime = START, organization: str = "org_local") -> None:
        self.call_id = call_id
        self.start = start
        self.organization = organization
        self.facts: list[Fact] = []

    def add(self, kind: type[FactT], **fields: Any) -> FactT:
        number = len(self.facts)
        fields.setdefault("at", self.start + timedelta(seconds=number))
        fact = kind(id=f"{self.call_id}:{number}", call_id=self.call_id, **fields)
        self.facts.append(fact)
        return fact

    def opened(self, **fields: Any) -> CallOpened:
        """Add the call's first two facts: that it exists, and who takes it; returns the first."""
        plan = {name: fields.pop(name) for name in CallPlanned.model_fields if name in fields and name != "at"}
        opened = self.add(
            CallOpened,
            **{
                "organization_id": self.organization,
                "direction": Direction.INBOUND,
                "room_name": f"room-{self.call_id}",
                "caller_number": "+12015550101",
                "dialed_number": "+12015550199",
                **fields,
            },
        )
        self.planned(**plan)
        return opened

    def planned(self, **fields: Any) -> CallPlanned:
        plan = {"agent_id": "front-desk", "pipeline_config": {"kind": "cascade"}, "metadata": {"customerId": "c1"}}
        return self.add(CallPlanned, **{**plan, **fields})

    def said(self, index: int, source: str, text: str, **fields: Any) -> TranscriptSpoken:
        at = self.start + timedelta(seconds=len(self.facts))
        return self.add(TranscriptSpoken, index=index, source=source, text=text, started_at=at, **fields)

    def ended(self, reason: DisconnectionReason = DisconnectionReason.USER_HANGUP, **fields: Any) -> CallEnded:
        return self.add(CallEnded, disconnection_reason=reason, **fields)


def whole_call(call_id: str = "call-1", **options: Any) -> CallStory:
    """Return a call with every kind of fact in it."""
    story = CallStory(call_id, **options)
    story.opened()
    story.add(EventOccurred, event_type="call.initiated", status="connecting")
    story.add(RecordingChanged, status="pending", path="recording.ogg")
    story.add(CallAnswered)
    story.add(EventOccurred, event_type="call.answered", status="active", payload={"ringing_ms": 900})
    story.said(0, "agent", "Good morning.")
    story.said(1, "user", "Hello, it's Maya.")
    story.said(1, "user", "Hello, it's Maya.", eou_ms=310.0, latency_status="partial")
    story.said(2, "agent", "Hi Maya.", llm_ttft_ms=350.0, tts_ttfb_ms=150.0, conversational_latency_ms=1200.0)
    story.add(UsageCounted, lines=[UsageLine(provider="deepgram", model="nova-3", metric="stt_seconds", quantity=3)])
    story.add(
        UsageCounted,
        lines=[
            UsageLine(provider="deepgram", model="nova-3", metric="stt_seconds", quantity=9.5),
            UsageLine(provider="cartesia", model="sonic-3", metric="tts_characters", quantity=40),
        ],
    )
    story.add(RecordingChanged, status="ready", path="recording.ogg", duration_ms=9_000)
    story.add(EventOccurred, event_type="call.hangup", status="ended", sip_status_code=200, sip_status="OK")
    story.ended(sip_status_code=200, sip_status="OK", structured_data={"message": {"name": "Maya"}})
    return story
