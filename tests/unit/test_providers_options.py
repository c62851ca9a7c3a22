"""What an agent asks of its providers reaches them: language, options, and nothing an agent may not set."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import NO_PRESETS
from agent_worker.providers.registry import build_stack, look_up
from agent_worker.providers.stack import Stack
from agent_worker.providers.vendor import Wishes, plugin_arguments

KEYS = {"DEEPGRAM_API_KEY": "dg", "OPENAI_API_KEY": "oa", "CARTESIA_API_KEY": "ca"}


def agent(**keys: Any) -> AgentConfig:
    allowed = keys.pop("allowed", {})
    return AgentConfig.model_validate({"name": "a", "stackPreferences": {"allowedProviders": allowed}, **keys})


def stack(env: dict[str, str] | None = None, **keys: Any) -> Stack:
    return build_stack(agent(**keys), KEYS | (env or {}), NO_PRESETS)


def opts(provider: Any) -> Any:
    return provider._opts


def test_the_language_reaches_recogniser_and_voice() -> None:
    """Deepgram takes the whole tag, Cartesia and OpenAI its first part; OpenAI's voice speaks the text's language."""
    built = stack(intent={"language": "de-AT"})
    assert str(opts(built.stt).language) == "de-AT"
    assert str(opts(built.tts).language) == "de"
    openai = stack(intent={"language": "de-AT"}, allowed={"stt": ["openai"], "tts": ["openai"]})
    assert opts(openai.stt).languages == ["de"]
    flux = stack(intent={"language": "fr"}, allowed={"stt": ["deepgram:flux-general-multi"]})
    assert opts(flux.stt).language_hint == ["fr"]


def test_another_language_of_recognition_leaves_the_voice_alone() -> None:
    """`sttOptions.language` is the recogniser's only."""
    built = stack(intent={"language": "en"}, sttOptions={"language": "multi"})
    assert (str(opts(built.stt).language), str(opts(built.tts).language)) == ("multi", "en")


@pytest.mark.parametrize(
    ("layer", "entry"), [("stt", "deepgram:flux-general-en"), ("stt", "embedded"), ("tts", "embedded:flite")]
)
def test_who_speaks_english_only_serves_no_other_language(layer: Any, entry: str) -> None:
    """It is passed over with a reason, so that no caller is heard or spoken to in the wrong language."""
    german = look_up(agent(intent={"language": "de"}, allowed={layer: [entry]}), layer, KEYS, NO_PRESETS)
    assert [problem.code for problem in german.problems] == ["provider_language_unknown"]
    assert "de" in german.problems[0].message
    english = look_up(agent(intent={"language": "en-GB"}, allowed={layer: [entry]}), layer, KEYS, NO_PRESETS)
    assert "provider_language_unknown" not in [problem.code for problem in english.problems]


def test_recognition_options_reach_deepgram() -> None:
    """What is not asked for stays as the plugin has it, except formatting, which waits for more words."""
    plain = opts(stack().stt)
    assert (plain.smart_format, plain.filler_words, plain.profanity_filter) == (False, True, False)
    asked = opts(
        stack(
            sttOptions={
                "smartFormat": True,
                "fillerWords": False,
                "profanityFilter": True,
                "diarization": True,
                "providerOptions": {"numerals": True, "mipOptOut": True, "endpointing_ms": 40},
            }
        ).stt
    )
    assert (asked.smart_format, asked.filler_words, asked.profanity_filter) == (True, False, True)
    assert (asked.enable_diarization, asked.numerals, asked.mip_opt_out, asked.endpointing_ms) == (True, True, True, 40)
    flux = stack(
        allowed={"stt": ["deepgram:flux-general-en"]},
        sttOptions={"profanityFilter": True, "providerOptions": {"eotThreshold": 0.8}},
    )
    assert (opts(flux.stt).profanity_filter, opts(flux.stt).eot_threshold) == (True, 0.8)


