"""Speech for tests: rendered by flite where installed, else a buzz with a voice's rhythm."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np

from agent_worker.testing.audio import Pcm, block_levels, dbfs, resample

# The local end-of-turn model takes more of this voice's sentences for finished than of the others'.
CALLER_VOICE = "slt"
AGENT_VOICE = "rms"

_FLITE_RATE = 16_000
_LEVEL_DBFS = -18.0
_EDGE_DB = 25.0


def flite_installed() -> bool:
    """Return whether real speech can be rendered."""
    return shutil.which("flite") is not None


def render(text: str, rate: int, *, voice: str = AGENT_VOICE) -> Pcm:
    """Return speech that begins and ends at full voice, at -18 dBFS; the same text gives the same samples.

    Takes about 30 ms of one core per second of speech the first time, then nothing.
    """
    return resample(_render(text, voice), _FLITE_RATE, rate)


@lru_cache(maxsize=512)
def _render(text: str, voice: str) -> Pcm:
    speech = _flite(text, voice) if flite_installed() else synthetic_voice(text, _FLITE_RATE)
    levels = block_levels(speech, _FLITE_RATE)
    size = int(_FLITE_RATE * 0.01)
    loud = np.flatnonzero(levels > levels.max() - _EDGE_DB) if levels.size else np.empty(0, dtype=np.int64)
    if loud.size == 0:
        return speech[:0]
    speech = speech[loud[0] * size : (loud[-1] + 1) * size]
    gain = 10 ** ((_LEVEL_DBFS - dbfs(speech)) / 20)
    scaled: Pcm = np.clip(speech.astype(np.float64) * gain, -32768, 32767).astype(np.int16)
    return scaled


def _flite(text: str, voice: str) -> Pcm:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(target)], check=True, timeout=30)
        with wave.open(str(target)) as source:
            rate = source.getframerate()
            samples: Pcm = np.frombuffer(source.readframes(source.getnframes()), dtype=np.int16)
    return resample(samples, rate, _FLITE_RATE)


def synthetic_voice(text: str, rate: int) -> Pcm:
    """Return a buzz in syllables, one per vowel group, its pitch and colours drawn from the text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    chance = np.random.default_rng(seed)
    vowels = sum(
        1 for a, b in zip(" " + text.lower(), text.lower() + " ", strict=True) if b in "aeiouy" and a not in "aeiouy"
    )
    pieces: list[np.ndarray] = []
    phase = 0.0
    for number in range(max(1, vowels)):
        moments = np.arange(int(chance.uniform(0.12, 0.24) * rate)) / rate
        pitch = chance.uniform(95, 150) * (1 - 0.15 * moments / moments[-1])
        angle = phase + 2 * np.pi * np.cumsum(pitch) / rate
        phase = float(angle[-1])
        formants = (chance.uniform(350, 800), chance.uniform(1000, 2200), chance.uniform(2300, 3000))
        sound = np.zeros(moments.size)
        for harmonic in range(1, 28):
            weight = sum(np.exp(-(((harmonic * 120 - f) / 150) ** 2)) for f in formants) + 0.02
            sound += weight * np.sin(harmonic * angle)
        shape = np.minimum(1.0, (moments[-1] - moments) / 0.04 + 0.1)
        if number:
            shape = np.minimum(shape, moments / 0.03 + 0.1)
        pieces.append(sound * shape)
    joined = np.concatenate(pieces)
    voice: Pcm = (joined / np.abs(joined).max() * 12_000).astype(np.int16)
    return voice
