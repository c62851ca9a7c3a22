"""Files that callers hear on hold: what can be read, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.transfer.hold import tune
from agent_worker.call.transfer.hold_audio import MOST_SECONDS, NoAudio, decoded
from agent_worker.testing.audio import tone, tone_seconds

HZ = 700.0


def file(kind: str, codec: str, rate: int, seconds: float = 1.0) -> bytes:
    """Return a stereo file of a tone."""
    written = io.BytesIO()
    with av.open(written, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "stereo"
        left = tone(HZ, seconds, rate)
        frame = av.AudioFrame.from_ndarray(np.repeat(left, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = rate
        resampler = av.AudioResampler(stream.format.name, "stereo", rate, stream.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return written.getvalue()


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [("wav", "pcm_s16le", 8_000), ("wav", "pcm_mulaw", 8_000), ("mp3", "mp3", 44_100), ("ogg", "libopus", 48_000)],
)
def test_a_file_becomes_one_channel_at_the_lines_rate(kind: str, codec: str, rate: int) -> None:
    """The tone keeps its pitch, its length and its loudness."""
    samples = decoded(file(kind, codec, rate))
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(LINE_SAMPLE_RATE, rel=0.1)
    assert tone_seconds(samples, LINE_SAMPLE_RATE, HZ, threshold_dbfs=-20) > 0.9


def test_an_endless_file_is_cut() -> None:
    """Only its beginning is kept."""
    assert len(decoded(file("ogg", "libopus", 48_000, MOST_SECONDS + 5))) == MOST_SECONDS * LINE_SAMPLE_RATE


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    """Nonsense, nothing, silence without a sample, and lists that would have other files opened."""
    other = tmp_path / "secret.wav"
    other.write_bytes(file("wav", "pcm_s16le", 8_000))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"
    whole = file("wav", "pcm_s16le", 8_000)
    for body in (
        b"",
        b"<html>" * 500,
        playlist.encode(),
        f"ffconcat version 1.0\nfile '{other}'\n".encode(),
        whole[:44],
    ):
        with pytest.raises(NoAudio):
            decoded(body)


def test_the_music_that_ships_goes_round_without_a_break() -> None:
    """No click where its end meets its beginning, and never loud."""
    music = tune().astype(np.int32)
    steps = np.abs(np.diff(music))
    assert abs(music[0] - music[-1]) <= steps.max()
    assert 1_000 < np.abs(music).max() < 2_000
