"""How the speech-to-text stand-in hears: speech by loudness, words by clips it was told about."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from agent_worker.testing.audio import (
    Pcm,
    block_levels,
    envelope,
    envelope_similarity,
    resample,
    trim_silence,
)

RATE = 16_000
_LOUD_DBFS = -40.0
_MIN_LOUD_BLOCKS = 4


@dataclass(frozen=True)
class Clip:
    """A recording whose words are known."""

    text: str
    seconds: float
    contour: npt.NDArray[np.float64]


class ClipBook:
    """Clips recognised by length and loudness contour, which survive a telephone line and its codecs."""

    def __init__(self, *, min_similarity: float = 0.6) -> None:
        self.clips: list[Clip] = []
        self._min_similarity = min_similarity

    def register(self, text: str, pcm: Pcm, rate: int) -> None:
        """Add a clip; the same text again replaces it."""
        speech = trim_silence(resample(pcm, rate, RATE), RATE, threshold_dbfs=_LOUD_DBFS)
        self.clips = [clip for clip in self.clips if clip.text != text]
        self.clips.append(Clip(text, speech.size / RATE, envelope(speech, RATE)))

    def recognise(self, speech: Pcm) -> str | None:
        """Return the words of the clip this is, or None."""
        seconds = speech.size / RATE
        contour = envelope(speech, RATE)
        best, best_similarity = None, self._min_similarity
        for clip in self.clips:
            if abs(clip.seconds - seconds) > max(0.3, 0.2 * clip.seconds):
                continue
            similarity = envelope_similarity(contour, clip.contour)
            if similarity > best_similarity:
                best, best_similarity = clip.text, similarity
        return best

    def guess(self, speech: Pcm) -> str:
        """Return the words so far of the clip whose beginning this is most like; nothing without clips."""
        contour = envelope(speech, RATE)
        best, best_similarity, share = "", -1.0, 0.0
        for clip in self.clips:
            similarity = envelope_similarity(contour, clip.contour[: contour.size], max_shift=2)
            if similarity > best_similarity:
                best, best_similarity, share = clip.text, similarity, contour.size / max(1, clip.contour.size)
        return _beginning(best, share)


def _beginning(text: str, share: float) -> str:
    words = text.split()
    return " ".join(words[: max(1, int(len(words) * min(1.0, share)))]) if words else ""


@dataclass
class Script:
    """Lines that utterances stand for, in order, where no clip is recognised."""

    lines: Sequence[str] = ()
    at: int = 0

    def current(self) -> str:
        """Return the line the current utterance stands for; nothing at the end."""
        return self.lines[self.at] if self.at < len(self.lines) else ""


@dataclass
class Ear:
    """One stream of audio; `hear` returns whether anything in the chunk was speech."""

    rate: int
    started_at: float | None = None
    """When the current utterance was first heard (monotonic)."""
    last_loud_at: float = 0.0
    """When the chunk with the last loud sample came (monotonic)."""
    heard_seconds: float = 0.0
    """Audio received in all."""
    quiet_seconds: float = 0.0
    """Quiet audio received since the last loud chunk."""
    _audio: list[Pcm] = field(default_factory=list)
    _loud_blocks: int = 0
    _start_seconds: float = 0.0

    def hear(self, data: bytes) -> bool:
        """Take a chunk of 16-bit samples; True when it holds speech."""
        now = time.monotonic()
        chunk: Pcm = np.frombuffer(data[: len(data) // 2 * 2], dtype=np.int16)
        self.heard_seconds += chunk.size / self.rate
        loud = int(np.count_nonzero(block_levels(chunk, self.rate) > _LOUD_DBFS))
        if self._audio or loud:
            if not self._audio:
                self._start_seconds = self.heard_seconds - chunk.size / self.rate
            self._audio.append(chunk)
        self.quiet_seconds = 0.0 if loud else self.quiet_seconds + chunk.size / self.rate
        if loud:
            self._loud_blocks += loud
            self.last_loud_at = now
            if self.started_at is None and self._loud_blocks >= _MIN_LOUD_BLOCKS:
                self.started_at = now
        elif self._audio and self.started_at is None and now - self.last_loud_at > 0.3:
            self.reset()
        return bool(loud)

    def utterance(self) -> Pcm:
        """Return the current utterance at 16 kHz, without the silence around it."""
        if not self._audio:
            return np.empty(0, dtype=np.int16)
        return trim_silence(resample(np.concatenate(self._audio), self.rate, RATE), RATE, threshold_dbfs=_LOUD_DBFS)

    @property
    def start_seconds(self) -> float:
        """Where the current utterance began in the stream."""
        return self._start_seconds

    def reset(self) -> None:
        """Forget the utterance."""
        self._audio.clear()
        self._loud_blocks = 0
        self.started_at = None
