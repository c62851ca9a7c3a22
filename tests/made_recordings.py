"""Recordings made for tests: real Ogg Opus files with a tone on each side, and what is in one."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np

RATE = 16_000
LEFT, RIGHT, NEITHER = 500, 1_200, 800


def write_recording(path: Path, seconds: float = 2.0) -> bytes:
    """Write a stereo file, a tone of `LEFT` Hz on the left and of `RIGHT` Hz on the right; returns what is in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    at = np.arange(int(RATE * seconds)) / RATE
    stereo = np.empty(2 * len(at), dtype=np.int16)
    stereo[0::2], stereo[1::2] = (8_000 * np.sin(2 * np.pi * hertz * at) for hertz in (LEFT, RIGHT))
    with av.open(str(path), "w", format="ogg", options={"page_duration": "500000"}) as container:
        stream = container.add_stream("libopus", rate=RATE)
        stream.layout = "stereo"
        stream.bit_rate = 32_000
        for start in range(0, len(stereo) // 640 * 640, 640):
            frame = av.AudioFrame.from_ndarray(
                stereo[start : start + 640].reshape(1, -1), format="s16", layout="stereo"
            )
            frame.sample_rate = RATE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path.read_bytes()


def heard(audio: bytes) -> list[set[int]]:
    """Return which of the three tones each channel has."""
    with av.open(io.BytesIO(audio)) as container:
        channels = container.streams.audio[0].codec_context.channels
        resampler = av.AudioResampler("s16", "stereo" if channels == 2 else "mono", RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray().reshape(-1, channels) for frame in frames])
    return [_tones(samples[RATE // 4 : -RATE // 4, channel]) for channel in range(channels)]


def _tones(samples: np.ndarray) -> set[int]:
    at = np.arange(len(samples)) / RATE
    strength = {
        hertz: abs(np.dot(samples.astype(np.float64), np.exp(-2j * np.pi * hertz * at))) / len(samples)
        for hertz in (LEFT, RIGHT, NEITHER)
    }
    return {hertz for hertz, found in strength.items() if found > 1_000}