def test_voice_options_reach_the_voice() -> None:
    """Each vendor's own options, in camelCase or as the vendor writes them."""
    cartesia = opts(stack(ttsOptions={"providerOptions": {"volume": 1.2, "pronunciationDictId": "d-1"}}).tts)
    assert (cartesia.volume, cartesia.pronunciation_dict_id) == (1.2, "d-1")
    openai = stack(allowed={"tts": ["openai"]}, ttsOptions={"providerOptions": {"instructions": "Softly."}})
    assert opts(openai.tts).instructions == "Softly."


def test_options_never_say_where_requests_go_or_with_which_key(caplog: pytest.LogCaptureFixture) -> None:
    """An agent's, a number's or a webhook's options cannot send our key to somebody else's server."""
    attempt = {"baseUrl": "http://203.0.113.9", "apiKey": "theirs", "httpSession": 1, "smile": True}
    with caplog.at_level(logging.WARNING):
        built = stack(sttOptions={"providerOptions": attempt}, ttsOptions={"providerOptions": attempt})
    assert "deepgram.com" in opts(built.stt).endpoint_url
    assert opts(built.tts).api_key == "ca" and "cartesia" in opts(built.tts).base_url
    named = [record.__dict__["options"] for record in caplog.records if "options" in record.__dict__]
    assert named == [["api_key", "base_url", "http_session", "smile"]] * 2
    assert "203.0.113.9" not in caplog.text


def test_an_option_is_known_by_either_spelling() -> None:
    """camelCase and the plugin's spelling are the same option."""
    assert plugin_arguments("v", {"mipOptOut": 1, "utterance_end_ms": 2}, ("mip_opt_out", "utterance_end_ms")) == {
        "mip_opt_out": 1,
        "utterance_end_ms": 2,
    }


def test_a_named_server_is_used_like_openai() -> None:
    """`GROQ_BASE_URL` makes `groq:model` a provider; it needs a model, and a key only where it says so."""
    env = {"GROQ_BASE_URL": "http://127.0.0.1:9/openai/v1", "GROQ_API_KEY": "gk"}
    built = stack(env, allowed={"llm": ["groq:llama", "openai"]})
    first, second = built.models.links
    assert (str(first.label), str(second.label)) == ("groq:llama", "openai:gpt-4.1-mini")
    assert first.provider.provider == "127.0.0.1:9"
    assert first.provider._client.api_key == "gk"  # type: ignore[attr-defined]
    unnamed = look_up(agent(allowed={"llm": ["groq"]}), "llm", env, NO_PRESETS)
    assert [problem.code for problem in unnamed.problems] == ["provider_model_missing"]


def test_wishes_hold_all_that_providers_read_and_no_more() -> None:
    """A change of words, tools or webhooks keeps the providers; a change of voice, language or options does not."""
    base = agent(voice="v-1")
    same = [
        {"systemPrompt": "Other."},
        {"firstMessage": "Hi."},
        {"metadata": {"a": 1}},
        {"tools": ["end_call"]},
        {"numbers": ["+12015550100"]},
        {"name": "b"},
        {"audioOutput": {"gainDb": 3}},
        {"turnHandling": {"interruption": {"enabled": False}}},
    ]
    other: list[dict[str, Any]] = [
        {"voice": "v-2"},
        {"intent": {"language": "de"}},
        {"intent": {"optimizeFor": "cost"}},
        {"sttOptions": {"keywords": ["Okafor"]}},
        {"llmOptions": {"temperature": 0.1}},
        {"ttsOptions": {"speed": 1.1}},
        {"turnHandling": {"turnDetection": "stt"}},
        {"stackPreferences": {"allowedProviders": {"llm": ["openai:gpt-4o"]}}},
    ]

    def changed(change: dict[str, Any]) -> Wishes:
        return Wishes.of(AgentConfig.model_validate({"name": "a", "voice": "v-1", **change}))

    assert all(changed(change) == Wishes.of(base) for change in same)
    assert all(changed(change) != Wishes.of(base) for change in other)
