"""Who speaks when, what is said into silence, and what is said when something of ours fails."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from agent_worker.domain.config_model import ConfigModel

Sentence = Annotated[str, Field(max_length=500)]


class Endpointing(ConfigModel):
    """How long a pause ends a turn, in seconds.

    Attributes:
        min_delay: shortest pause that ends a turn, s; none = 0.25.
        max_delay: longest pause before a turn counts as over, s; none = 1.2.
    """

    min_delay: float | None = Field(None, ge=0, le=10)
    max_delay: float | None = Field(None, ge=0, le=10)


class Interruption(ConfigModel):
    """When the caller may talk over the agent.

    Attributes:
        enabled: whether the caller may talk over the agent at all.
        mode: `adaptive` needs a model in LiveKit's cloud and works like `vad` here.
        min_duration: seconds of speech that count as an interruption; none = 0.4.
        min_words: recognised words that count as one; 0 or none = speech alone is enough.
    """

    enabled: bool = True
    mode: Literal["adaptive", "vad"] = "vad"
    min_duration: float | None = Field(None, ge=0, le=10)
    min_words: int | None = Field(None, ge=0, le=20)


class VoiceActivity(ConfigModel):
    """Which detector tells speech from silence; kept with the call, the worker's setting decides.

    Attributes:
        provider: the detector.
    """

    provider: Literal["silero", "ai-coustics"] = "silero"


class NoiseCancellation(ConfigModel):
    """Cleaning of the caller's audio; kept with the call, not used yet.

    Attributes:
        enabled: whether the audio is cleaned.
        model: what cleans it.
    """

    enabled: bool = False
    model: Literal["quail", "quail-voice-focus"] | None = None


class TurnHandling(ConfigModel):
    """Who speaks when (contract 3.4).

    Attributes:
        turn_detection: `audio` = the local end-of-turn model, also `true`; `vad` = silence alone, also `false`;
            `stt` = the recogniser's own endpointing.
        preemptive_generation: begin the reply while the end of the turn is still being judged.
        profile: `ivr` and `ivr_patient` are for talking to machines.
        context_threshold: let what was said so far weigh in when the end of a turn is judged.
        greet_first: outbound: greet at once, or wait for the verdict on who answered.
        on_machine: outbound: what to do when a machine answers.
        vad: which detector tells speech from silence.
        noise_cancellation: cleaning of the caller's audio.
    """

    turn_detection: Literal["audio", "vad", "stt"] = "audio"
    endpointing: Endpointing = Field(default_factory=Endpointing)
    interruption: Interruption = Field(default_factory=Interruption)
    preemptive_generation: bool = True
    profile: Literal["conversational", "ivr", "ivr_patient"] = "conversational"
    context_threshold: bool | None = None
    greet_first: bool = True
    on_machine: Literal["hangup", "leave_message", "continue"] | None = None
    vad: VoiceActivity | None = None
    noise_cancellation: NoiseCancellation | None = None

    @field_validator("turn_detection", mode="before")
    @classmethod
    def _on_or_off(cls, value: object) -> object:
        if isinstance(value, bool):
            return "audio" if value else "vad"
        return value


class IdleRePrompts(ConfigModel):
    """What is said into a caller's silence.

    Attributes:
        enabled: whether anything is said into silence, and the call ended after it.
        delay_ms: silence before each reprompt, in ms.
        max_prompts: reprompts before the goodbye.
        messages: said in order; the last one is repeated where there are fewer than `max_prompts`.
        goodbye: said when the caller stays silent after the last reprompt; then the call ends as `idle`.
    """

    enabled: bool = True
    delay_ms: int = Field(8_000, ge=1_000, le=120_000)
    max_prompts: int = Field(2, ge=0, le=10)
    messages: list[Sentence] = Field(
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
