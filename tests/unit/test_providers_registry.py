"""From `vendor:model` entries to providers, and what is said where none can be used."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import NO_PRESETS
from agent_worker.errors import ProviderError
from agent_worker.providers.deepgram import listen_url
from agent_worker.providers.registry import build_stack, check_stack, choose, preload_modules
from agent_worker.providers.vendor import ProviderLabel

KEYS = {"DEEPGRAM_API_KEY": "dg", "OPENAI_API_KEY": "oa", "CARTESIA_API_KEY": "ca"}


def agent(**keys: Any) -> AgentConfig:
    allowed = keys.pop("allowed", {})
    return AgentConfig.model_validate({"name": "a", "stackPreferences": {"allowedProviders": allowed}, **keys})


async def test_an_agent_that_allows_nothing_in_particular_gets_the_defaults() -> None:
    """Empty lists mean deepgram, openai and cartesia with their default models."""
    stack = build_stack(agent(), KEYS, NO_PRESETS)
    assert stack.stt_label == ProviderLabel("deepgram", "nova-3")
    assert stack.llm_label == ProviderLabel("openai", "gpt-4.1-mini")
    assert stack.tts_label == ProviderLabel("cartesia", "sonic-3")
    assert stack.vad is not None and stack.vad.provider == "livekit-local-inference"
    await stack.aclose()


def test_the_first_entry_that_is_configured_wins() -> None:
    """An entry without its key is passed over; all usable ones are candidates, in order."""
    config = agent(allowed={"tts": ["cartesia:sonic-2", "openai:tts-1", "embedded"]})
    chosen = choose(config, "tts", {"OPENAI_API_KEY": "oa"}, NO_PRESETS)
    assert [str(candidate.label) for candidate in chosen] == ["openai:tts-1", "embedded:auto"]


def test_a_model_in_the_list_stands_above_the_options() -> None:
    """`llmOptions.model` names the model where the entry does not."""
    named = choose(agent(allowed={"llm": ["openai:gpt-4o"]}, llmOptions={"model": "x"}), "llm", KEYS, NO_PRESETS)
    unnamed = choose(agent(allowed={"llm": ["openai"]}, llmOptions={"model": "x"}), "llm", KEYS, NO_PRESETS)
    assert (named[0].label.model, unnamed[0].label.model) == ("gpt-4o", "x")


def test_without_keys_each_layer_names_what_to_set() -> None:
    """A bare environment gives three errors, each with the variable in its remedy."""
    problems = check_stack(agent(), {}, NO_PRESETS)
    assert [problem.code for problem in problems] == ["provider_key_missing"] * 3
    remedies = " ".join(problem.remedy for problem in problems)
    assert all(variable in remedies for variable in KEYS)


@pytest.mark.parametrize(
    ("entry", "code", "says"),
    [
        ("deepgrm:nova-3", "provider_unknown", "Did you mean deepgram?"),
        ("assemblyai", "provider_unknown", "pip install 'livekit-plugins-assemblyai'"),
        ("Deep Gram", "provider_unknown", "vendor:model"),
        ("cartesia", "provider_layer_unknown", "allowedProviders.stt"),
        ("embedded:no-such-file", "embedded_model_unknown", "front-desk"),
    ],
)
def test_an_entry_that_cannot_serve_says_what_to_do(entry: str, code: str, says: str) -> None:
    """A typo, a missing plugin, a wrong layer and a missing file each have their own remedy."""
    with pytest.raises(ProviderError) as raised:
        choose(agent(allowed={"stt": [entry]}), "stt", KEYS, NO_PRESETS)
    assert raised.value.code == code
    assert says in raised.value.remedy


def test_a_server_that_needs_no_key_is_used_without_one() -> None:
    """`OPENAI_BASE_URL` alone is enough, and no key of ours is made up from the environment."""
    stack = build_stack(
        agent(), {**KEYS, "OPENAI_API_KEY": "", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1/"}, NO_PRESETS
    )
    assert stack.llm.provider == "127.0.0.1:9"
    assert stack.llm._client.api_key == "unused"  # type: ignore[attr-defined]


def test_limits_and_temperature_reach_the_model() -> None:
    """maxTokens goes out under the name the server knows."""
    config = agent(llmOptions={"temperature": 0.2, "maxTokens": 99})
    official = build_stack(config, KEYS, NO_PRESETS).llm._opts  # type: ignore[attr-defined]
    assert (official.temperature, official.max_completion_tokens) == (0.2, 99)
    other = build_stack(config, {**KEYS, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, NO_PRESETS).llm._opts  # type: ignore[attr-defined]
    assert other.extra_body == {"max_tokens": 99}


def test_speech_options_reach_the_recogniser() -> None:
    """Language, keywords and rate are the agent's; flux models take the other endpoint."""
    config = agent(intent={"language": "de"}, sttOptions={"keywords": ["Okafor"]})
    env = {**KEYS, "DEEPGRAM_BASE_URL": "http://127.0.0.1:9"}
    nova = build_stack(config, env, NO_PRESETS).stt._opts  # type: ignore[attr-defined]
    assert (str(nova.language), nova.keyterm, nova.sample_rate, nova.no_delay) == (
        "de",
        ["Okafor"],
        16_000,
        True,
    )
    assert nova.endpoint_url == "http://127.0.0.1:9/v1/listen"
    flux = build_stack(agent(allowed={"stt": ["deepgram:flux-general-en"]}), env, NO_PRESETS).stt
    assert type(flux).__name__ == "STTv2"
    assert flux._opts.endpoint_url == "ws://127.0.0.1:9/v2/listen"  # type: ignore[attr-defined]


