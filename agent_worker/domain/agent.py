"""An agent's configuration: the same camelCase keys in a file, in the API and in `pipeline_config` (contract 3)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

MIN_DURATION_SECONDS = 30
MAX_DURATION_SECONDS = 14_400


class ConfigModel(BaseModel):
    """Base of every configuration object: camelCase on the wire, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Intent(ConfigModel):
    """What the call needs of its providers.

    Attributes:
        language: BCP 47, `en` or `en-US`; sets the language of recognition and of speech.
    """

    language: str = Field("en", pattern=r"^[a-z]{2}(-[A-Z]{2})?$")
    optimize_for: Literal["balanced", "accuracy", "latency", "quality", "cost"] = "balanced"
    region: str = "global"


class AllowedProviders(ConfigModel):
    """Providers in order of preference, each `vendor` or `vendor:model`."""

    stt: list[str] = Field(default_factory=list, max_length=10)
    llm: list[str] = Field(default_factory=list, max_length=10)
    tts: list[str] = Field(default_factory=list, max_length=10)


class StackPreferences(ConfigModel):
    """Which providers may serve this agent."""

    allowed_providers: AllowedProviders = Field(default_factory=AllowedProviders)


class LlmOptions(ConfigModel):
    """How the language model is asked."""

    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=100_000)
    model: str | None = Field(None, max_length=200)


class SttOptions(ConfigModel):
    """How speech is recognised."""

    keywords: list[str] = Field(default_factory=list, max_length=200)
    language: str | None = None
    prompt: str | None = Field(None, max_length=4_000)
    model: str | None = Field(None, max_length=200)


class TtsOptions(ConfigModel):
    """How speech is spoken."""

    speed: float | None = Field(None, ge=0.5, le=2)
    model: str | None = Field(None, max_length=200)
    workload: str | None = None
    provider_options: dict[str, Any] = Field(default_factory=dict)


class Endpointing(ConfigModel):
    """How long a pause ends a turn, in seconds."""

    min_delay: float | None = Field(None, ge=0, le=10)
    max_delay: float | None = Field(None, ge=0, le=10)


class Interruption(ConfigModel):
    """When the caller may talk over the agent.

    Attributes:
        min_duration: seconds of speech that count as an interruption.
        min_words: recognised words that count as one; 0 = speech alone is enough.
    """

    enabled: bool = True
    min_duration: float | None = Field(None, ge=0, le=10)
    min_words: int | None = Field(None, ge=0, le=20)


class TurnHandling(ConfigModel):
    """Who speaks when.

    Attributes:
        turn_detection: `audio` = the local end-of-turn model, `vad` = silence alone,
            `stt` = the recogniser's own endpointing.
    """

    turn_detection: Literal["audio", "vad", "stt"] = "audio"
    endpointing: Endpointing = Field(default_factory=Endpointing)
    interruption: Interruption = Field(default_factory=Interruption)
    preemptive_generation: bool = True


class IdleRePrompts(ConfigModel):
    """What is said into a caller's silence.

    Attributes:
        delay_ms: silence before each reprompt, in ms.
        max_prompts: reprompts before the goodbye.
        messages: said in order; the last one is repeated where there are fewer than `max_prompts`.
        goodbye: said when the caller stays silent after the last reprompt.
    """

    enabled: bool = True
    delay_ms: int = Field(8_000, ge=1_000, le=120_000)
    max_prompts: int = Field(2, ge=0, le=10)
    messages: list[str] = Field(
        default_factory=lambda: ["Are you still there?", "I can't hear you. Are you still there?"],
        max_length=10,
    )
    goodbye: str = Field("I can't hear anybody, so I'll hang up now. Goodbye.", max_length=500)


class SpokenFallbacks(ConfigModel):
    """What the caller hears when something of ours fails; rendered to audio before any call.

    Attributes:
        apology: said when a provider fails and the turn is lost.
        hold: said when a tool takes longer than a caller should wait in silence.
        goodbye: said when the call cannot go on.
        max_duration: said when the call has reached its longest duration.
    """

    apology: str = Field("Sorry, I didn't catch that. Could you say it again?", max_length=500)
    hold: str = Field("One moment, please.", max_length=500)
    goodbye: str = Field("I'm sorry, we have a technical problem. Please call again later. Goodbye.", max_length=500)
    max_duration: str = Field("I'm sorry, we have reached the longest a call can take. Goodbye.", max_length=500)


class BuiltinToolRef(ConfigModel):
    """A tool of the `tools/` folder, by the name of its function, with its configuration."""

    name: str = Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")
    config: dict[str, Any] = Field(default_factory=dict)


class AgentConfig(ConfigModel):
    """Everything that makes one agent: who it is, how it speaks and listens, what it may do.

    Attributes:
        system_prompt: instructions for the model, as text.
        prompt: instead of `system_prompt`: the name of a Markdown file in `prompts/`, without its ending.
        first_message: said as soon as the line is open; "" waits for the caller.
        numbers: E.164 numbers this agent answers.
        max_duration_seconds: 30 s to 4 h.
        record: whether the call is recorded.
    """

    name: str = Field(min_length=1, max_length=120)
    description: str | None = None
    system_prompt: str = Field("", max_length=100_000)
    prompt: str | None = None
    first_message: str = Field("Hello, how can I help you?", max_length=2_000)
    voice: str | None = Field(None, max_length=200)
    intent: Intent = Field(default_factory=Intent)
    stack_preferences: StackPreferences = Field(default_factory=StackPreferences)
    llm_options: LlmOptions = Field(default_factory=LlmOptions)
    stt_options: SttOptions = Field(default_factory=SttOptions)
    tts_options: TtsOptions = Field(default_factory=TtsOptions)
    turn_handling: TurnHandling = Field(default_factory=TurnHandling)
    idle_re_prompts: IdleRePrompts = Field(default_factory=IdleRePrompts)
    fallbacks: SpokenFallbacks = Field(default_factory=SpokenFallbacks)
    tools: list[BuiltinToolRef] = Field(default_factory=list, max_length=50)
    numbers: list[str] = Field(default_factory=list, max_length=1_000)
    max_duration_seconds: int = Field(3_600, ge=MIN_DURATION_SECONDS, le=MAX_DURATION_SECONDS)
    record: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("tools", mode="before")
    @classmethod
    def _names_alone_are_tools(cls, tools: object) -> object:
        if not isinstance(tools, list):
            return tools
        return [{"name": tool} if isinstance(tool, str) else tool for tool in tools]
