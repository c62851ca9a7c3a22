"""Transfers to a person: their vocabulary, what a request says, and what SIP's answers mean (contract 1.2 and 6)."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from agent_worker.domain.config_model import ConfigModel, Metadata
from agent_worker.domain.dialling import DIAL_POLICY, DialPolicy, NotDialled, check_form
from agent_worker.domain.refer_headers import ReferHeaders

MOST_ATTEMPTS = 20
"""Of one call: an agent that keeps on trying is an agent that dials in circles."""

ANNOUNCEMENT_OF_NOBODY = "One moment, I will put you through."
"""Said where the destination has no label."""

DEFAULT_RINGING_SECONDS = 25
VOICEMAIL_SECONDS = 10


class TransferKind(StrEnum):
    """Blind: the carrier takes the caller over. Warm: the person is asked first, and then joined to the caller."""

    BLIND = "blind"
    WARM = "warm"


class TransferStatus(StrEnum):
    """Where one attempt at one destination stands (contract 2.4)."""

    REQUESTED = "requested"
    SCREENING = "screening"
    BRIDGING = "bridging"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_STATUSES = frozenset({TransferStatus.REQUESTED, TransferStatus.SCREENING, TransferStatus.BRIDGING})
"""An attempt that is on its way; no other transfer of the call can begin."""


class TransferCause(StrEnum):
    """Why an attempt did not end with the caller and the person talking."""

    NO_ANSWER = "no_answer"
    BUSY = "busy"
    DECLINED = "declined"
    VOICEMAIL = "voicemail"
    INVALID_NUMBER = "invalid_number"
    REJECTED_BY_CARRIER = "rejected_by_carrier"
    CARRIER_ERROR = "carrier_error"
    DIAL_FAILED = "dial_failed"
    PERSON_HUNG_UP = "person_hung_up"
    CALLER_HUNG_UP = "caller_hung_up"
    CALL_ENDED = "call_ended"
    WORKER_LOST = "worker_lost"
    NOT_CONFIRMED = "not_confirmed"


_CAUSES: dict[int, TransferCause] = {
    486: TransferCause.BUSY,
    600: TransferCause.BUSY,
    480: TransferCause.NO_ANSWER,
    408: TransferCause.NO_ANSWER,
    487: TransferCause.NO_ANSWER,
    603: TransferCause.DECLINED,
    401: TransferCause.REJECTED_BY_CARRIER,
    403: TransferCause.REJECTED_BY_CARRIER,
    405: TransferCause.REJECTED_BY_CARRIER,
    407: TransferCause.REJECTED_BY_CARRIER,
    404: TransferCause.INVALID_NUMBER,
    410: TransferCause.INVALID_NUMBER,
    484: TransferCause.INVALID_NUMBER,
    604: TransferCause.INVALID_NUMBER,
}


def cause_of(sip_status_code: int | None) -> TransferCause:
    """Return what a final SIP answer that is no success says about the person (contract 2.6)."""
    if sip_status_code is None:
        return TransferCause.DIAL_FAILED
    if sip_status_code in _CAUSES:
        return _CAUSES[sip_status_code]
    return TransferCause.CARRIER_ERROR if 500 <= sip_status_code < 600 else TransferCause.DIAL_FAILED


REFER_UNKNOWN = frozenset({403, 405, 420, 501})
"""What a carrier answers that takes no REFER: forbidden, method not allowed, extension unknown, not implemented. 603 is
not among them, though some say it: a person's refusal looks the same."""


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Seconds = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=120)]
E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$")]


def _dialled(to: str, info: ValidationInfo) -> str:
    policy = (info.context or {}).get(DIAL_POLICY)
    try:
        if isinstance(policy, DialPolicy):
            policy.check(to)
        else:
            check_form(to)
    except NotDialled as error:
        raise ValueError(f"cannot be dialled: {str(error).removesuffix('.')}") from error
    return to


Target = Annotated[str, Field(min_length=3, max_length=255), AfterValidator(_dialled)]
"""Whom to call: well formed; held against the policy where the validation's context has one, and always before it is
dialled."""

AfterBridge = Literal["end_call", "return_to_assistant"]
"""What becomes of a caller whose person has hung up after they had been joined."""

