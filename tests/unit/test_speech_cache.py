"""Rendered sentences: found by what changes their sound, kept only where configured, spoken within a deadline."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.utils import http_context

from agent_worker.call.gain import amplified
from agent_worker.call.services import CallServices
from agent_worker.call.speech_ahead import SpeechAhead
from agent_worker.call.speech_cache import SpeechCache, phrases
from agent_worker.config import catalog_cache
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.catalog_cache import CachedCatalog
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


async def test_what_a_call_says_is_on_no_disk(tmp_path: Path, voice: CartesiaStandIn) -> None:
    """A greeting that was filled in, or that a webhook sent, may be about the caller."""
    cache, config = SpeechCache(tmp_path), agent(firstMessage="Hello Maya, your balance is 12 dollars.")
    stack = stack_of(config, voice)
    assert [frame async for frame in cache.stream(stack, config, config.first_message)]
    assert await cache.spoken(stack, config, "Goodbye, Maya.", 5.0) is not None
    await stack.aclose()
    assert not files_in(tmp_path)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0\0") if not path.exists() else None
    moment = time.time() - days * 86_400
    os.utime(path, (moment, moment))
    return path


def test_what_nobody_has_needed_for_a_week_is_removed(tmp_path: Path) -> None:
    """Only rendered sentences, only in their folder, and none that another process has needed since."""
    cache, folder = SpeechCache(tmp_path), tmp_path / "speech"
    needed = aged(folder / f"{'a' * 32}.pcm", 30)
    others = aged(folder / f"{'b' * 32}.pcm", 30)
    SpeechCache(tmp_path).mark_needed([others.name, "0" * 32 + ".pcm"])
    recent = aged(folder / f"{'c' * 32}.pcm", 6)
    gone = [aged(folder / f"{'d' * 32}.pcm", 8), aged(folder / f"{'e' * 32}.4711.part", 8)]
    strangers = [aged(folder / "notes.txt", 30), aged(tmp_path / f"{'f' * 32}.pcm", 30)]
    (folder / f"{'1' * 32}.pcm").symlink_to(strangers[1])
    os.utime(folder / f"{'1' * 32}.pcm", (0, 0), follow_symlinks=False)
    (folder / f"{'2' * 32}.pcm").mkdir()
    assert cache.tidy({needed.name}) == len(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (needed, others, recent, *strangers))
    assert cache.tidy(set()) == 1
    assert not needed.exists()


def test_there_may_be_nothing_to_tidy(tmp_path: Path) -> None:
    """A new installation has no folder yet."""
    assert SpeechCache(tmp_path).tidy({"x"}) == 0


class Ahead:
    """A worker's speech rendered ahead, of a catalog that changes."""

    def __init__(self, folder: Path) -> None:
        self.cache = SpeechCache(folder)
        self.copy = folder / "catalog.json"
        self.files = folder / "speech"

    def configure(self, *agents: AgentConfig) -> None:
        snapshot = AgentCatalog.of(agents).snapshot(secrets=True)
        catalog_cache.write(self.copy, {**snapshot, "source": "here"})

    @asynccontextmanager
    async def running(self, refusal: str = "") -> AsyncIterator[None]:
        catalog = CachedCatalog(None, self.copy, source="here")
        task = asyncio.create_task(SpeechAhead(self.cache, catalog, NO_PRESETS, refusal=refusal).run())
        yield
        task.cancel()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():  # noqa: ASYNC110 - what is waited for is on disk
                await asyncio.sleep(0.02)


@pytest.fixture
def ahead(tmp_path: Path, voice: CartesiaStandIn, monkeypatch: pytest.MonkeyPatch) -> Ahead:
    monkeypatch.setattr("agent_worker.call.speech_ahead.LOOK_SECONDS", 0.05)
    for name, value in env_of(voice).items():
        monkeypatch.setenv(name, value)
    return Ahead(tmp_path)


async def test_what_no_agent_needs_any_more_is_removed_once_all_is_rendered(ahead: Ahead) -> None:
    """Sentences of agents stay however old they are, and count as needed from then on."""
    config = agent(name="a", firstMessage="Hello.")
    ahead.configure(config)
    label = "cartesia:sonic-3"
    async with ahead.running():
        await ahead.until(lambda: not ahead.cache.missing(config, label))
    kept = [aged(path, 30) for path in ahead.files.iterdir()]
    gone = aged(ahead.files / f"{'0' * 32}.pcm", 30)
    async with ahead.running():
        await ahead.until(lambda: not gone.exists())
    assert all(time.time() - path.stat().st_mtime < 3_600 for path in kept)


async def test_nothing_is_removed_while_an_agent_has_no_voice(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is missing for a day must not cost the sentences that were rendered with it."""
    ahead.configure(agent(name="a", firstMessage="Hello."), agent(name="b", allowed={"tts": ["openai"]}))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    old = aged(ahead.files / f"{'0' * 32}.pcm", 30)
    async with ahead.running():
        await ahead.until(lambda: not ahead.cache.missing(agent(name="a", firstMessage="Hello."), "cartesia:sonic-3"))
        await asyncio.sleep(0.3)
    assert old.exists()


async def test_whoever_becomes_first_speaks_for_nobody(ahead: Ahead) -> None:
    """The operator's refusal is rendered again when the agent in whose voice it was is gone."""
    first, second = agent(name="a", voice="v"), agent(name="b", voice="w")
    label, refusal = "cartesia:sonic-3", "We are not in service."
    ahead.configure(first, second)
    async with ahead.running(refusal):
        await ahead.until(lambda: not ahead.cache.missing(second, label))
        assert ahead.cache.find(first, label, refusal) is not None
        assert ahead.cache.find(second, label, refusal) is None
        ahead.configure(second)
        await ahead.until(lambda: ahead.cache.find(second, label, refusal) is not None)


@pytest.fixture
async def services(tmp_path: Path, voice: CartesiaStandIn) -> AsyncIterator[CallServices]:
    settings = Settings(data_dir=tmp_path)
    control = EmbeddedControlPlane(settings)
    yield CallServices(settings, control, {}, SpeechCache(tmp_path), env_of(voice), NO_PRESETS, "worker")
    await control.aclose()


async def test_a_refusal_is_spoken_in_the_agents_voice(services: CallServices, voice: CartesiaStandIn) -> None:
    """Synthesised within the time or rendered before, at the agent's level."""
    config = agent(audioOutput={"gainDb": -6})
    sentence = await services.spoken(config, TEXT, 5.0)
    stack = stack_of(config, voice)
    assert await services.speech.render(stack, config, TEXT)
    kept = services.speech.find(config, stack.own_voice_label, TEXT)
    await stack.aclose()
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
