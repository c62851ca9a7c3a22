"""What a person on the phone does, and how what they heard is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.speech_cache import bundled
from agent_worker.errors import ControlPlaneError
from agent_worker.providers.first_clause import FirstClauseTokenizer
from agent_worker.testing.audio import ClipMatch, locate, resample, speech_segments, trim_silence
from agent_worker.testing.rtp import Playback
from agent_worker.testing.sip_phone import SipCall
from agent_worker.testing.voice import CALLER_VOICE, render
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import PHONE_RATE, Rig, describe

T = TypeVar("T")


async def say(call: SipCall, line: str) -> Playback:
    """Speak a line into the phone; returns when its last sample has left."""
    return await call.play(render(line, PHONE_RATE, voice=CALLER_VOICE))


async def ask(call: SipCall, line: str) -> float:
    """Speak a line and listen to the whole answer; returns the seconds from the line's end to the answer's first sound."""
    spoken = await say(call, line)
    assert spoken.ended_at is not None
    answered_at = await call.wait_speech(10, after=spoken.ended_at)
    await call.wait_silence(1.0)
    return answered_at - spoken.ended_at


async def greeted(call: SipCall) -> None:
    """Wait until the call is answered and the greeting has been spoken."""
    await call.wait_answered()
    await call.wait_speech()
    await call.wait_silence(1.0)


def find(call: SipCall, text: str) -> ClipMatch:
    """Find a sentence of the agent's in what the phone heard.

    Raises:
        AssertionError: it is not there.
    """
    match = locate(call.heard.pcm, render(text, PHONE_RATE), PHONE_RATE)
    assert match is not None and match.correlation > 0.5, f"{text!r} was not heard: {match}"
    return match


def heard_clip(call: SipCall, name: str) -> bool:
    """Whether a sentence that ships with the product was heard."""
    clip = np.frombuffer(bytes(bundled(name).data), dtype=np.int16)
    match = locate(call.heard.pcm, trim_silence(resample(clip, LINE_SAMPLE_RATE, PHONE_RATE), PHONE_RATE), PHONE_RATE)
    return match is not None and match.correlation > 0.5


def answered(call: SipCall, reply: str) -> bool:
    """Whether a reply of the model's was heard; it is spoken in the pieces the voice is handed."""
    return all(heard(call, piece) for piece in FirstClauseTokenizer("en").tokenize(reply))


def heard(call: SipCall, text: str) -> bool:
    """Whether a sentence of the agent's is in what the phone heard."""
    match = locate(call.heard.pcm, render(text, PHONE_RATE), PHONE_RATE)
    return match is not None and match.correlation > 0.5


def longest_silence(call: SipCall, since: float, until: float) -> float:
    """Return the longest stretch (s) in which the phone heard nothing between two moments (monotonic)."""
    record = call.heard
    pcm = record.pcm[: int(record.seconds_at(until) * PHONE_RATE)]
    start = record.seconds_at(since)
    edges = [start]
    for segment in speech_segments(pcm, PHONE_RATE):
        if segment.end > start:
            edges += [max(start, segment.start), segment.end]
    edges.append(record.seconds_at(until))
    return max(b - a for a, b in zip(edges[::2], edges[1::2], strict=True))


async def eventually(
    check: Callable[[], Awaitable[T]], *, seconds: float = 10.0, until: Callable[[T], bool] = bool
) -> T:
    """Ask again until the answer is good, at most for some seconds; returns the last answer."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = await check()
        if until(answer) or asyncio.get_running_loop().time() > deadline:
            return answer
        await asyncio.sleep(0.1)


async def ended_calls(rig: Rig, worker: WorkerProcess, count: int = 1, seconds: float = 15.0) -> list[dict[str, Any]]:
    """Return the worker's calls once `count` of them are over and reported."""

    def over(calls: Sequence[Mapping[str, Any]]) -> bool:
        return sum(call["ended_at"] is not None and call["report"] is not None for call in calls) >= count

    async def read() -> list[dict[str, Any]]:
        try:
            return await rig.calls(worker)
        except ControlPlaneError:
            return []  # the database is away, or not there yet

    calls = await eventually(read, seconds=seconds, until=over)
    assert over(calls), describe(calls) + worker.log()[-4000:]
    return calls


def event_types(call: Mapping[str, Any]) -> list[str]:
    """Return a call's event types in order."""
    return [event["event_type"] for event in call["events"]]


def words(call: Mapping[str, Any], source: str) -> list[str]:
    """Return what one side said, in order."""
    return [entry["text"] for entry in call["transcript"]["entries"] if entry["source"] == source]


def reason(call: Mapping[str, Any]) -> str:
    """Return why a call ended."""
    return str(call["metadata"]["disconnection_reason"])


def channels(path: Path) -> tuple[Any, Any]:
    """Return the left and the right channel of a recording, at 16 kHz."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16p", layout="stereo", rate=16_000)
        frames = [out.to_ndarray() for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    both = np.concatenate(frames, axis=1)
    return both[0], both[1]