ReferFallback = Literal["none", "dial"]
"""What becomes of a blind transfer whose carrier takes no REFER: it has failed, or the person is dialled."""

Prompt = Annotated[str, Field(max_length=8_000)]


class TransferDestination(ConfigModel):
    """One person or department a caller can be put through to.

    Attributes:
        to: E.164 number, `tel:` or `sip:` URI.
        label: what the agent and the model call it.
        outbound_trunk_id: LiveKit trunk the person is dialled over; none = the agent's or the only one.
        screening_prompt: what the person is asked; none = the transfer's.
        summary: what the person is told of the call; none = the transfer's, or one that is made of the call.
        metadata: kept with the attempt.
    """

    to: Target
    label: str | None = Field(None, max_length=120)
    outbound_trunk_id: str | None = Field(None, max_length=200)
    screening_prompt: Prompt | None = None
    summary: Prompt | None = None
    metadata: Metadata = Field(default_factory=dict)


class TransferFallback(ConfigModel):
    """What becomes of the caller when nobody takes them.

    Attributes:
        strategy: back to the agent, a message is taken, or the call ends.
        message: said to the caller first.
        take_message_prompt: with `take_message`, how the agent asks for it.
        hold_audio_url: what the caller hears on hold, where the transfer itself names nothing.
    """

    strategy: Literal["return_to_assistant", "take_message", "end_call"] = "return_to_assistant"
    message: str | None = Field(None, max_length=2_000)
    take_message_prompt: Prompt | None = None
    hold_audio_url: str | None = Field(None, max_length=2_048)


class VoicemailDetection(ConfigModel):
    """Whether a machine that answers for the person is told from the person.

    Attributes:
        mode: `agent`: the screening agent can say that it hears a machine; `amd`: a detector decides before anything
            is said; `disabled`: neither.
        enabled: False is `disabled`.
        timeout_seconds: whoever has neither spoken nor pressed a key for so long after our opening declines; it also
            bounds the detector, from when the phone is picked up. Nothing follows from it where this is disabled.
    """

    mode: Literal["agent", "amd", "disabled"] = "agent"
    enabled: bool = True
    timeout_seconds: Seconds = VOICEMAIL_SECONDS

    @property
    def how(self) -> Literal["agent", "amd", "disabled"]:
        """The mode in force."""
        return self.mode if self.enabled else "disabled"


class TransferPlan(ConfigModel):
    """One transfer, whoever asked for it.

    Attributes:
        reason: why, in the words of whoever asked.
        announcement: said to the caller first; "" = nothing.
        after_bridge: what becomes of the caller once the person has hung up.
        transcribe: what caller and person say to each other goes into the transcript.
        destinations: tried in order until somebody takes the caller.
        from_: number shown to the person; none = the number the caller dialled.
        ringing_timeout: how long each destination may ring, s.
        headers: SIP headers of a REFER.
        play_dialtone: the caller hears ringing while a REFER is on its way.
        hold_audio_url: heard by the caller meanwhile; none = the fallback's, else the music that ships.
        refer_fallback: of a blind one; none = what the settings say.
    """

    kind: TransferKind
    destinations: list[TransferDestination] = Field(min_length=1, max_length=10)
    from_: E164 | None = Field(None, alias="from")
    outbound_trunk_id: str | None = Field(None, max_length=200)
    screening_prompt: Prompt | None = None
    summary: Prompt | None = None
    reason: str = Field("", max_length=2_000)
    announcement: str = Field("", max_length=1_000)
    ringing_timeout: Seconds = DEFAULT_RINGING_SECONDS
    headers: ReferHeaders = Field(default_factory=dict)
    play_dialtone: bool = False
    hold_audio_url: str | None = Field(None, max_length=2_048)
    fallback: TransferFallback = Field(default_factory=TransferFallback)
    voicemail_detection: VoicemailDetection = Field(default_factory=VoicemailDetection)
    refer_fallback: ReferFallback | None = None
    after_bridge: AfterBridge = "end_call"
    transcribe: bool = False
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _blind_has_one(self) -> TransferPlan:
        if self.kind is TransferKind.BLIND and len(self.destinations) != 1:
            raise ValueError("a blind transfer has one destination")
        return self