def test_the_recogniser_waits_longer_where_it_decides_the_turn() -> None:
    """Endpointing after 25 ms would end a turn at every breath."""
    quick = build_stack(agent(), KEYS, NO_PRESETS).stt._opts.endpointing_ms  # type: ignore[attr-defined]
    config = agent(turnHandling={"turnDetection": "stt"})
    patient = build_stack(config, KEYS, NO_PRESETS).stt._opts.endpointing_ms  # type: ignore[attr-defined]
    assert quick < 100 <= patient


def test_voice_and_speed_reach_the_synthesiser_within_its_bounds() -> None:
    """Speed is cut to what the vendor takes; nothing is resampled between it and the line."""
    voice = build_stack(agent(voice="v-1", ttsOptions={"speed": 0.5}), KEYS, NO_PRESETS).tts._opts  # type: ignore[attr-defined]
    assert (voice.voice, voice.speed, voice.sample_rate) == ("v-1", 0.6, 16_000)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("", None),
        ("http://127.0.0.1:9", "ws://127.0.0.1:9/v2/listen"),
        ("http://127.0.0.1:9/v1/listen/", "ws://127.0.0.1:9/v2/listen"),
        ("wss://stt.example/dg/v2", "wss://stt.example/dg/v2/listen"),
        ("https://stt.example", "wss://stt.example/v2/listen"),
    ],
)
def test_a_base_url_may_be_a_root_or_a_whole_path(base: str, url: str | None) -> None:
    """Whatever of the path is written, the endpoint is the same."""
    assert listen_url({"DEEPGRAM_BASE_URL": base}, "v2", "ws") == url


def test_the_detector_is_checked_before_a_call() -> None:
    """A detector nobody knows is a problem of `check`, not of the first call."""
    problems = check_stack(agent(), {**KEYS, "AGENT_WORKER_VAD": "loud"}, NO_PRESETS)
    assert [problem.code for problem in problems] == ["vad_unknown"]


def test_any_installed_plugin_can_be_named() -> None:
    """A vendor nobody here has heard of is its plugin's class, given what that class takes."""
    config = agent(allowed={"tts": ["deepgram:aura-2-andromeda-en"]})
    assert choose(agent(allowed={"stt": ["silero"]}), "stt", KEYS, NO_PRESETS)[0].vendor.name == "silero"
    with pytest.raises(ProviderError) as raised:
        build_stack(agent(allowed={"stt": ["silero"]}), KEYS, NO_PRESETS)
    assert raised.value.code == "provider_layer_unknown"
    assert check_stack(config, KEYS, NO_PRESETS)[0].code == "provider_layer_unknown"


def test_naming_providers_loads_none_of_them() -> None:
    """`check` and `open_call` stay light: a vendor's plugin is imported when a call builds it."""
    import subprocess

    code = (
        "import sys, agent_worker.providers.registry as r; r.preload_modules();"
        "print([m for m in sys.modules if m.startswith('livekit.plugins.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_fork_server_preloads_what_is_installed() -> None:
    """The list names importable modules only."""
    modules = preload_modules()
    assert "livekit.plugins.openai" in modules
    assert "pocketsphinx" not in modules
