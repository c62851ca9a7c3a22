"""What a call has used of its providers, as usage lines."""

from __future__ import annotations

from livekit.agents import AgentSession

from agent_worker.domain.fact import UsageLine, UsageMetric
from agent_worker.providers.registry import Stack

_METRICS: dict[str, dict[str, UsageMetric]] = {
    "stt_usage": {"audio_duration": "stt_seconds"},
    "llm_usage": {
        "input_tokens": "llm_input_tokens",
        "input_cached_tokens": "llm_cached_tokens",
        "output_tokens": "llm_output_tokens",
    },
    "tts_usage": {"characters_count": "tts_characters"},
}


def usage(session: AgentSession[None], stack: Stack) -> list[UsageLine]:
    """Return what was used, under the names agent files and price tables know the providers by."""
    labels = {"stt_usage": stack.stt_label, "llm_usage": stack.llm_label, "tts_usage": stack.tts_label}
    return [
        UsageLine(
            provider=labels[used.type].provider,
            model=labels[used.type].model,
            metric=metric,
            quantity=quantity,
        )
        for used in session.usage.model_usage
        for attribute, metric in _METRICS.get(used.type, {}).items()
        if (quantity := getattr(used, attribute))
    ]