class TransferConfig(ConfigModel):
    """What an agent's `transfer_call` tool may do (contract 4.5); the model chooses a label, never a number.

    Attributes:
        mode: none = warm where there are several destinations or a screening prompt, else blind.
        destinations: the model chooses one; a warm transfer goes on with the others, in their order.
        allow_arbitrary: the model may also name a number of its own; who is dialled at all limits it as it does all.
        announcement: said before the caller is put on hold or handed over; `{destination}` is the label.
        after_bridge: what becomes of a caller whose person has hung up.
        transcribe: what caller and person say to each other goes into the transcript.
        key: what a caller presses to be put through at once; none = no key does.
        simulated: nobody is called, and the model is told to say so.
    """

    mode: Literal["blind", "warm"] | None = None
    destinations: list[TransferDestination] = Field(default_factory=list, max_length=10)
    allow_arbitrary: bool = False
    from_: E164 | None = Field(None, alias="from")
    outbound_trunk_id: str | None = Field(None, max_length=200)
    screening_prompt: Prompt | None = None
    ringing_timeout: Seconds = DEFAULT_RINGING_SECONDS
    fallback: TransferFallback = Field(default_factory=TransferFallback)
    voicemail_detection: VoicemailDetection = Field(default_factory=VoicemailDetection)
    hold_audio_url: str | None = Field(None, max_length=2_048)
    play_dialtone: bool = False
    headers: ReferHeaders = Field(default_factory=dict)
    refer_fallback: ReferFallback | None = None
    after_bridge: AfterBridge = "end_call"
    transcribe: bool = False
    announcement: str = Field("One moment, I will put you through to {destination}.", max_length=500)
    key: Annotated[str, Field(pattern=r"^[0-9*#]$")] | None = "0"
    simulated: bool = False

    @field_validator("destinations")
    @classmethod
    def _can_be_told_apart(cls, destinations: list[TransferDestination]) -> list[TransferDestination]:
        labels = [(destination.label or destination.to).casefold() for destination in destinations]
        if len(set(labels)) < len(labels):
            raise ValueError("must have labels that differ, for the model chooses by them")
        return destinations

    @property
    def kind(self) -> TransferKind:
        """How the caller is put through."""
        if self.mode is not None:
            return TransferKind(self.mode)
        warm = len(self.destinations) > 1 or self.screening_prompt is not None
        return TransferKind.WARM if warm else TransferKind.BLIND

    def find(self, wanted: str) -> TransferDestination | None:
        """Return whom a model, or a caller, means; "" is the first. None where nobody here is called so."""
        for destination in self.destinations:
            if wanted.casefold() in ("", (destination.label or destination.to).casefold()):
                return destination
        if self.allow_arbitrary:
            with contextlib.suppress(ValidationError):
                return TransferDestination(to=wanted)
        return None

    def plan(self, chosen: TransferDestination, *, reason: str, summary: str) -> TransferPlan:
        """Return the transfer to this destination, and where it is warm and one of these, to those after it."""
        listed = any(destination is chosen for destination in self.destinations)
        others = [destination for destination in self.destinations if listed and destination is not chosen]
        kind = self.kind
        return TransferPlan(
            kind=kind,
            destinations=[chosen, *others] if kind is TransferKind.WARM else [chosen],
            from_=self.from_,
            outbound_trunk_id=self.outbound_trunk_id,
            screening_prompt=self.screening_prompt,
            summary=summary or None,
            reason=reason,
            announcement=self._announced(chosen.label),
            ringing_timeout=self.ringing_timeout,
            headers=self.headers,
            play_dialtone=self.play_dialtone,
            hold_audio_url=self.hold_audio_url,
            fallback=self.fallback,
            voicemail_detection=self.voicemail_detection,
            refer_fallback=self.refer_fallback,
            after_bridge=self.after_bridge,
            transcribe=self.transcribe,
        )

    def _announced(self, label: str | None) -> str:
        if "{destination}" not in self.announcement:
            return self.announcement
        return self.announcement.replace("{destination}", label) if label else ANNOUNCEMENT_OF_NOBODY


def dial_uri(to: str) -> str:
    """Return a destination as a REFER names it: `tel:` for a number, a `sip:` URI as it is."""
    return to if to.startswith(("tel:", "sip:", "sips:")) else f"tel:{to}"
