"""The operator's presets: which providers serve an agent that names none, by what its calls are optimized for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent_worker.domain.config_model import ConfigModel
from agent_worker.domain.speech import ProviderEntry

Purpose = Literal["balanced", "accuracy", "latency", "quality", "cost"]
LayerName = Literal["stt", "llm", "tts"]
LanguageTag = Annotated[str, Field(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")]


class ProviderLists(ConfigModel):
    """Providers of each layer in order of preference, each `vendor` or `vendor:model`; empty says nothing.

    Attributes:
        stt: recognition.
        llm: language models.
        tts: speech.
    """

    stt: list[ProviderEntry] = Field(default_factory=list, max_length=10)
    llm: list[ProviderEntry] = Field(default_factory=list, max_length=10)
    tts: list[ProviderEntry] = Field(default_factory=list, max_length=10)

    def of(self, layer: LayerName) -> list[str]:
        """Return the entries of one layer."""
        return {"stt": self.stt, "llm": self.llm, "tts": self.tts}[layer]


class Preset(ProviderLists):
    """One preset.

    Attributes:
        languages: by `de` or `de-AT`, other lists for calls in that language; the longer tag stands above the shorter.
    """

    languages: dict[LanguageTag, ProviderLists] = Field(default_factory=dict, max_length=100)


class Presets(ConfigModel):
    """What `presets.yaml` holds: a preset for each value of `intent.optimizeFor`; `balanced` stands in for the rest.

    Attributes:
        balanced: for agents that say nothing, and for each layer another preset leaves out.
        accuracy: for `optimizeFor: accuracy`.
        latency: for `optimizeFor: latency`.
        quality: for `optimizeFor: quality`.
        cost: for `optimizeFor: cost`.
    """

    balanced: Preset | None = None
    accuracy: Preset | None = None
    latency: Preset | None = None
    quality: Preset | None = None
    cost: Preset | None = None

    def find(self, layer: LayerName, purpose: Purpose, language: str) -> tuple[list[str], str]:
        """Return the providers of a layer in order, and which preset they are from.

        Args:
            language: `de` or `de-AT`.

        Returns:
            Entries, never empty, and `preset latency`, `preset latency, de`, or `built in`.
        """
        for name in dict.fromkeys((purpose, "balanced")):
            preset: Preset | None = getattr(self, name)
            if preset is None:
                continue
            for tag in dict.fromkeys((language, language.split("-")[0])):
                in_language = preset.languages.get(tag)
                if in_language and in_language.of(layer):
                    return in_language.of(layer), f"preset {name}, {tag}"
            if preset.of(layer):
                return preset.of(layer), f"preset {name}"
        return BUILT_IN.of(layer), "built in"


BUILT_IN = ProviderLists(stt=["deepgram"], llm=["openai"], tts=["cartesia"])
"""What serves where neither the agent nor a preset says anything."""

NO_PRESETS = Presets()
"""The presets of an operator who has written none."""
