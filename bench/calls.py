"""One measured call: a caller who listens, speaks when the agent has finished, and notes every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_worker.testing.audio import Pcm, locate, onset
from agent_worker.testing.rtp import RATE, Heard
from agent_worker.testing.sip_call import SipCall
from agent_worker.testing.sip_phone import CallFailed, SipPhone
from agent_worker.testing.voice import CALLER_VOICE, render
from bench.script import GREETING, Exchange

ANSWER_SECONDS = 30.0
REPLY_SECONDS = 10.0
# Between the agent's last word and the caller's first.
CALLER_PAUSE = 1.2
# An answer is known by its first second: under load the rest may come in pieces.
OPENING_SECONDS = 1.0
MIN_CORRELATION = 0.4
# What is missing of a first syllable when people notice.
CLIPPED_SECONDS = 0.04


@dataclass
class Turn:
    """One answer of the agent; moments are monotonic."""

    exchange: Exchange
    spoke_at: float
    stopped_at: float
    heard_at: float | None = None

    @property
    def seconds(self) -> float | None:
        """From the caller's last sample sent to the agent's first sample heard."""
        return None if self.heard_at is None else self.heard_at - self.stopped_at


@dataclass
class MeasuredCall:
    """What one call was like at the ear; durations in seconds."""

    worker: str
    at_once: int
    failure: str = ""
    invite_to_greeting: float | None = None
    pickup_to_greeting: float | None = None
    invite_to_pickup: float | None = None
    clipped: bool | None = None
    turns: list[Turn] = field(default_factory=list)
    cpu_share: float | None = None
    memory_mib: float | None = None

    @property
    def complete(self) -> bool:
        """Whether the greeting and the right answer to every line were heard."""
        return not self.failure


async def converse(phone: SipPhone, number: str, call: MeasuredCall, exchanges: Sequence[Exchange]) -> SipCall:
    """Call, listen, speak every line, and return the call still up; what went wrong is in `failure`."""
    live = await phone.dial(number, from_="+15559999")
    try:
        await live.wait_answered(ANSWER_SECONDS)
        await live.wait_speech(REPLY_SECONDS, after=live.moments.answered_at)
        await live.wait_silence(CALLER_PAUSE)
        for exchange in exchanges:
            await _exchange(live, exchange, call)
    except CallFailed as failed:
        call.failure = f"{failed.status} {failed.reason}".strip()
    except TimeoutError:
        call.failure = "silence"
    return live


async def _exchange(live: SipCall, exchange: Exchange, call: MeasuredCall) -> None:
    spoken = await live.play(render(exchange.line, RATE, voice=CALLER_VOICE))
    assert spoken.started_at is not None and spoken.ended_at is not None
    turn = Turn(exchange, spoken.started_at, spoken.ended_at)
    call.turns.append(turn)
    await live.wait_speech(REPLY_SECONDS, after=spoken.ended_at)
    await live.wait_silence(CALLER_PAUSE)


async def finish(live: SipCall, call: MeasuredCall) -> None:
    """Hang up, and read the moments off the recording."""
    await live.hang_up()
    heard = live.heard
    moments = live.moments
    if moments.answered_at is None or moments.invite_at is None:
        return
    call.invite_to_pickup = moments.answered_at - moments.invite_at
    until = call.turns[0].spoke_at if call.turns else None
    # Nothing else is said before the caller speaks, so any speech is the greeting, whole or not.
    greeting = _before(heard, until)
    first = onset(greeting, heard.rate)
    if first is not None:
        call.invite_to_greeting = heard.moment(first) - moments.invite_at
        call.pickup_to_greeting = heard.moment(first) - moments.answered_at
        call.clipped = await asyncio.to_thread(_clipped, greeting)
    for turn in call.turns:
        turn.heard_at = await asyncio.to_thread(_find, heard, turn.exchange.openings, turn.stopped_at)
    if not call.failure and (first is None or any(turn.heard_at is None for turn in call.turns)):
        call.failure = "words missing"


def _find(heard: Heard, texts: list[str], after: float) -> float | None:
    """Return when one of the texts began to be heard after a moment, or None."""
    if not heard.pcm.size:
        return None
    begin = int(heard.seconds_at(after) * heard.rate)
    pcm = heard.pcm[begin:]
    matches = [locate(pcm, render(text, RATE)[: int(OPENING_SECONDS * RATE)], RATE) for text in texts]
    best = max((match for match in matches if match is not None), key=lambda m: m.correlation, default=None)
    if best is None or best.correlation < MIN_CORRELATION:
        return None
    return heard.moment(begin / heard.rate + best.offset + best.missing_head)


def _before(heard: Heard, until: float | None) -> Pcm:
    return heard.pcm if until is None else heard.pcm[: int(heard.seconds_at(until) * heard.rate)]


def _clipped(pcm: Pcm) -> bool:
    match = locate(pcm, render(GREETING, RATE)[: int(OPENING_SECONDS * RATE)], RATE)
    if match is None or match.correlation < MIN_CORRELATION:
        return True
    return match.missing_head >= CLIPPED_SECONDS or match.offset < -CLIPPED_SECONDS
