"""Sentences rendered to audio before they are needed, so they start at once, synthesiser or not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, APIError, tts

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.domain.agent import AgentConfig

logger = logging.getLogger("agent_worker.call")

RENDER_SECONDS = 15.0
CHUNK_SAMPLES = LINE_SAMPLE_RATE // 10
SILENCE_LEVEL = 200
"""Samples below this amplitude (of 32,767) at either end of a rendered sentence are silence."""


def phrases(agent: AgentConfig) -> list[str]:
    """Return every sentence of an agent that is known before a call, in the order it may be needed."""
    idle = agent.idle_re_prompts
    fixed = [
        agent.first_message,
        agent.fallbacks.apology,
        agent.fallbacks.goodbye,
        agent.fallbacks.hold,
        agent.fallbacks.max_duration,
    ]
    spoken = [*idle.messages, idle.goodbye] if idle.enabled else []
    return [text for text in dict.fromkeys(fixed + spoken) if text.strip()]


class SpeechCache:
    """Rendered sentences on disk, by voice and text; every process on the host shares them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "speech"

    def find(self, agent: AgentConfig, label: str, text: str) -> rtc.AudioFrame | None:
        """Return the sentence in this agent's voice as one frame at the line's rate, or None."""
        try:
            return _frame(self._path(agent, label, text).read_bytes())
        except FileNotFoundError:
            return None

    def missing(self, agent: AgentConfig, label: str) -> list[str]:
        """Return the agent's sentences that are not rendered yet."""
        return [text for text in phrases(agent) if not self._path(agent, label, text).exists()]

    async def stream(
        self, voice: tts.TTS[Any], agent: AgentConfig, label: str, text: str
    ) -> AsyncIterator[rtc.AudioFrame]:
        """Synthesise a sentence, yielding it as it comes at the line's rate, and keep it when it is complete.

        Raises:
            livekit.agents.APIError: the synthesiser failed.
        """
        parts: list[bytes] = []
        options = APIConnectOptions(max_retry=1, retry_interval=0.5, timeout=RENDER_SECONDS)
        resampler: rtc.AudioResampler | None = None
        async with voice.synthesize(text, conn_options=options) as stream:
            async for event in stream:
                frames = [event.frame]
                if event.frame.sample_rate != LINE_SAMPLE_RATE:
                    resampler = resampler or rtc.AudioResampler(event.frame.sample_rate, LINE_SAMPLE_RATE)
                    frames = resampler.push(event.frame)
                for frame in frames:
                    parts.append(bytes(frame.data))
                    yield frame
        for frame in resampler.flush() if resampler else []:
            parts.append(bytes(frame.data))
            yield frame
        if pcm := _trim(b"".join(parts)):
            self._keep(self._path(agent, label, text), pcm)

    async def render(self, voice: tts.TTS[Any], agent: AgentConfig, label: str, text: str) -> bool:
        """Synthesise a sentence and keep it; returns whether that worked."""
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                async for _ in self.stream(voice, agent, label, text):
                    pass
        except (APIError, TimeoutError) as error:
            logger.warning("sentence not rendered", extra={"voice": label, "error": type(error).__name__})
            return False
        return True

    def _keep(self, path: Path, pcm: bytes) -> None:
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(pcm)
            part.replace(path)
        except OSError as error:
            logger.error("sentence not kept", extra={"error": type(error).__name__})

    def _path(self, agent: AgentConfig, label: str, text: str) -> Path:
        options = agent.tts_options.model_dump_json()
        key = json.dumps([label, agent.voice, agent.intent.language, options, text])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pcm"


def bundled(name: str) -> rtc.AudioFrame:
    """Return a sentence that ships with the product, for when no voice of the agent's own can be had.

    Args:
        name: `apology`, `goodbye`, `hold` or `not_in_service`.
    """
    return _frame(resources.files("agent_worker.call").joinpath(f"clips/{name}.pcm").read_bytes())


async def chunks(frame: rtc.AudioFrame) -> AsyncIterator[rtc.AudioFrame]:
    """Yield a long frame in pieces of 100 ms, as a session takes them."""
    data = bytes(frame.data)
    size = CHUNK_SAMPLES * 2
    for start in range(0, len(data), size):
        yield _frame(data[start : start + size])


def _trim(pcm: bytes) -> bytes:
    """Cut silence from the front (down to 10 ms) and from the end (down to 200 ms): it is dead air to a caller."""
    samples = np.frombuffer(pcm, dtype=np.int16)
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > SILENCE_LEVEL)
    if not len(loud):
        return b""
    start = max(0, int(loud[0]) - LINE_SAMPLE_RATE // 100)
    end = min(len(samples), int(loud[-1]) + LINE_SAMPLE_RATE // 5)
    return samples[start:end].tobytes()


def _frame(pcm: bytes) -> rtc.AudioFrame:
    return rtc.AudioFrame(data=pcm, sample_rate=LINE_SAMPLE_RATE, num_channels=1, samples_per_channel=len(pcm) // 2)
