"""Keys that are accepted, kept and shown, and change nothing yet: an operator who sets one is told so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INACTIVE: Mapping[str, str] = {
    "runMode": "speech-to-speech models are not used yet; the call is held by recogniser, model and voice",
    "backgroundAudio.ambient": "nothing is mixed under the call yet",
    "backgroundAudio.toolSound": "nothing is played while a tool works yet",
    "turnHandling.profile": "every call is conversational so far",
    "turnHandling.contextThreshold": "the end of a turn is judged by sound alone",
    "turnHandling.greetFirst": "for outbound calls, which are not placed yet",
    "turnHandling.onMachine": "for outbound calls, which are not placed yet",
    "turnHandling.vad": "AGENT_WORKER_VAD chooses the detector for all agents",
    "turnHandling.noiseCancellation": "no audio is cleaned",
    "telephony.region": "kept with the call; LiveKit chooses the way",
    "telephony.amd": "for outbound calls, which are not placed yet",
    "intent.region": "kept with the call",
    "sttOptions.workload": "no recogniser here has such a setting",
    "sttOptions.speakersExpected": "recognisers tell voices apart without being told how many there are",
    "sttOptions.wordTimestamps": "recognisers that have them always give them",
    "ttsOptions.workload": "no voice here has such a setting",
    "ttsOptions.sampleRate": "a line has 16,000 Hz; what differs is resampled",
    "toolSecrets": "for webhook tools, which are not called yet",
    "endCall": "give the agent the tool end_call instead",
}
"""Dotted key, as provenance names it -> why nothing follows from it."""

INACTIVE_OF_TOOLS: Mapping[str, str] = {
    "parameters": "for webhook tools, which are not called yet; a function's own arguments are asked for",
    "preToolSpeech": "nothing is said before a tool runs; fallbacks.hold is said where one takes long",
    "toolSound": "nothing is played while a tool works yet",
    "simulation": "a function runs in a simulated call as in a real one",
}
"""Key of a tool -> the same."""


def inactive_keys(values: Mapping[str, Any], provenance: Mapping[str, str]) -> dict[str, str]:
    """Return, for each key that somebody has set and that changes nothing yet, why.

    Args:
        values: the values in force.
        provenance: the layer of each, as `resolve` returns it.
    """
    found: dict[str, str] = {}
    for key, origin in provenance.items():
        reason = INACTIVE.get(key) or INACTIVE.get(key.split(".")[0])
        if reason and origin != "default" and _value(values, key) not in (None, [], {}, "cascade"):
            found[key] = reason
    providers = _value(values, "stackPreferences.allowedProviders")
    if isinstance(providers, Mapping) and providers.get("s2s"):
        found["stackPreferences.allowedProviders.s2s"] = INACTIVE["runMode"]
    for tool in values.get("tools") or []:
        kind = (tool.get("source") or {}).get("kind", tool.get("executionMode") or "builtin")
        if kind != "builtin":
            found[f"tools.{tool.get('name')}"] = f"tools of kind {kind} are not called yet"
        for key, reason in INACTIVE_OF_TOOLS.items():
            if tool.get(key) not in (None, {}, "auto"):
                found[f"tools.{tool.get('name')}.{key}"] = reason
    return found


def _value(values: Mapping[str, Any], dotted: str) -> Any:
    key, _, inner = dotted.partition(".")
    value = values.get(key)
    if not inner:
        return value
    return value.get(inner) if isinstance(value, Mapping) else None
