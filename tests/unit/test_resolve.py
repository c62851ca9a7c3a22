"""Which value wins: properties of the merge, whatever the layers hold."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_worker.config.resolve import LAYERS, Layer, agent_layer, default_layer, resolve, without_secrets
from agent_worker.domain.agent import AgentConfig

KEYS = ["voice", "firstMessage", "llmOptions", "turnHandling", "tools", "metadata", "variables"]
SCALAR = st.integers(0, 9) | st.text("abc", max_size=3) | st.booleans()
OBJECT = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), SCALAR | st.lists(SCALAR, max_size=2) | st.none(), max_size=3
)
VALUE = SCALAR | st.lists(SCALAR, max_size=3) | OBJECT | st.none()
STACKS = st.lists(st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=5), min_size=1, max_size=5)


def layers(stack: list[dict[str, Any]]) -> list[Layer]:
    return [Layer(name, values) for name, values in zip(LAYERS, stack, strict=False)]


@given(STACKS)
def test_the_highest_layer_that_says_something_wins(stack: list[dict[str, Any]]) -> None:
    """A scalar or list of the top layer is in force as it stands, whatever is below."""
    values = resolve(layers(stack)).values

    for key, value in stack[-1].items():
        if value is not None and not isinstance(value, dict):
            assert values[key] == value


@given(STACKS)
def test_each_key_of_an_object_follows_the_highest_layer(stack: list[dict[str, Any]]) -> None:
    """Objects merge one level deep: what the top says is in force, what it leaves out is as it was below."""
    below = resolve(layers(stack[:-1])).values if len(stack) > 1 else {}
    values = resolve(layers(stack)).values

    for key, value in stack[-1].items():
        if isinstance(value, dict):
            kept = below.get(key) if isinstance(below.get(key), dict) else {}
            for name in value.keys() | kept.keys():
                if name not in value:
                    assert values[key][name] == kept[name]
                elif value[name] is not None or key == "metadata":
                    assert values[key][name] == value[name]


@given(STACKS)
def test_null_clears_down_to_the_built_in_default(stack: list[dict[str, Any]]) -> None:
    """A key that the top clears is what the lowest layer says, or is not there."""
    values = resolve(layers(stack)).values
    floor = stack[0]

    for key, value in stack[-1].items():
        if value is None:
            assert values.get(key) == floor.get(key)


@given(STACKS)
def test_every_value_has_one_origin_and_every_origin_is_a_layer(stack: list[dict[str, Any]]) -> None:
    """Provenance names a layer that exists for each value, and for nothing that is not there or was not cleared."""
    given_layers = layers(stack)
    resolved = resolve(given_layers)

    for key, value in resolved.values.items():
        inner = [f"{key}.{name}" for name in value] if isinstance(value, dict) and value else [key]
        assert all(name in resolved.provenance for name in inner), (key, resolved)
    for origin in resolved.provenance.values():
        assert origin.removesuffix(" (cleared)") in [layer.name for layer in given_layers]


@given(STACKS)
def test_the_origin_is_the_highest_layer_that_speaks_of_the_key(stack: list[dict[str, Any]]) -> None:
    """Who said it last is who is named."""
    given_layers = layers(stack)
    provenance = resolve(given_layers).provenance

    for dotted, origin in provenance.items():
        key, _, name = dotted.partition(".")
        speaking = [
            layer.name
            for layer in given_layers
            if key in layer.values
            and (not name or not isinstance(layer.values[key], dict) or name in layer.values[key])
        ]
        assert origin.removesuffix(" (cleared)") == speaking[-1], (dotted, provenance)


@given(STACKS)
def test_the_layers_are_left_as_they_were(stack: list[dict[str, Any]]) -> None:
    """Merging is pure: a call's snapshot cannot be changed through an agent, nor an agent through a call."""
    before = deepcopy(stack)
    values = resolve(layers(stack)).values
    for value in values.values():
        if isinstance(value, dict):
            value["x"] = 1

    assert stack == before


@given(STACKS)
def test_an_empty_layer_changes_nothing(stack: list[dict[str, Any]]) -> None:
    """Who says nothing has no say."""
    said = layers(stack)

    assert resolve([*said, Layer("pre_call", {})]) == resolve(said)


def test_an_agent_says_only_what_its_file_says() -> None:
    """What a file leaves out is left to the number's template and to the defaults; null is something said."""
    agent = AgentConfig.model_validate(
        {"name": "desk", "systemPrompt": "x", "voice": None, "llmOptions": {"temperature": 0.2, "maxTokens": None}}
    )
    template = Layer("number", {"voice": "alto", "firstMessage": "Hi.", "llmOptions": {"maxTokens": 9, "model": "m"}})

    resolved = resolve([default_layer(), template, agent_layer(agent)])

    assert "voice" not in resolved.values
    assert resolved.provenance["voice"] == "agent (cleared)"
    assert resolved.values["firstMessage"] == "Hi."
    assert resolved.values["llmOptions"] == {"temperature": 0.2, "model": "m"}
    assert resolved.provenance["llmOptions.temperature"] == "agent"
    assert resolved.provenance["llmOptions.model"] == "number"
    assert resolved.provenance["maxDurationSeconds"] == "default"


def test_what_is_in_force_is_an_agent_again() -> None:
    """The defaults alone make a valid agent: nothing is lost or invented on the way through layers."""
    values = resolve([default_layer()]).values

    assert AgentConfig.model_validate({**values, "name": "x"}) == AgentConfig(name="x")


def test_secrets_are_masked_wherever_they_stand() -> None:
    """By the words of their key, whole groups of secrets, and what a tool sends along; metadata is the operator's."""
    masked = without_secrets(
        {
            "toolSecrets": {"crm": "abcdef"},
            "llmOptions": {"maxTokens": 5},
            "tools": [
                {
                    "config": {"apiKey": "k", "crm_token": "k", "secretaryName": "Jane", "passwordless": True},
                    "source": {
                        "url": "https://x.example/a?key=1",
                        "secret": "abcdef",
                        "headers": {"Cookie": "c"},
                        "authHeaders": [{"name": "X", "value": "v"}],
                    },
                }
            ],
            "metadata": {"token_budget": 5, "note": "token of thanks"},
        }
    )

    assert masked == {
        "toolSecrets": {"crm": "***"},
        "llmOptions": {"maxTokens": 5},
        "tools": [
            {
                "config": {"apiKey": "***", "crm_token": "***", "secretaryName": "Jane", "passwordless": True},
                "source": {
                    "url": "https://x.example/a?***",
                    "secret": "***",
                    "headers": {"Cookie": "***"},
                    "authHeaders": [{"name": "X", "value": "***"}],
                },
            }
        ],
        "metadata": {"token_budget": 5, "note": "token of thanks"},
    }
