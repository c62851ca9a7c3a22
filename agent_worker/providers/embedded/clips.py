"""Recorded sentences that ship with the product, found by the words they say."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import av
from av.audio.resampler import AudioResampler

SAMPLE_RATE = 16_000
BIT_RATE = 32_000
INDEX = "index.json"


def normalise(text: str) -> str:
    """Return the text's words, lower case, separated by single spaces."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower().replace("’", "'")))


class ClipLibrary:
    """A folder of Ogg Opus clips and its index of what each says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        index = folder / INDEX
        self._files: dict[str, str] = json.loads(index.read_text("utf-8")) if index.is_file() else {}

    def __len__(self) -> int:
        return len(self._files)

    def find(self, text: str) -> list[Path] | None:
        """Return the clips that together say the text, in order, or None where a part has none."""
        words = normalise(text).split()
        found: list[Path] = []
        start = 0
        while start < len(words):
            for end in range(len(words), start, -1):
                if name := self._files.get(" ".join(words[start:end])):
                    found.append(self.folder / name)
                    start = end
                    break
            else:
                return None
        return found or None

    def pcm(self, text: str) -> bytes | None:
        """Return the text as 16-bit mono PCM at 16 kHz, or None where a part has no clip."""
        paths = self.find(text)
        return b"".join(decode_clip(path) for path in paths) if paths else None


@lru_cache(maxsize=64)
def decode_clip(path: Path) -> bytes:
    """Return a clip as 16-bit mono PCM at 16 kHz.

    Raises:
        OSError: the file cannot be read (av.FFmpegError derives from it for files).
    """
    resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    parts: list[bytes] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts.extend(bytes(out.planes[0])[: out.samples * 2] for out in resampler.resample(frame))
        parts.extend(bytes(out.planes[0])[: out.samples * 2] for out in resampler.resample(None))
    return b"".join(parts)


def write_clips(folder: Path, spoken: dict[str, bytes]) -> None:
    """Replace the folder's clips by these: text to PCM at 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.ogg"):
        old.unlink()
    index: dict[str, str] = {}
    for number, (text, pcm) in enumerate(spoken.items(), start=1):
        words = normalise(text)
        name = f"{number:02d}-{'-'.join(words.replace(chr(39), '').split()[:5])}.ogg"
        encode_clip(folder / name, pcm)
        index[words] = name
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def encode_clip(path: Path, pcm: bytes) -> None:
    """Write 16-bit mono PCM at 16 kHz as Ogg Opus."""
    frame = av.AudioFrame(format="s16", layout="mono", samples=len(pcm) // 2)
    frame.planes[0].update(pcm)
    frame.sample_rate = SAMPLE_RATE
    with av.open(str(path), "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono", bit_rate=BIT_RATE)
        resampler = AudioResampler(format="s16", layout="mono", rate=48_000)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
