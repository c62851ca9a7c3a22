"""The official client's models and ours: what it can send, we take, under the same names."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from spekoai import models

from agent_worker.config.overrides import read_overrides
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.lifecycle_hook import ExtractionField, LifecycleHook, LifecycleHooks
from agent_worker.domain.number import NumberConfig
from agent_worker.domain.speech import (
    AmbientSound,
    AudioOutput,
    BackgroundAudio,
    SpeechNormalization,
    SttOptions,
    ToolSound,
)
from agent_worker.domain.tool_ref import ToolRef, WebhookSource
from agent_worker.domain.turns import Endpointing, Interruption, NoiseCancellation, TurnHandling, VoiceActivity

PAIRS: list[tuple[type[BaseModel], type[BaseModel], set[str]]] = [
    (models.AgentCreateParams, AgentConfig, set()),
    (models.AgentUpdateParams, AgentConfig, set()),
    (models.AgentSttOptions, SttOptions, set()),
    (models.AgentAmbientAudio, AmbientSound, set()),
    (models.AgentToolCallSound, ToolSound, set()),
    (models.AgentBackgroundAudio, BackgroundAudio, set()),
    (models.AgentAudioOutput, AudioOutput, set()),
    (models.AgentSpeechNormalization, SpeechNormalization, set()),
    (models.AgentExtractionField, ExtractionField, set()),
    (models.AgentLifecycleWebhookCreate, LifecycleHook, set()),
    (models.AgentWebhooksCreate, LifecycleHooks, set()),
    (models.TurnHandling, TurnHandling, set()),
    (models.TurnHandlingEndpointing, Endpointing, set()),
    (models.TurnHandlingInterruption, Interruption, set()),
    (models.TurnHandlingVad, VoiceActivity, set()),
    (models.TurnHandlingNoiseCancellation, NoiseCancellation, set()),
    (models.AgentToolCreateParams, ToolRef, set()),
    (models.ChatTool, ToolRef, set()),
    (models.AgentToolSourceWebhookCreate, WebhookSource, set()),
    # the installation of a hosted platform is a SIP connection here, under its own name
    (
        models.PhoneNumberImportSipTrunkParams,
        NumberConfig,
        {"sipConnectionInstallationId", "sipTrunkId", "sipProviderName"},
    ),
]


def wire_keys(model: type[BaseModel]) -> set[str]:
    """The keys of a model as they are on the wire."""
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(("theirs", "ours", "apart"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_key_the_client_sends_is_ours(theirs: type[BaseModel], ours: type[BaseModel], apart: set[str]) -> None:
    """No field of the client is refused for its name."""
    assert wire_keys(theirs) - wire_keys(ours) == apart


def test_what_the_client_dials_with_is_taken() -> None:
    """A dial's body, as the client writes it, is read without anything wrong or unknown."""
    dial = models.VoiceDialParams(
        to="+12015550123",
        agent_id="agent_1",
        intent=models.RoutingIntent(language="es-MX", optimize_for="latency", region="us-east4"),
        constraints=models.PipelineConstraints(allowed_providers=models.AllowedProviders(tts=["cartesia"])),
        voice="alto",
        system_prompt="Be kind.",
        first_message="Hello.",
        variables={"name": "Maya"},
        tool_secrets={"crm": "abcdef"},
        llm=models.VoiceDialLlmOptions(temperature=0.4, max_tokens=100),
        tts_options=models.VoiceDialTtsOptions(sample_rate=24_000, speed=1.1),
        stt_options=models.SttOptions(keywords=["Acme"], language="es", prompt="A clinic."),
        max_duration_seconds=600,
        turn_handling=models.TurnHandling(greet_first=False, turn_detection="stt", profile="ivr"),
        telephony=models.TelephonyOptions(region="us", amd=models.TelephonyAmd(mode="agent", timeout_seconds=8.0)),
        webhook_tags={"tenant": "a"},
        metadata={"lead": 1},
    )
    body: dict[str, Any] = dial.model_dump(mode="json", by_alias=True, exclude_none=True)
    configured = {key: value for key, value in body.items() if key not in ("to", "agentId")}

    read = read_overrides(configured, "per_call")

    assert (read.wrong, read.unknown, read.ignored) == ({}, {}, [])
    assert read.values["llmOptions"] == {"temperature": 0.4, "maxTokens": 100}
    assert read.values["telephony"] == {"region": "us", "amd": {"mode": "agent", "timeoutSeconds": 8}}
