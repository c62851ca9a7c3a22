"""Measures recorded telephone audio: levels, speech segments, tones, whether a clip arrived whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Pcm = npt.NDArray[np.int16]
"""Mono 16-bit samples."""

SILENCE_DBFS = -45.0
"""Level under which 10 ms of a telephone line counts as silence; comfort noise lies near -70 dBFS."""

_BLOCK_SECONDS = 0.01


class Segment(NamedTuple):
    """A stretch of speech, seconds from the first sample."""

    start: float
    end: float


@dataclass(frozen=True)
class ClipMatch:
    """How a reference clip was found in a recording; times in seconds."""

    offset: float
    """Where the clip's first sample lies in the recording; may be negative when its head is missing."""
    correlation: float
    """Normalised cross-correlation over the clip, 0 to 1."""
    missing_head: float
    """Length of the clip's beginning that is not in the recording."""
    missing_tail: float
    """Length of the clip's end that is not in the recording."""


def dbfs(pcm: Pcm) -> float:
    """Return the RMS level in dBFS; -120 for silence or no samples."""
    if pcm.size == 0:
        return -120.0
    rms = float(np.sqrt(np.mean(np.square(pcm.astype(np.float64)))))
    return max(-120.0, float(20 * np.log10(max(rms, 1e-9) / 32768.0)))


def block_levels(pcm: Pcm, rate: int, block: float = _BLOCK_SECONDS) -> npt.NDArray[np.float64]:
    """Return the level in dBFS of each `block` seconds; a last incomplete block is left out."""
    size = max(1, int(rate * block))
    count = pcm.size // size
    if count == 0:
        return np.empty(0, dtype=np.float64)
    blocks = pcm[: count * size].astype(np.float64).reshape(count, size)
    power = np.mean(np.square(blocks), axis=1)
    levels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(power, 1e-3) / 32768.0**2)
    return levels


def speech_segments(
    pcm: Pcm,
    rate: int,
    *,
    threshold_dbfs: float = SILENCE_DBFS,
    max_gap: float = 0.3,
    min_length: float = 0.05,
) -> list[Segment]:
    """Return the stretches above the threshold; gaps up to `max_gap` seconds belong to them."""
    loud = np.flatnonzero(block_levels(pcm, rate) > threshold_dbfs)
    if loud.size == 0:
        return []
    block = int(rate * _BLOCK_SECONDS) / rate
    breaks = np.flatnonzero(np.diff(loud) * block > max_gap)
    starts = np.concatenate(([loud[0]], loud[breaks + 1]))
    ends = np.concatenate((loud[breaks], [loud[-1]])) + 1
    found = [Segment(float(a) * block, float(b) * block) for a, b in zip(starts, ends, strict=True)]
    return [segment for segment in found if segment.end - segment.start >= min_length]


def onset(pcm: Pcm, rate: int, *, after: float = 0.0, threshold_dbfs: float = SILENCE_DBFS) -> float | None:
    """Return when speech first starts at or after `after` seconds, or None."""
    begin = int(after * rate)
    for segment in speech_segments(pcm[begin:], rate, threshold_dbfs=threshold_dbfs):
        return after + segment.start
    return None


def trim_silence(pcm: Pcm, rate: int, *, threshold_dbfs: float = SILENCE_DBFS) -> Pcm:
    """Return the samples from the first to the last loud block; nothing when there is none."""
    loud = np.flatnonzero(block_levels(pcm, rate) > threshold_dbfs)
    if loud.size == 0:
        return pcm[:0]
    size = int(rate * _BLOCK_SECONDS)
    return pcm[loud[0] * size : (loud[-1] + 1) * size]


