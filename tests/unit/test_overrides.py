"""Configuration from outside: other names for the same keys, and values that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.overrides import AGENT_ONLY_KEYS, CONFIG_KEYS, read_overrides
from agent_worker.config.resolve import LAYERS, Layer, default_layer, resolve
from agent_worker.domain.agent import AgentConfig


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        ({"llm": {"temperature": 0.1}}, {"llmOptions": {"temperature": 0.1}}),
        ({"llm_options": {"max_tokens": 20}}, {"llmOptions": {"maxTokens": 20}}),
        (
            {"constraints": {"allowedProviders": {"tts": ["cartesia"]}}},
            {"stackPreferences": {"allowedProviders": {"tts": ["cartesia"]}}},
        ),
        ({"stt_options": {"keywords": ["a"]}}, {"sttOptions": {"keywords": ["a"]}}),
        ({"first_message": "Hi"}, {"firstMessage": "Hi"}),
        ({"idle_re_prompts": {"delay_ms": 5000}}, {"idleRePrompts": {"delayMs": 5000}}),
        (
            {"pronunciationDictionary": {"SQL": "sequel"}, "textReplacements": {"&": "and"}},
            {"speechNormalization": {"pronunciationDictionary": {"SQL": "sequel"}, "textReplacements": {"&": "and"}}},
        ),
        ({"tools": ["end_call"]}, {"tools": [{"name": "end_call"}]}),
        ({"turnHandling": {"turnDetection": False}}, {"turnHandling": {"turnDetection": "vad"}}),
        ({"telephony": {"amd": {"timeoutSeconds": 8.0}}}, {"telephony": {"amd": {"timeoutSeconds": 8}}}),
        ({"voice": None}, {"voice": None}),
        ({"ttsOptions": {"speed": None}}, {"ttsOptions": {"speed": None}}),
        ({"firstMessage": None}, {"firstMessage": ""}),
        ({"maxDurationSeconds": 5}, {"maxDurationSeconds": 30}),
        ({"maxDurationSeconds": 99_999}, {"maxDurationSeconds": 14_400}),
        ({"llm": {"temperature": 1}, "llmOptions": {"temperature": 0}}, {"llmOptions": {"temperature": 0.0}}),
    ],
)
def test_every_name_clients_use_is_understood(raw: dict[str, Any], values: dict[str, Any]) -> None:
    """Aliases, snake_case twins and short forms become the agent's own keys."""
    read = read_overrides(raw, "pre_call")

    assert read.values == values
    assert (read.wrong, read.unknown, read.ignored) == ({}, {}, [])


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"voice": 7}, "voice: Input should be a valid string"),
        ({"tts_options": {"speed": 9}}, "ttsOptions.speed: Input should be less than or equal to 2"),
        ({"tools": "end_call"}, "tools: Input should be a valid list"),
        ({"intent": {"language": "english"}}, "intent.language: String should match pattern"),
        ({"ttsOptions": {"spede": 1}}, "ttsOptions.spede: Extra inputs are not permitted"),
        ({"maxDurationSeconds": "long"}, "maxDurationSeconds: Input should be a valid integer"),
        ({"metadata": ["x"]}, "metadata: Input should be a valid dictionary"),
        ({"variables": {"system": "x"}}, "variables: cannot name a variable 'system'"),
    ],
)
def test_a_wrong_value_is_told_and_set_nothing(raw: dict[str, Any], sentence: str) -> None:
    """One sentence names the place; the value is not taken."""
    read = read_overrides(raw, "pre_call")

    assert read.values == {}
    [told] = read.wrong.values()
    assert told.startswith(sentence)


@pytest.mark.parametrize("key", sorted(AGENT_ONLY_KEYS))
def test_a_request_cannot_say_who_is_asked_or_told(key: str) -> None:
    """Webhooks, numbers and identity are the operator's; a reply that names them is noted."""
    read = read_overrides({key: "x"}, "pre_call")

    assert read.values == {}
    assert read.ignored == [key]


def test_a_number_may_bring_its_own_webhook() -> None:
    """Without an agent the template is the whole configuration."""
    read = read_overrides({"webhooks": {"preCall": {"url": "https://a.example/x"}}, "tenant": "acme"}, "number")

    assert read.values == {"webhooks": {"preCall": {"url": "https://a.example/x"}}}
    assert read.unknown == {"tenant": "acme"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(CONFIG_KEYS)) | st.text(max_size=12), JSON), st.sampled_from(LAYERS[1:]))
def test_whatever_is_taken_makes_an_agent(raw: dict[str, Any], layer: Any) -> None:
    """Any JSON object is survived, and what is taken of it is a configuration on top of the defaults."""
    read = read_overrides(raw, layer)
    values = resolve([default_layer(), Layer(layer, read.values)]).values

    AgentConfig.model_validate({**values, "name": "x"})
    told = len(read.values) + len(read.unknown) + len(read.ignored) + len(read.wrong)
    assert told <= len(raw)
    if not {"pronunciationDictionary", "textReplacements", "llm", "constraints"} & raw.keys():
        assert told == len(raw)
