"""Sentences rendered to audio before they are needed, so they start at once, synthesiser or not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import AsyncIterator, Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents import APIConnectOptions, APIError, tts

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.speech_normalization import spoken_form
from agent_worker.domain.agent import AgentConfig
from agent_worker.providers.stack import Stack

logger = logging.getLogger("agent_worker.call")

RENDER_SECONDS = 15.0
CHUNK_SAMPLES = LINE_SAMPLE_RATE // 10
SILENCE_LEVEL = 200
"""Samples below this amplitude (of 32,767) at either end of a rendered sentence are silence."""

UNUSED_SECONDS = 7 * 86_400.0
MAX_REMOVED = 10_000
"""How many sentences nobody needs are removed at one look; the next look goes on."""

_TEMPLATE = re.compile(r"\{\{|\{%")
_OURS = re.compile(r"[0-9a-f]{32}\.(?:pcm|[0-9]+\.part)")


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
    # a template is rendered once it is filled in
    return [text for text in dict.fromkeys(fixed + spoken) if text.strip() and not _TEMPLATE.search(text)]


class SpeechCache:
    """Rendered sentences on disk, by voice and what it says; every process on the host shares them.

    What is on disk was rendered ahead from configuration; what is spoken on a call may be about the caller, and stays
    in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "speech"

    def find(self, agent: AgentConfig, voice_label: str, text: str) -> rtc.AudioFrame | None:
        """Return the sentence in this agent's voice as one frame at the line's rate, or None.

        Args:
            voice_label: `Stack.own_voice_label`.
        """
        try:
            return _frame(self._path(agent, voice_label, text).read_bytes())
        except FileNotFoundError:
            return None

    def missing(self, agent: AgentConfig, voice_label: str, extra: Sequence[str] = ()) -> list[str]:
        """Return the agent's sentences, and which of the extra ones, that are not rendered yet."""
        return [text for text in _wanted(agent, extra) if not self._path(agent, voice_label, text).exists()]

    def files(self, agent: AgentConfig, voice_label: str, extra: Sequence[str] = ()) -> set[str]:
        """Return the names of the files that hold the agent's sentences and the extra ones, rendered or not."""
        return {self._path(agent, voice_label, text).name for text in _wanted(agent, extra)}

    def mark_needed(self, files: Collection[str]) -> None:
        """Note on disk that these files are needed now: a process with other agents leaves them alone for a week."""
        for name in files:
            with contextlib.suppress(OSError):
                os.utime(self._folder / name)

    def tidy(self, needed: Collection[str]) -> int:
        """Remove sentences that nobody has needed for a week, whichever process rendered them; returns how many.

        Args:
            needed: names of files to leave alone whatever their age.
        """
        now = time.time()
        removed = 0
        try:
            with os.scandir(self._folder) as found:
                for entry in found:
                    if removed == MAX_REMOVED:
                        break
                    if _OURS.fullmatch(entry.name) and entry.name not in needed:
                        removed += _removed_if_old(entry, now)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.error("rendered speech not tidied", extra={"error": type(error).__name__})
        return removed

    async def stream(self, stack: Stack, agent: AgentConfig, text: str) -> AsyncIterator[rtc.AudioFrame]:
        """Synthesise a sentence, yielding it as it comes at the line's rate; it is not kept.

        Raises:
            livekit.agents.APIError: the synthesiser failed, and every other that could take over.
        """
        retries = 0 if stack.voices.fails_over else 1
        async for frame in _synthesised(stack.tts, spoken_form(agent.speech_normalization, text), retries):
            yield frame

    async def render(self, stack: Stack, agent: AgentConfig, text: str) -> bool:
        """Synthesise a sentence in the agent's own voice and keep it; returns whether that worked.

        Args:
            text: stands in the configuration as it is, and says nothing about any caller.
        """
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                async for frame in _synthesised(stack.own_voice, spoken_form(agent.speech_normalization, text), 1):
                    parts.append(bytes(frame.data))
        except (APIError, TimeoutError) as error:
            voice = stack.own_voice_label
            logger.warning("sentence not rendered", extra={"voice": voice, "error": type(error).__name__})
            return False
        self._keep(self._path(agent, stack.own_voice_label, text), _trim(b"".join(parts)))
        return True

    async def spoken(self, stack: Stack, agent: AgentConfig, text: str, timeout: float) -> rtc.AudioFrame | None:
        """Return a sentence as one frame: rendered before, else synthesised within the time (s), else None."""
        if (rendered := self.find(agent, stack.own_voice_label, text)) is not None:
            return rendered
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(timeout):
                async for frame in self.stream(stack, agent, text):
                    parts.append(bytes(frame.data))
        except (APIError, TimeoutError) as error:
            logger.warning("sentence not spoken", extra={"voice": stack.own_voice_label, "error": type(error).__name__})
            return None
        pcm = _trim(b"".join(parts))
        return _frame(pcm) if pcm else None

    def _keep(self, path: Path, pcm: bytes) -> None:
        if not pcm:
            return
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(pcm)
            part.replace(path)
        except OSError as error:
            logger.error("sentence not kept", extra={"error": type(error).__name__})

    def _path(self, agent: AgentConfig, voice_label: str, text: str) -> Path:
        said = spoken_form(agent.speech_normalization, text)
        options = [agent.tts_options.speed, agent.tts_options.provider_options]
        key = json.dumps([voice_label, agent.voice, agent.intent.language, options, said], sort_keys=True)
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pcm"


def _wanted(agent: AgentConfig, extra: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*phrases(agent), *(text for text in extra if text.strip())]))


def _removed_if_old(entry: os.DirEntry[str], now: float) -> bool:
    try:
        about = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(about.st_mode) or now - about.st_mtime < UNUSED_SECONDS:
            return False
        Path(entry.path).unlink()
    except OSError:  # another process was faster, or the disk is read-only
        return False
    return True


async def _synthesised(voice: tts.TTS[Any], said: str, retries: int) -> AsyncIterator[rtc.AudioFrame]:
    """Yield a sentence at the line's rate."""
    options = APIConnectOptions(max_retry=retries, retry_interval=0.5, timeout=RENDER_SECONDS)
    resampler: rtc.AudioResampler | None = None
    async with voice.synthesize(said, conn_options=options) as stream:
        async for event in stream:
            if event.frame.sample_rate == LINE_SAMPLE_RATE:
                yield event.frame
                continue
            resampler = resampler or rtc.AudioResampler(event.frame.sample_rate, LINE_SAMPLE_RATE)
            for frame in resampler.push(event.frame):
                yield frame
    for frame in resampler.flush() if resampler else []:
        yield frame


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