def resample(pcm: Pcm, source_rate: int, target_rate: int) -> Pcm:
    """Return the whole clip at another rate, band-limited (by its spectrum, so not for streams)."""
    if source_rate == target_rate or pcm.size == 0:
        return pcm
    length = max(1, round(pcm.size * target_rate / source_rate))
    spectrum = np.fft.rfft(pcm.astype(np.float64))
    kept = min(spectrum.size, length // 2 + 1)
    changed = np.fft.irfft(spectrum[:kept], n=length) * (length / pcm.size)
    samples: Pcm = np.clip(np.rint(changed), -32768, 32767).astype(np.int16)
    return samples


def tone(hz: float, seconds: float, rate: int, *, level_dbfs: float = -15.0) -> Pcm:
    """Return a sine of the given RMS level."""
    moments = np.arange(int(seconds * rate)) / rate
    amplitude = 32768.0 * 10 ** (level_dbfs / 20) * np.sqrt(2)
    samples: Pcm = (amplitude * np.sin(2 * np.pi * hz * moments)).astype(np.int16)
    return samples


def tone_levels(pcm: Pcm, rate: int, hz: float, *, block: float = 0.04) -> npt.NDArray[np.float64]:
    """Return the level in dBFS of one frequency in each `block` seconds (a Hann-windowed Goertzel bin)."""
    size = int(rate * block)
    count = pcm.size // size
    if count == 0:
        return np.empty(0, dtype=np.float64)
    window = np.hanning(size)
    probe = window * np.exp(-2j * np.pi * hz * np.arange(size) / rate) / window.sum()
    amplitude = np.abs(pcm[: count * size].astype(np.float64).reshape(count, size) @ probe) * 2
    levels: npt.NDArray[np.float64] = 20 * np.log10(np.maximum(amplitude / np.sqrt(2), 1e-3) / 32768.0)
    return levels


def tone_seconds(
    pcm: Pcm,
    rate: int,
    hz: float,
    *,
    threshold_dbfs: float = -35.0,
    purity_db: float = 6.0,
    block: float = 0.04,
) -> float:
    """Return for how long a tone is heard: loud enough, and within `purity_db` of the whole level."""
    levels = tone_levels(pcm, rate, hz, block=block)
    whole = block_levels(pcm, rate, block)[: levels.size]
    present = (levels > threshold_dbfs) & (levels > whole - purity_db)
    return float(np.count_nonzero(present)) * block


def envelope(pcm: Pcm, rate: int, block: float = 0.02) -> npt.NDArray[np.float64]:
    """Return the clip's loudness contour: dB above -60 dB of its own peak, one value per block."""
    levels = block_levels(pcm, rate, block)
    if levels.size == 0:
        return levels
    contour: npt.NDArray[np.float64] = np.maximum(levels - (levels.max() - 40.0), 0.0)
    return contour


def envelope_similarity(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], *, max_shift: int = 8
) -> float:
    """Return how alike two loudness contours are, -1 to 1, at the best shift of up to `max_shift` blocks."""
    if first.size == 0 or second.size == 0:
        return -1.0
    size = max(first.size, second.size) + 2 * max_shift
    fixed = np.zeros(size)
    fixed[max_shift : max_shift + first.size] = first
    fixed -= fixed.mean()
    best = -1.0
    for shift in range(2 * max_shift + 1):
        moved = np.zeros(size)
        moved[shift : shift + second.size] = second
        moved -= moved.mean()
        norm = float(np.linalg.norm(fixed) * np.linalg.norm(moved))
        if norm > 0:
            best = max(best, float(fixed @ moved) / norm)
    return best


def locate(heard: Pcm, reference: Pcm, rate: int) -> ClipMatch | None:
    """Find the reference clip in a recording by cross-correlation.

    Returns None when either is empty. A correlation under about 0.3 means that it is not there.
    """
    if heard.size == 0 or reference.size == 0:
        return None
    pad = reference.size
    signal = np.concatenate((np.zeros(pad), heard.astype(np.float64), np.zeros(pad)))
    clip = reference.astype(np.float64)
    length = 1 << (signal.size + clip.size - 1).bit_length()
    product = np.fft.rfft(signal, length) * np.conj(np.fft.rfft(clip, length))
    scores = np.fft.irfft(product, length)[: signal.size - clip.size + 1]
    at = int(np.argmax(scores))
    window = signal[at : at + clip.size]
    norm = float(np.linalg.norm(window) * np.linalg.norm(clip))
    correlation = float(window @ clip) / norm if norm > 0 else 0.0
    head, tail = _missing_ends(window, clip, rate)
    return ClipMatch((at - pad) / rate, max(0.0, correlation), head, tail)


def _missing_ends(
    window: npt.NDArray[np.float64], clip: npt.NDArray[np.float64], rate: int, *, drop_db: float = 15.0
) -> tuple[float, float]:
    """Return how many seconds at the head and tail of an aligned clip are far too quiet."""
    size = int(rate * _BLOCK_SECONDS)
    count = clip.size // size
    heard = _decibels(window[: count * size].reshape(count, size))
    wanted = _decibels(clip[: count * size].reshape(count, size))
    audible = np.flatnonzero(wanted > wanted.max() - 25.0) if count else np.empty(0, dtype=np.int64)
    if audible.size == 0:
        return 0.0, 0.0
    gain = float(np.median(heard[audible] - wanted[audible]))
    present = audible[heard[audible] > wanted[audible] + gain - drop_db]
    if present.size == 0:
        return count * size / rate, count * size / rate
    head = (present[0] - audible[0]) * size / rate
    tail = (audible[-1] - present[-1]) * size / rate
    return float(head), float(tail)


def _decibels(blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    levels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(np.mean(np.square(blocks), axis=1), 1e-3))
    return levels
