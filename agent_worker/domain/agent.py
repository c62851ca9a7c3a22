"""An agent's configuration: the same camelCase keys in a file, in the API and in `pipeline_config` (contract 3)."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator

from agent_worker.domain.config_model import ConfigModel, Metadata
from agent_worker.domain.lifecycle_hook import ExtractionField, LifecycleHooks, Secret
from agent_worker.domain.speech import (
    AudioOutput,
    BackgroundAudio,
    LlmOptions,
    SpeechNormalization,
    StackPreferences,
    SttOptions,
    TtsOptions,
)
from agent_worker.domain.tool_ref import ToolRef
from agent_worker.domain.turns import IdleRePrompts, SpokenFallbacks, TurnHandling

MIN_DURATION_SECONDS = 30
MAX_DURATION_SECONDS = 14_400
SYSTEM_PROMPT_CHARS = 100_000
FIRST_MESSAGE_CHARS = 2_000

VariableName = Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$")]
"""Name of a template variable; `system` is taken by the product."""
VariableValue = Annotated[str, Field(max_length=4_096)]


class Intent(ConfigModel):
    """What the call needs of its providers.

    Attributes:
        language: BCP 47, `en` or `en-US`; sets the language of recognition and of speech.
        optimize_for: which preset of `presets.yaml` names the providers where the agent names none.
        region: where in the world the call should be handled.
    """

    language: str = Field("en", pattern=r"^[a-z]{2}(-[A-Z]{2})?$")
    optimize_for: Literal["balanced", "accuracy", "latency", "quality", "cost"] = "balanced"
    region: str = Field("global", max_length=64)


class PromptVariable(ConfigModel):
    """One variable of the agent's templates.

    Attributes:
        name: what stands in the text, as in `{{ name }}`.
        default_value: used where a call gives none; without it the variable is required, "" makes it optional.
        description: for people.
    """

    name: VariableName
    default_value: VariableValue | None = None
    description: str | None = Field(None, max_length=1_000)


class AnsweringMachineDetection(ConfigModel):
    """Whether and how long we listen for a machine on an outbound call.

    Attributes:
        mode: `agent` = the worker listens; `carrier` = the trunk says; `disabled`.
        timeout_seconds: longest listening, s.
    """

    mode: Literal["agent", "carrier", "disabled"] = "agent"
    timeout_seconds: int = Field(8, ge=1, le=60)


class Telephony(ConfigModel):
    """How the call is routed and who is expected to answer.

    Attributes:
        region: from where in the world the call should be placed.
    """

    region: str | None = Field(None, max_length=64)
    amd: AnsweringMachineDetection = Field(default_factory=AnsweringMachineDetection)


class EndCall(ConfigModel):
    """Kept for clients that send it: hanging up is a tool like any other here.

    Attributes:
        enabled: whether the agent may hang up.
    """

    enabled: bool = True


class AgentConfig(ConfigModel):
    """Everything that makes one agent: who it is, how it speaks and listens, what it may do.

    Attributes:
        name: id of the agent where it is a file; unique among the files.
        description: for people.
        system_prompt: instructions for the model, as text; this or `prompt` is needed.
        prompt: instead of `system_prompt`: the name of a Markdown file in `prompts/`, without its ending.
        first_message: said as soon as the line is open; "" waits for the caller.
        voice: voice id, as the speech provider names it; none = the provider's own choice.
        timezone: IANA name; the time zone of `system.now` and the other times in templates.
        run_mode: `cascade` = a recogniser, a model and a voice; `s2s` = one speech-to-speech model.
        tools: what the agent can do; a name alone stands for `{name: …}`.
        tool_secrets: values for tools only; never in a prompt, a report or an event.
        numbers: E.164 numbers this agent answers, in quotes; `telephony.yaml` may give them instead.
        max_duration_seconds: longest call, s; then the caller hears `fallbacks.maxDuration`. Requests are clamped.
        record: whether the call is recorded; tell callers where the law asks for it.
        prompt_variables: the variables of `system_prompt` and `first_message`; they are then Liquid templates.
        variables: values of those variables; given at all, even empty, they make both texts templates.
        webhook_tags: tags of the call, by which workspace webhooks are chosen; kept in its metadata.
        extraction_fields: what the analysis after a call reads from its transcript.
        metadata: free data; copied to every call and handed to its webhooks.
    """

    name: str = Field(min_length=1, max_length=120)
    description: str | None = Field(None, max_length=2_000)
    system_prompt: str = Field("", max_length=SYSTEM_PROMPT_CHARS)
    prompt: str | None = Field(None, max_length=200)
    first_message: str = Field("Hello, how can I help you?", max_length=FIRST_MESSAGE_CHARS)
    voice: str | None = Field(None, max_length=200)
    timezone: str = Field("UTC", max_length=64)
    intent: Intent = Field(default_factory=Intent)
    stack_preferences: StackPreferences = Field(default_factory=StackPreferences)
    run_mode: Literal["cascade", "s2s"] = "cascade"
    llm_options: LlmOptions = Field(default_factory=LlmOptions)
    stt_options: SttOptions = Field(default_factory=SttOptions)
    tts_options: TtsOptions = Field(default_factory=TtsOptions)
    turn_handling: TurnHandling = Field(default_factory=TurnHandling)
    background_audio: BackgroundAudio = Field(default_factory=BackgroundAudio)
    audio_output: AudioOutput = Field(default_factory=AudioOutput)
    speech_normalization: SpeechNormalization = Field(default_factory=SpeechNormalization)
    idle_re_prompts: IdleRePrompts = Field(default_factory=IdleRePrompts)
    fallbacks: SpokenFallbacks = Field(default_factory=SpokenFallbacks)
    tools: list[ToolRef] = Field(default_factory=list, max_length=50)
    tool_secrets: Annotated[dict[VariableName, Secret], Field(max_length=32)] = Field(default_factory=dict)
    end_call: EndCall = Field(default_factory=EndCall)
    telephony: Telephony = Field(default_factory=Telephony)
    numbers: list[str] = Field(default_factory=list, max_length=1_000)
    max_duration_seconds: int = Field(3_600, ge=MIN_DURATION_SECONDS, le=MAX_DURATION_SECONDS)
    record: bool = True
    prompt_variables: list[PromptVariable] = Field(default_factory=list, max_length=100)
    variables: Annotated[dict[VariableName, VariableValue], Field(max_length=100)] | None = None
    webhooks: LifecycleHooks = Field(default_factory=LifecycleHooks)
    webhook_tags: Annotated[dict[str, str], Field(max_length=50)] = Field(default_factory=dict)
    extraction_fields: list[ExtractionField] = Field(default_factory=list, max_length=100)
    metadata: Metadata = Field(default_factory=dict)

    @field_validator("tools", mode="before")
    @classmethod
    def _names_alone_are_tools(cls, tools: object) -> object:
        if not isinstance(tools, list):
            return tools
        return [{"name": tool} if isinstance(tool, str) else tool for tool in tools]

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:  # unknown, a path, a folder of zones
            raise ValueError("must be an IANA time zone such as Europe/Berlin") from error
        return name

    @field_validator("variables", "prompt_variables", "tool_secrets")
    @classmethod
    def _system_is_taken(cls, value: object) -> object:
        names = [entry.name for entry in value] if isinstance(value, list) else list(value or ())  # type: ignore[call-overload]
        if "system" in names:
            raise ValueError("cannot name a variable 'system': the product's own values are under it")
        return value
