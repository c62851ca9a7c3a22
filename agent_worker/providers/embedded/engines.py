"""Speech synthesisers installed on this machine, each run as its own process: flite and espeak-ng."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import wave
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
SPEAK_TIMEOUT_SECONDS = 10.0
FLITE_VOICES = frozenset({"slt", "rms", "awb", "kal16", "kal"})
DEFAULT_VOICE = "slt"
ESPEAK_WORDS_PER_MINUTE = 165
SILENCE_LEVEL = 200
"""Samples below this amplitude (of 32,767) at the beginning are silence."""


class EngineError(Exception):
    """A synthesiser did not give any audio."""


def installed_engine(wanted: str = "auto") -> str | None:
    """Return the engine to use, None where the machine has none of those wanted."""
    for engine in ("flite", "espeak-ng"):
        if wanted in ("auto", engine) and shutil.which(engine):
            return engine
    return None


def known_voice(engine: str, voice: str | None, language: str = "en") -> str:
    """Return the voice where the engine has it, else its default: flite takes unknown names for files."""
    if engine == "flite":
        return voice if voice in FLITE_VOICES else DEFAULT_VOICE
    return "en-us" if language == "en" else language.lower()


async def speak(engine: str, text: str, *, voice: str | None = None, speed: float = 1.0, language: str = "en") -> bytes:
    """Return the text as speech: 16-bit mono PCM at 16 kHz.

    Args:
        speed: 1.0 is the engine's own.
        language: BCP 47 tag; flite speaks English whatever it is.

    Raises:
        EngineError: the engine failed, gave nothing, or took longer than 10 s.
    """
    with tempfile.NamedTemporaryFile(prefix="agent-worker-", suffix=".wav") as file:
        # text goes in by stdin: arguments can be read by everybody on the machine
        if engine == "flite":
            stretch = f"duration_stretch={1 / speed:.3f}"
            command = ["flite", "-voice", known_voice(engine, voice), "--setf", stretch]
            command += ["-f", "/dev/stdin", "-o", file.name]
        else:
            rate = str(round(ESPEAK_WORDS_PER_MINUTE * speed))
            command = ["espeak-ng", "--stdin", "-v", known_voice(engine, voice, language), "-s", rate, "-w", file.name]
        # without a line end flite leaves out the last word of a text of several sentences
        await _run(command, " ".join(text.split()) + "\n")
        return _from_first_sound(await asyncio.to_thread(_read_wave, Path(file.name)))


async def _run(command: list[str], text: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise EngineError(f"{command[0]} cannot be started: {error}") from error
    try:
        async with asyncio.timeout(SPEAK_TIMEOUT_SECONDS):
            await process.communicate(text.encode())
    except TimeoutError:
        raise EngineError(f"{command[0]} took longer than {SPEAK_TIMEOUT_SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise EngineError(f"{command[0]} ended with {process.returncode}")


def _from_first_sound(pcm: bytes) -> bytes:
    """Cut the silence a synthesiser begins with, down to 10 ms: to a caller it is dead air."""
    samples = np.abs(np.frombuffer(pcm, dtype=np.int16).astype(np.int32))
    loud = np.flatnonzero(samples > SILENCE_LEVEL)
    start = max(0, int(loud[0]) - SAMPLE_RATE // 100) if len(loud) else 0
    return pcm[2 * start :]


def _read_wave(path: Path) -> bytes:
    try:
        with wave.open(str(path)) as file:
            rate: int = file.getframerate()
            pcm: bytes = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise EngineError(f"no audio: {error}") from error
    if not pcm:
        raise EngineError("no audio")
    if rate == SAMPLE_RATE:
        return pcm
    from livekit import rtc  # a control plane that lists voices does without

    resampler = rtc.AudioResampler(rate, SAMPLE_RATE)
    frame = rtc.AudioFrame(pcm, rate, 1, len(pcm) // 2)
    return b"".join(part.data.tobytes() for part in [*resampler.push(frame), *resampler.flush()])
