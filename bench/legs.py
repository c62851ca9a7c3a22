"""Takes a turn apart: how long each part of the way from the caller's mouth back to the caller's ear took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.calls import Turn

LEGS = (
    "phone to worker",
    "speech to text",
    "hand-off",
    "first token",
    "first sentence",
    "first audio",
    "worker to phone",
)
"""In their order. Speech to text, first token and first audio are the stand-ins' own delays."""

Entry = dict[str, Any]


def legs(turn: Turn, log: Sequence[Entry]) -> dict[str, float] | None:
    """Return seconds per leg, or None when the log does not show the whole way of this turn.

    The log may hold one call at a time only. A worker may ask the model before the transcript is final: then
    the hand-off is negative.
    """
    if turn.heard_at is None:
        return None
    window = [entry for entry in log if turn.spoke_at <= entry["at"] <= turn.heard_at]
    final = _last(window, "final", turn.exchange.line)
    token = _last(window, "first_token", turn.exchange.reply)
    if final is None or token is None:
        return None
    ended = _last([e for e in window if e["at"] <= final["at"]], "speech_ended")
    asked = _last([e for e in window if e["connection"] == token["connection"]], "request")
    text = _spoken(window, turn.exchange.reply)
    if ended is None or asked is None or text is None:
        return None
    audio = _last([e for e in window if e["connection"] == text["connection"]], "first_audio")
    if audio is None:
        return None
    stations = [
        turn.stopped_at,
        ended["at"],
        final["at"],
        asked["at"],
        token["at"],
        text["at"],
        audio["at"],
        turn.heard_at,
    ]
    return {name: after - before for name, before, after in zip(LEGS, stations, stations[1:], strict=False)}


def _last(entries: Sequence[Entry], kind: str, text: str | None = None) -> Entry | None:
    for entry in reversed(entries):
        if entry["kind"] == kind and (text is None or entry["text"] == text):
            return entry
    return None


def _spoken(entries: Sequence[Entry], reply: str) -> Entry | None:
    for entry in reversed(entries):
        if entry["kind"] == "first_text" and entry["text"] and reply.startswith(entry["text"]):
            return entry
    return None
