"""Rendered sentences: found by what changes their sound, kept only in the agent's own voice, spoken within a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.utils import http_context

from agent_worker.call.gain import amplified
from agent_worker.call.services import CallServices
from agent_worker.call.speech_cache import SpeechCache, phrases
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import NO_PRESETS
from agent_worker.providers.registry import build_stack
from agent_worker.providers.stack import Stack
from agent_worker.settings import Settings
from agent_worker.testing.stand_ins import CartesiaStandIn

TEXT = "Hello."


def agent(**keys: Any) -> AgentConfig:
    allowed = {"stt": ["embedded"], "llm": ["embedded"], "tts": ["cartesia"]} | keys.pop("allowed", {})
    return AgentConfig.model_validate({"name": "a", "stackPreferences": {"allowedProviders": allowed}, **keys})


@pytest.fixture
async def voice() -> AsyncIterator[CartesiaStandIn]:
    http_context._new_session_ctx()
    async with CartesiaStandIn(delay_ms=10) as server:
        yield server
    await http_context._close_http_ctx()


def env_of(voice: CartesiaStandIn) -> dict[str, str]:
    return {"CARTESIA_API_KEY": "stand-in", "CARTESIA_BASE_URL": voice.base_url}


def stack_of(config: AgentConfig, voice: CartesiaStandIn) -> Stack:
    return build_stack(config, env_of(voice), NO_PRESETS)


async def test_a_sentence_is_found_by_what_changes_its_sound(tmp_path: Path, voice: CartesiaStandIn) -> None:
    """Voice, language, speed and wording make another sentence; prompt, tools, rate and level do not."""
    cache, base = SpeechCache(tmp_path), agent(voice="v")
    stack = stack_of(base, voice)
    label = stack.own_voice_label
    assert await cache.render(stack, base, TEXT)
    await stack.aclose()
    same: list[dict[str, Any]] = [
        {"systemPrompt": "x"},
        {"tools": ["end_call"]},
        {"audioOutput": {"gainDb": 6}},
        {"ttsOptions": {"sampleRate": 8_000, "workload": "w"}},
        {"speechNormalization": {"pronunciationDictionary": {"Goodbye": "Bye"}}},
    ]
    other: list[dict[str, Any]] = [
        {"voice": "w"},
        {"intent": {"language": "de"}},
        {"ttsOptions": {"speed": 1.2}},
        {"ttsOptions": {"providerOptions": {"volume": 1.5}}},
        {"speechNormalization": {"pronunciationDictionary": {"hello": "Hallo"}}},
    ]
    assert all(cache.find(agent(**{"voice": "v"} | keys), label, TEXT) is not None for keys in same)
    assert all(cache.find(agent(**{"voice": "v"} | keys), label, TEXT) is None for keys in other)
    assert cache.find(base, "cartesia:sonic-2", TEXT) is None


def test_sentences_of_other_places_can_be_asked_for_too(tmp_path: Path) -> None:
    """Extra sentences come after the agent's own, once, and without empty ones; a template is no sentence."""
    cache = SpeechCache(tmp_path)
    config = agent(firstMessage="Hi {{ name }}.")
    missing = cache.missing(config, "x", ["Not in service.", "", config.fallbacks.hold])
    assert missing[-1] == "Not in service."
    assert len(set(missing)) == len(missing) and "" not in missing
    assert "Hi {{ name }}." not in phrases(config)


async def test_what_another_voice_says_is_heard_and_not_kept(tmp_path: Path, voice: CartesiaStandIn) -> None:
    """The agent's own voice is not replaced for all later calls by one that stood in for it."""
    cache, config = SpeechCache(tmp_path), agent(allowed={"tts": ["cartesia", "embedded:clips"]})
    await voice.set_fault("http500")
    stack = stack_of(config, voice)
    assert not await cache.render(stack, config, "Goodbye.")
    frames = [frame async for frame in cache.stream(stack, config, "Goodbye.")]
    assert sum(frame.duration for frame in frames) > 0.2
    assert cache.find(config, stack.own_voice_label, "Goodbye.") is None
    await stack.aclose()


@pytest.fixture
async def services(tmp_path: Path, voice: CartesiaStandIn) -> AsyncIterator[CallServices]:
    settings = Settings(data_dir=tmp_path)
    control = EmbeddedControlPlane(settings)
    yield CallServices(settings, control, {}, SpeechCache(tmp_path), env_of(voice), NO_PRESETS, "worker")
    await control.aclose()


async def test_a_refusal_is_spoken_in_the_agents_voice(services: CallServices, voice: CartesiaStandIn) -> None:
    """Synthesised within the time, at the agent's level, and from the cache the next time."""
    config = agent(audioOutput={"gainDb": -6})
    sentence = await services.spoken(config, TEXT, 5.0)
    kept = services.speech.find(config, "cartesia:sonic-3", TEXT)
    assert sentence is not None and kept is not None
    assert bytes(sentence.data) == bytes(amplified(kept, -6).data)
    await voice.set_fault("http500")
    assert await services.spoken(config, TEXT, 5.0) is not None


async def test_a_refusal_waits_for_no_voice(services: CallServices, voice: CartesiaStandIn) -> None:
    """A voice that is silent, broken or not configured is none, within the time."""
    await voice.set_fault("hang")
    started = asyncio.get_running_loop().time()
    assert await services.spoken(agent(), TEXT, 0.2) is None
    assert asyncio.get_running_loop().time() - started < 1.5
    await voice.set_fault("http500")
    assert await services.spoken(agent(), TEXT, 5.0) is None
    assert await services.spoken(agent(allowed={"tts": ["openai"]}), TEXT, 5.0) is None


async def test_providers_built_ahead_serve_whoever_wishes_for_the_same(services: CallServices) -> None:
    """A call whose prompt, greeting or metadata was overridden is not made to wait for new clients."""
    services.build_ahead([agent(), agent(name="twin"), agent(voice="other")])
    assert len(services.ready) == 2
    ahead = services.ready[0][1]
    assert services.stack_for(agent(systemPrompt="New.", firstMessage="Hi.", metadata={"a": 1}, tools=[])) is ahead
    assert services.stack_for(agent(systemPrompt="New.")) is not ahead
    assert services.stack_for(agent(voice="third")) is not services.ready[0][1]


@pytest.mark.parametrize("gain_db", [-24.0, -6.0, 6.0, 12.0])
def test_gain_is_exact_and_clips_at_full_scale(gain_db: float) -> None:
    """Every sample is scaled by the same factor, and never wraps around."""
    samples = np.linspace(-32_768, 32_767, 4_001).astype(np.int16)
    louder = np.frombuffer(amplified(_frame(samples), gain_db).data, dtype=np.int16)
    expected = np.clip(samples.astype(np.float64) * 10 ** (gain_db / 20), -32_768, 32_767)
    assert np.max(np.abs(louder - expected)) <= 1.0
    assert np.all(np.diff(louder.astype(np.int32)) >= 0)


def test_no_gain_is_no_work() -> None:
    """The frame itself is handed on."""
    frame = _frame(np.arange(320, dtype=np.int16))
    assert amplified(frame, 0.0) is frame


def _frame(samples: np.ndarray) -> rtc.AudioFrame:
    return rtc.AudioFrame(samples.tobytes(), 16_000, 1, samples.size)
