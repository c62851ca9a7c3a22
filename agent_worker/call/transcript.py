"""Writes who said what into the journal: at once, and again when the words or the latencies become exact."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from livekit.agents import (
    AgentSession,
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    UserInputTranscribedEvent,
)
from livekit.agents.llm import ChatMessage

from agent_worker.call.journal import Journal
from agent_worker.call.playout import Playout
from agent_worker.domain.fact import LatencyStatus, TranscriptSource, TranscriptSpoken
from agent_worker.providers.registry import Stack

MOST_TOOL_CALLS = 20
MOST_ARGUMENT_CHARS = 4_000
"""What is kept of the tools of one turn; longer arguments are left out."""


class TranscriptWriter:
    """Follows a session; each turn has one index, taken when its first words are known.

    A turn that is still in the making is written as `partial`, so that a killed process leaves what was said.
    """

    def __init__(self, journal: Journal, playout: Playout, stack: Stack) -> None:
        self._journal = journal
        self._playout = playout
        self._stack = stack
        self._next = 0
        self._open: dict[str, tuple[int, datetime]] = {}
        self._heard: list[str] = []
        self._last_user: dict[str, Any] = {}
        self._tool_calls: list[dict[str, str]] = []
        self._last: dict[str, Any] | None = None

    def attach(self, session: AgentSession[None]) -> None:
        """Follow the session's events."""
        session.on("user_input_transcribed", self._on_transcribed)
        session.on("conversation_item_added", self._on_item)
        session.on("function_tools_executed", self._on_tools)

    def announcement(self, text: str) -> None:
        """Write a sentence of ours that did not go through the conversation (an apology, a reprompt)."""
        self._finished(
            index=self._take(),
            source="agent",
            text=text,
            started_at=datetime.now(UTC),
            latency_status=None,
            metadata={"announcement": True, **self._tools_used()},
        )

    def close(self) -> None:
        """Write what is left to write: a sentence the end of the call cut off, and tools nothing was said after."""
        if cut := self._open.pop("agent", None):
            index, started = cut
            self._journal.write(
                TranscriptSpoken,
                index=index,
                source="agent",
                text=self._playout.text_heard(),
                started_at=started,
                ended_at=datetime.now(UTC),
                latency_status="interrupted",
                metadata={"interrupted": True},
            )
        if self._tool_calls and self._last is not None:
            known = self._last["metadata"].get("toolCalls", [])
            calls = [*known, *self._tools_used()["toolCalls"]][:MOST_TOOL_CALLS]
            self._finished(**{**self._last, "metadata": {**self._last["metadata"], "toolCalls": calls}})

    def _finished(self, **fields: Any) -> None:
        self._last = fields
        self._journal.write(TranscriptSpoken, **fields)

    def _tools_used(self) -> dict[str, Any]:
        used, self._tool_calls = self._tool_calls[:MOST_TOOL_CALLS], []
        return {"toolCalls": used} if used else {}

    def _on_tools(self, event: FunctionToolsExecutedEvent) -> None:
        self._tool_calls += [{"name": call.name, "args": _arguments(call.arguments)} for call in event.function_calls]

    def overheard(
        self, source: TranscriptSource, text: str, started: datetime, ended: datetime, about: dict[str, Any]
    ) -> None:
        """Write what somebody said while the agent was not part of the conversation."""
        label = self._stack.stt_label
        self._journal.write(
            TranscriptSpoken,
            index=self._take(),
            source=source,
            text=text,
            started_at=started,
            ended_at=ended,
            provider=label.provider,
            model=label.model,
            metadata=about,
        )

    def _take(self) -> int:
        self._next += 1
        return self._next - 1

    def _begin(self, source: str) -> tuple[int, datetime]:
        if source not in self._open:
            self._open[source] = (self._take(), datetime.now(UTC))
        return self._open[source]

    def _on_transcribed(self, event: UserInputTranscribedEvent) -> None:
        if not event.is_final or not event.transcript.strip():
            return
        self._heard.append(event.transcript.strip())
        self._partial("user", " ".join(self._heard))

    def speaking(self) -> None:
        """The agent's next turn begins to be heard."""
        if left := self._open.pop("agent", None):
            # it was interrupted before a word of it was heard
            self._write_unheard(*left)
        if text := self._playout.text.full.strip():
            self._partial("agent", text)

    def _write_unheard(self, index: int, started: datetime) -> None:
        self._journal.write(
            TranscriptSpoken,
            index=index,
            source="agent",
            text="",
            started_at=started,
            latency_status="interrupted",
            metadata={"interrupted": True},
        )

    def _partial(self, source: str, text: str) -> None:
        index, started = self._begin(source)
        label = self._stack.stt_label if source == "user" else self._stack.tts_label
        self._journal.write(
            TranscriptSpoken,
            index=index,
            source=source,
            text=text,
            started_at=started,
            provider=label.provider,
            model=label.model,
            latency_status="partial",
            metadata={"partial": True},
        )

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if not isinstance(item, ChatMessage) or item.role not in ("user", "assistant"):
            return
        text = (item.text_content or "").strip()
        if not text:
            return
        source = "user" if item.role == "user" else "agent"
        index, started = self._begin(source)
        del self._open[source]
        if source == "user":
            self._heard.clear()
            self._last_user = dict(item.metrics)
        label = self._stack.stt_label if source == "user" else self._stack.tts_label
        started_at = item.metrics.get("started_speaking_at")
        ended_at = item.metrics.get("stopped_speaking_at")
        metadata: dict[str, Any] = {"interrupted": True} if item.interrupted else {}
        if source == "agent":
            metadata |= self._tools_used()
        self._finished(
            index=index,
            source=source,
            text=text,
            started_at=_moment(started_at) if started_at else started,
            ended_at=_moment(ended_at or time.time()),
            provider=label.provider,
            model=label.model,
            **self._latencies(item),
            metadata=metadata,
        )

    def _latencies(self, item: ChatMessage) -> dict[str, Any]:
        """Return the legs of this turn in ms; the end-of-turn leg of an answer is its question's."""
        user = item.metrics if item.role == "user" else self._last_user
        eou = _ms(user.get("end_of_turn_delay"))
        if item.role == "user":
            return {"eou_ms": eou}
        metrics = item.metrics
        legs = {
            "eou_ms": eou if "e2e_latency" in metrics else None,
            "llm_ttft_ms": _ms(metrics.get("llm_node_ttft")),
            "tts_ttfb_ms": _ms(metrics.get("tts_node_ttfb")),
            "conversational_latency_ms": _ms(metrics.get("e2e_latency")),
        }
        status: LatencyStatus = "complete" if all(v is not None for v in legs.values()) else "partial"
        return {**legs, "latency_status": "interrupted" if item.interrupted else status}


def _arguments(written: str) -> str:
    """Return what a model gave a tool, as a JSON object."""
    try:
        given = json.loads(written or "{}")
    except ValueError:
        given = None
    text = json.dumps(given, ensure_ascii=False) if isinstance(given, dict) else "{}"
    return text if len(text) <= MOST_ARGUMENT_CHARS else "{}"


def _ms(seconds: object) -> float | None:
    return round(seconds * 1000, 1) if isinstance(seconds, int | float) else None


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
