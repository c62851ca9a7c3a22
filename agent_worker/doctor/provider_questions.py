"""One small real request to a recogniser, a language model and a voice, and what their errors mean."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, APIStatusError, APITimeoutError, llm, stt, tts

SENTENCE = "Hello."
QUESTION = "Reply with the single word: ready"
ONE_ATTEMPT = APIConnectOptions(max_retry=0, timeout=10.0)
CHUNK_SECONDS = 0.05
TRAILING_SECONDS = 1.0
"""Silence after the sentence: recognisers end an utterance on it."""

QUIET_AMPLITUDE = 200
ENOUGH_CHARACTERS = 60


@dataclass(frozen=True)
class Reply:
    """How a provider answered.

    Attributes:
        first_ms: from the request to the first token, word or audio, ms; of a recogniser from the end of the speech.
        said: what was said or heard, cut short; "" for a voice.
        audio: of a voice: what it spoke.
    """

    first_ms: int
    said: str = ""
    audio: rtc.AudioFrame | None = None


class NothingSaid(Exception):
    """The provider took the request and answered with nothing."""


async def ask_voice(voice: tts.TTS[Any]) -> Reply:
    """Have one word spoken.

    Raises:
        NothingSaid: no audio came, or only silence.
        livekit.agents.APIError: the provider failed.
    """
    started = time.monotonic()
    first: float | None = None
    frames: list[rtc.AudioFrame] = []
    async with voice.synthesize(SENTENCE, conn_options=ONE_ATTEMPT) as stream:
        async for event in stream:
            first = first or time.monotonic()
            frames.append(event.frame)
    if first is None:
        raise NothingSaid("no audio came")
    spoken = rtc.combine_audio_frames(frames)
    if int(np.abs(np.frombuffer(spoken.data, dtype=np.int16).astype(np.int32)).max(initial=0)) < QUIET_AMPLITUDE:
        raise NothingSaid("the audio is silent")
    return Reply(_ms(first - started), audio=spoken)


async def ask_model(model: llm.LLM[Any]) -> Reply:
    """Have one word written.

    Raises:
        NothingSaid: no text came.
        livekit.agents.APIError: the provider failed.
    """
    context = llm.ChatContext.empty()
    context.add_message(role="user", content=QUESTION)
    started = time.monotonic()
    first: float | None = None
    said = ""
    async with model.chat(chat_ctx=context, conn_options=ONE_ATTEMPT) as stream:
        async for chunk in stream:
            if chunk.delta is not None and chunk.delta.content:
                first = first or time.monotonic()
                said += chunk.delta.content
            if len(said) >= ENOUGH_CHARACTERS:
                break
    if first is None:
        raise NothingSaid("no text came")
    return Reply(_ms(first - started), said.strip()[:ENOUGH_CHARACTERS])


async def ask_recogniser(recogniser: stt.STT[Any], speech: rtc.AudioFrame) -> Reply:
    """Have a spoken sentence written down.

    Raises:
        NothingSaid: it was taken and nothing was recognised.
        livekit.agents.APIError: the provider failed.
    """
    if not recogniser.capabilities.streaming:
        started = time.monotonic()
        event = await recogniser.recognize(speech, conn_options=ONE_ATTEMPT)
        return _heard([event], started)
    events: list[stt.SpeechEvent] = []
    async with recogniser.stream(conn_options=ONE_ATTEMPT) as stream:
        spoken: list[float] = []
        speaking = asyncio.create_task(_speak(stream, speech, spoken))
        try:
            async for event in stream:
                events.append(event)
                if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and _words(event):
                    break
        finally:
            speaking.cancel()
    return _heard(events, spoken[0] if spoken else time.monotonic())


async def _speak(stream: stt.RecognizeStream, speech: rtc.AudioFrame, spoken: list[float]) -> None:
    """Play the sentence at the speed it was spoken and silence after it; note when the sentence ended."""
    silence = b"\0" * (int(speech.sample_rate * TRAILING_SECONDS) * 2)
    due = time.monotonic()
    for data in (bytes(speech.data), silence):
        for chunk in _chunks(data, speech.sample_rate):
            stream.push_frame(chunk)
            due += CHUNK_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        spoken.append(time.monotonic())
    stream.end_input()


def _chunks(data: bytes, rate: int) -> Iterator[rtc.AudioFrame]:
    size = int(rate * CHUNK_SECONDS) * 2
    for start in range(0, len(data), size):
        part = data[start : start + size]
        yield rtc.AudioFrame(part, rate, 1, len(part) // 2)


def _words(event: stt.SpeechEvent) -> str:
    return event.alternatives[0].text.strip() if event.alternatives else ""


def _heard(events: list[stt.SpeechEvent], since: float) -> Reply:
    said = " ".join(
        _words(event) for event in events if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and _words(event)
    )
    if not said:
        raise NothingSaid("it heard a spoken sentence and recognised no word")
    return Reply(max(0, _ms(time.monotonic() - since)), said[:ENOUGH_CHARACTERS])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def explain_provider(
    error: BaseException, *, key: str | None, base_url: str | None, secrets: Mapping[str, str]
) -> tuple[str, str, str]:
    """Return code, cause and remedy of a provider's failure; the cause reads on from its name.

    Args:
        key: environment variable of the key, where the vendor has one.
        base_url: environment variable of the address, where it is set.
        secrets: values that must not be repeated, by the name that stands for them.
    """
    status = _http_status(error)
    said = _scrubbed(_told(error), secrets)
    quoted = f" and says: {said}" if said else ""
    key_named = key or "the key the plugin reads"
    if isinstance(error, NothingSaid):
        return "nothing_said", f"answers, but {error}", "Look at the model, voice and language the agent names."
    if status in (401, 403):
        return "wrong_key", f"refuses the key (HTTP {status})", f"Correct {key_named}; it may be for another account."
    if status == 402 or status == 429:
        return "quota", f"takes no more requests (HTTP {status}){quoted}", "Look at the account's credit and limits."
    if status == 404:
        also = f", or correct {base_url}" if base_url else ""
        return (
            "unknown_model",
            f"knows no such model, voice or address (HTTP 404){quoted}",
            f"Correct the model or voice in the agent{also}.",
        )
    if status is not None and 400 <= status < 500:
        return (
            "request_refused",
            f"refuses the request (HTTP {status}){quoted}",
            "Correct the model, voice, language or options the agent names.",
        )
    if status is not None and status >= 500:
        return "provider_down", f"fails (HTTP {status})", "Wait, or list a second provider in allowedProviders."
    where = f"{base_url} and " if base_url else ""
    if isinstance(error, TimeoutError | asyncio.TimeoutError | APITimeoutError):
        return "timeout", "does not answer in time", f"Look at {where}the network, or list a second provider."
    return (
        "unreachable",
        f"cannot be reached or broke off ({_root(error)})",
        f"Look at {where}the network from this machine.",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(seen) < 10:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _http_status(error: BaseException) -> int | None:
    for link in _chain(error):
        for value in (getattr(link, "status_code", None), getattr(link, "status", None)):
            if isinstance(value, int) and 400 <= value < 600:
                return value
    return None


def _told(error: BaseException) -> str:
    for link in _chain(error):
        if isinstance(link, APIStatusError):
            body = link.body if isinstance(link.body, Mapping) else {}
            inner = body.get("error")
            told = inner.get("message") if isinstance(inner, Mapping) else inner or body.get("message") or link.message
            return re.sub(r"\s+", " ", str(told)).strip().rstrip(".")[:200]
    return ""


def _root(error: BaseException) -> str:
    return type(list(_chain(error))[-1]).__name__


def _scrubbed(text: str, secrets: Mapping[str, str]) -> str:
    for name, value in secrets.items():
        if len(value) >= 6:
            text = text.replace(value, f"<{name}>")
    # keys are also repeated in part: "Incorrect API key provided: sk-ab***yz"
    return re.sub(r"\b(sk|pk|key|Bearer|Token)[-_ ][\w*.-]{6,}", r"\1-…", text)
