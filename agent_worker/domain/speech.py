"""How an agent hears, thinks, speaks and sounds: the options of its providers and of its line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent_worker.domain.config_model import ConfigModel, ProviderOptions

Clip = Literal[
    "office-ambience", "city-ambience", "forest-ambience", "crowded-room", "keyboard-typing", "keyboard-typing2"
]

ProviderEntry = Annotated[str, Field(min_length=1, max_length=200)]
Term = Annotated[str, Field(min_length=1, max_length=200)]


class AllowedProviders(ConfigModel):
    """Providers in order of preference, each `vendor` or `vendor:model`; the next one serves when one fails.

    Attributes:
        stt: recognition; empty = the preset of `intent.optimizeFor`.
        llm: language models; empty = the preset.
        tts: speech; empty = the preset.
        s2s: speech-to-speech models.
    """

    stt: list[ProviderEntry] = Field(default_factory=list, max_length=10)
    llm: list[ProviderEntry] = Field(default_factory=list, max_length=10)
    tts: list[ProviderEntry] = Field(default_factory=list, max_length=10)
    s2s: list[ProviderEntry] = Field(default_factory=list, max_length=10, alias="s2s")  # to_camel makes it s2S


class StackPreferences(ConfigModel):
    """Which providers may serve this agent."""

    allowed_providers: AllowedProviders = Field(default_factory=AllowedProviders)


class LlmOptions(ConfigModel):
    """How the language model is asked.

    Attributes:
        temperature: how freely it words its replies; none = the provider's own.
        max_tokens: longest reply, tokens; people on the phone want short ones.
        model: the model where the list of providers names a vendor alone.
    """

    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    model: str | None = Field(None, max_length=200)


class SttOptions(ConfigModel):
    """How speech is recognised.

    Attributes:
        keywords: names and terms to listen for.
        language: another language for recognition than `intent.language`.
        prompt: context, for recognisers that take one.
        model: the model where the list of providers names a vendor alone.
        workload: kind of speech, as hosted platforms name it.
        diarization: tell speakers apart, where the provider can.
        speakers_expected: how many speakers there are.
        smart_format: write numbers, dates and addresses in their usual form, which makes the recogniser wait for more.
        filler_words: keep "uh" and "um" in the transcript, where the provider can.
        profanity_filter: mask swear words, where the provider can.
        word_timestamps: ask for the time of each word, where the provider can.
        provider_options: other options of the provider, by its own names in camelCase.
    """

    keywords: list[Term] = Field(default_factory=list, max_length=200)
    language: str | None = Field(None, max_length=35)
    prompt: str | None = Field(None, max_length=2_000)
    model: str | None = Field(None, max_length=200)
    workload: str | None = Field(None, max_length=100)
    diarization: bool | None = None
    speakers_expected: int | None = Field(None, ge=1, le=10)
    smart_format: bool | None = None
    filler_words: bool | None = None
    profanity_filter: bool | None = None
    word_timestamps: bool | None = None
    provider_options: ProviderOptions = Field(default_factory=dict)


class TtsOptions(ConfigModel):
    """How speech is spoken.

    Attributes:
        speed: 1 = as the voice was made; none = the provider's own.
        model: the model where the list of providers names a vendor alone.
        sample_rate: rate of the voice's samples, Hz.
        workload: kind of speech, as hosted platforms name it.
        provider_options: other options of the provider, by its own names in camelCase.
    """

    speed: float | None = Field(None, ge=0.5, le=2)
    model: str | None = Field(None, max_length=200)
    sample_rate: int | None = Field(None, ge=8_000, le=48_000)
    workload: str | None = Field(None, max_length=100)
    provider_options: ProviderOptions = Field(default_factory=dict)


class AmbientSound(ConfigModel):
    """A sound under the whole call.

    Attributes:
        clip: one of the built-in clips; instead of `sound_id`.
        sound_id: a sound of your own; instead of `clip`.
        volume: linear gain; 1 is the clip's own level.
    """

    clip: Clip | None = None
    sound_id: str | None = Field(None, max_length=200)
    volume: float = Field(1.0, ge=0, le=16)

    @model_validator(mode="after")
    def _one_source(self) -> AmbientSound:
        if (self.clip is None) == (self.sound_id is None):
            raise ValueError("must have exactly one of clip and soundId")
        return self


class ToolSound(AmbientSound):
    """A sound while a tool works.

    Attributes:
        min_duration_ms: shortest time it is heard, ms, so that a quick tool makes no click.
        start_delay_ms: silence before it, ms; a tool that is done by then plays nothing.
    """

    min_duration_ms: int = Field(600, ge=0, le=10_000)
    start_delay_ms: int = Field(0, ge=0, le=10_000)


class BackgroundAudio(ConfigModel):
    """What is heard beside the agent's voice.

    Attributes:
        ambient: a sound under the whole call.
        tool_sound: a sound while a tool works.
    """

    ambient: AmbientSound | None = None
    tool_sound: ToolSound | None = None


class AudioOutput(ConfigModel):
    """The level of the agent's voice.

    Attributes:
        gain_db: dB on top of what the synthesiser gives; boosting clips at full scale.
    """

    gain_db: float = Field(0.0, ge=-24, le=12)


class SpeechNormalization(ConfigModel):
    """What is said instead of what is written.

    Attributes:
        pronunciation_dictionary: whole words, any case -> how they are spoken.
        text_replacements: exact text -> other text, before the dictionary.
    """

    pronunciation_dictionary: dict[Term, Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=500
    )
    text_replacements: dict[Term, Annotated[str, Field(max_length=500)]] = Field(default_factory=dict, max_length=500)
