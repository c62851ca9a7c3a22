"""What a person is told of a call they are asked to take."""

from __future__ import annotations

from typing import Any

from livekit.agents.llm import ChatMessage

from agent_worker.call.live_call import LiveCall
from agent_worker.call.transfer.attempt import Attempt
from agent_worker.call.transfer.screening import Briefing

PLAIN = (
    "You are on the telephone with a colleague; a caller waits on another line. Say who is calling and what they want, "
    "from what stands below, and ask whether they take the call. Use accept_transfer once they have agreed in their "
    "own words, decline_transfer when they do not, voicemail_detected when a machine answers."
)
"""The screening agent's instructions where there is no prompt `screening`."""

MOST_LINES = 40
MOST_CHARS = 6_000


def briefing_of(call: LiveCall, attempt: Attempt, instructions: str) -> Briefing:
    """Return it for this attempt: whose call, what for, what was said and collected.

    Args:
        instructions: the screening agent's own, which everything else stands below.
    """
    plan, destination = attempt.plan, attempt.destination
    asked = destination.screening_prompt or plan.screening_prompt
    summary = destination.summary or plan.summary or plan.reason
    collected = _collected(call.structured_data)
    parts = [instructions]
    if asked:
        parts.append(f"How to ask: {asked}")
    parts.append(f"Summary: {summary or 'none was made; take it from the conversation'}")
    if collected:
        parts.append(f"Collected: {collected}")
    parts.append("The conversation so far:\n" + _conversation(call))
    spoken = (
        f"Hello. I have a caller on the line for you. {summary or ''} Press one to take the call, or two to decline."
    )
    return Briefing("\n\n".join(parts), " ".join(spoken.split()))


def _conversation(call: LiveCall) -> str:
    lines = [
        f"{'Caller' if item.role == 'user' else 'Agent'}: {item.text_content}"
        for item in call.session.history.items
        if isinstance(item, ChatMessage) and item.role in ("user", "assistant") and item.text_content
    ]
    return "\n".join(lines[-MOST_LINES:])[-MOST_CHARS:] or "(nothing yet)"


def _collected(data: dict[str, Any]) -> str:
    shown = {name: value for name, value in data.items() if name != "transfer_requested"}
    return ", ".join(f"{name}: {value}" for name, value in shown.items())[:MOST_CHARS]
