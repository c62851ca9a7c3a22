"""What a call has used of its providers, as usage lines."""

from __future__ import annotations

from collections.abc import Iterable

from livekit.agents import AgentSession

from agent_worker.domain.fact import UsageLine, UsageMetric
from agent_worker.providers.stack import Stack
from agent_worker.providers.vendor import Layer

_LAYERS: dict[str, Layer] = {"stt_usage": "stt", "llm_usage": "llm", "tts_usage": "tts"}
_METRICS: dict[str, dict[str, UsageMetric]] = {
    "stt_usage": {"audio_duration": "stt_seconds"},
    "llm_usage": {
        "input_tokens": "llm_input_tokens",
        "input_cached_tokens": "llm_cached_tokens",
        "output_tokens": "llm_output_tokens",
    },
    "tts_usage": {"characters_count": "tts_characters"},
}

_Key = tuple[str, str | None, UsageMetric]


def usage(session: AgentSession[None], stack: Stack) -> list[UsageLine]:
    """Return what was used of each provider, under the names agent files and price tables know them by."""
    amounts: dict[_Key, float] = {}
    for used in session.usage.model_usage:
        for attribute, metric in _METRICS.get(used.type, {}).items():
            if quantity := getattr(used, attribute):
                label = stack.chain(_LAYERS[used.type]).label_of(used.provider, used.model)
                key = (label.provider, label.model, metric)
                amounts[key] = amounts.get(key, 0) + quantity
    return _lines(amounts)


def added_up(lines: Iterable[UsageLine]) -> list[UsageLine]:
    """Return the lines of several conversations as those of one call."""
    amounts: dict[_Key, float] = {}
    for line in lines:
        key = (line.provider, line.model, line.metric)
        amounts[key] = amounts.get(key, 0) + line.quantity
    return _lines(amounts)


def _lines(amounts: dict[_Key, float]) -> list[UsageLine]:
    return [
        UsageLine(provider=provider, model=model, metric=metric, quantity=quantity)
        for (provider, model, metric), quantity in amounts.items()
    ]
