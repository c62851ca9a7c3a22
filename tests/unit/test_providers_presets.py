"""The operator's presets: which list serves a layer, and what is said of a wrong file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.config.presets_file import read_presets
from agent_worker.config.problems import ConfigErrors
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import NO_PRESETS, Presets
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import check_stack, choose, look_up

KEYS = {"DEEPGRAM_API_KEY": "dg", "OPENAI_API_KEY": "oa", "CARTESIA_API_KEY": "ca"}
PRESETS = Presets.model_validate(
    {
        "balanced": {"llm": ["openai:gpt-4.1"], "languages": {"de": {"tts": ["openai:tts-1"]}}},
        "latency": {
            "stt": ["deepgram:flux-general-en"],
            "languages": {"de": {"stt": ["deepgram:nova-3"]}, "de-AT": {"stt": ["deepgram:nova-2"]}},
        },
    }
)


def agent(**keys: object) -> AgentConfig:
    return AgentConfig.model_validate({"name": "a", **keys})


def served(config: AgentConfig, layer: str, presets: Presets = PRESETS) -> tuple[list[str], str]:
    choice = look_up(config, layer, KEYS, presets)  # type: ignore[arg-type]
    return [str(candidate.label) for candidate in choice.candidates], choice.source


@pytest.mark.parametrize(
    ("language", "entries", "source"),
    [
        ("en", ["deepgram:flux-general-en"], "preset latency"),
        ("de", ["deepgram:nova-3"], "preset latency, de"),
        ("de-DE", ["deepgram:nova-3"], "preset latency, de"),
        ("de-AT", ["deepgram:nova-2"], "preset latency, de-AT"),
    ],
)
def test_the_preset_of_the_purpose_serves_in_the_calls_language(language: str, entries: list[str], source: str) -> None:
    """The longer tag stands above the shorter, and both above the preset's own list."""
    config = agent(intent={"optimizeFor": "latency", "language": language})
    assert served(config, "stt") == (entries, source)


def test_what_a_preset_does_not_say_the_balanced_one_says_and_then_we_do() -> None:
    """A layer falls through purpose, balanced and built in; a purpose nobody wrote is balanced."""
    fast = agent(intent={"optimizeFor": "latency"})
    assert served(fast, "llm") == (["openai:gpt-4.1"], "preset balanced")
    assert served(fast, "tts") == (["cartesia:sonic-3"], "built in")
    assert served(agent(intent={"optimizeFor": "cost"}), "llm") == (["openai:gpt-4.1"], "preset balanced")
    assert served(agent(intent={"language": "de"}), "tts") == (["openai:tts-1"], "preset balanced, de")


def test_an_agents_own_list_stands_above_every_preset() -> None:
    """A list in the agent's file is used as it is, layer by layer."""
    config = agent(
        intent={"optimizeFor": "latency"}, stackPreferences={"allowedProviders": {"stt": ["deepgram:nova-2"]}}
    )
    assert served(config, "stt") == (["deepgram:nova-2"], "agent")
    assert served(config, "llm")[1] == "preset balanced"


def test_recognition_is_chosen_for_the_language_it_listens_for() -> None:
    """`sttOptions.language` moves the recogniser to another list, and nothing else."""
    config = agent(intent={"optimizeFor": "latency"}, sttOptions={"language": "de"})
    assert served(config, "stt") == (["deepgram:nova-3"], "preset latency, de")
    assert served(config, "tts")[1] == "built in"


def test_the_order_is_preference_then_failover_and_an_entry_counts_once() -> None:
    """All usable entries are candidates in the list's order; an unusable one is passed over and its problem kept."""
    presets = Presets.model_validate({"balanced": {"tts": ["embedded", "elevenlabs", "cartesia", "embedded"]}})
    choice = look_up(agent(), "tts", KEYS, presets)
    assert [candidate.label.provider for candidate in choice.candidates] == ["embedded", "cartesia"]
    assert [problem.code for problem in choice.problems] == ["provider_unknown"]


def test_a_preset_with_nothing_configured_names_itself_and_every_entry() -> None:
    """The error says which preset, what each entry lacks, and what to set."""
    presets = Presets.model_validate({"cost": {"llm": ["openai:gpt-4.1-nano", "local:qwen"]}})
    config = agent(intent={"optimizeFor": "cost"})
    with pytest.raises(ProviderError) as raised:
        choose(config, "llm", {}, presets)
    assert "preset cost" in raised.value.message
    assert "openai has no API key" in raised.value.message and "'local'" in raised.value.message
    assert "OPENAI_API_KEY" in raised.value.remedy and "LOCAL_BASE_URL" in raised.value.remedy
    assert raised.value.message in [problem.message for problem in check_stack(config, {}, presets)]


def test_no_file_means_the_built_in_presets(tmp_path: Path) -> None:
    """Without a file today's three vendors serve; the shipped file says the same."""
    assert read_presets(None) == NO_PRESETS
    shipped = read_presets(Path(__file__).parents[2] / "presets.yaml")
    for layer in ("stt", "llm", "tts"):
        assert served(agent(), layer, shipped)[0] == served(agent(), layer, NO_PRESETS)[0]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("balanced:\n  stt: [deepgram]\nfastest:\n  stt: [deepgram]\n", 3, "fastest"),
        ("balanced:\n  sst: [deepgram]\n", 2, "stt"),
        ("latency:\n  stt: deepgram\n", 2, "must be a list"),
        ("latency:\n  languages:\n    german: {stt: [deepgram]}\n", 3, "german"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    """An unknown preset, an unknown layer, a wrong value and a wrong language each name their place."""
    file = tmp_path / "presets.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigErrors) as raised:
        read_presets(file)
    assert raised.value.problems[0].line == line
    assert says in str(raised.value.problems[0])


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """An operator who names a file means it."""
    with pytest.raises(ConfigErrors):
        read_presets(tmp_path / "none.yaml")
