"""The recording: each side on its own channel, at its own moment."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import av
import numpy as np
import pytest
from livekit import rtc

from agent_worker.call.recording import SAMPLE_RATE, Recording


def tone(hertz: float, seconds: float) -> list[rtc.AudioFrame]:
    count = int(seconds * SAMPLE_RATE)
    samples = (8000 * np.sin(2 * np.pi * hertz * np.arange(count) / SAMPLE_RATE)).astype(np.int16)
    step = SAMPLE_RATE // 50
    return [rtc.AudioFrame(samples[i : i + step].tobytes(), SAMPLE_RATE, 1, step) for i in range(0, count, step)]


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("s16", "stereo", SAMPLE_RATE)
        frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames])


def strength(samples: np.ndarray, hertz: float) -> float:
    wave = np.exp(-2j * np.pi * hertz * np.arange(len(samples)) / SAMPLE_RATE)
    return float(abs(np.dot(samples.astype(np.float64), wave)) / len(samples))


async def test_each_side_is_on_its_own_channel_when_it_was_heard(tmp_path: Path) -> None:
    """The caller is left, the agent right; a side that is silent is silent."""
    recording = Recording(tmp_path / "call.ogg")
    start = time.monotonic()
    for i, frame in enumerate(tone(500, 1.0)):
        recording.hear_caller(frame, start + (i + 1) * 0.02)
    for i, frame in enumerate(tone(1200, 1.0)):
        recording.hear_agent(frame, start + 1.0 + i * 0.02)
    recording.start()
    await asyncio.sleep(2.2)
    duration = await recording.finish()

    audio = read(tmp_path / "call.ogg")
    first, second = audio[3200:12800], audio[19200:28800]
    assert 2_100 <= duration <= 2_600
    assert strength(first[:, 0], 500) > 50 * strength(first[:, 1], 500)
    assert strength(second[:, 1], 1200) > 50 * strength(second[:, 0], 1200)
    assert np.abs(first[:, 1]).max() < 200
    assert np.abs(second[:, 0]).max() < 200


@pytest.mark.parametrize("samples", [1, 15, 319, 321, 16_003])
async def test_a_recording_of_any_length_can_be_closed(tmp_path: Path, samples: int) -> None:
    """Opus aborts the process on a remainder of less than 1 ms: the end is given to it in whole frames."""
    recording = Recording(tmp_path / "call.ogg")
    recording._finish(recording._started + samples / SAMPLE_RATE)
    assert recording._encoded % 320 == 0


async def test_a_file_cut_off_by_a_kill_still_plays(tmp_path: Path) -> None:
    """What was encoded before the process died can be decoded."""
    path = tmp_path / "call.ogg"
    recording = Recording(path)
    start = time.monotonic() - 3.0
    recording._started = start
    for i, frame in enumerate(tone(500, 3.0)):
        recording.hear_caller(frame, start + (i + 1) * 0.02)
    recording.start()
    await asyncio.sleep(1.3)
    copy = tmp_path / "killed.ogg"
    copy.write_bytes(path.read_bytes())
    await recording.finish()

    audio = read(copy)
    assert len(audio) > 1.5 * SAMPLE_RATE
    assert strength(audio[1600:16000, 0], 500) > 1000


async def test_frames_that_come_late_and_all_at_once_stand_where_they_were_spoken(tmp_path: Path) -> None:
    """A process that was busy for 400 ms hands over a burst: the gap before it closes, and later frames are in time."""
    recording = Recording(tmp_path / "call.ogg")
    start = time.monotonic()
    busy_from, busy_until = 10, 30
    for i, frame in enumerate(tone(500, 1.0)):
        late = start + (busy_until + 1) * 0.02 if busy_from <= i < busy_until else start + (i + 1) * 0.02
        recording.hear_caller(frame, late)
    recording.start()
    await asyncio.sleep(1.9)
    await recording.finish()

    audio = read(tmp_path / "call.ogg")
    last = np.flatnonzero(np.abs(audio[:, 0]) > 1_000)[-1] / SAMPLE_RATE
    assert last == pytest.approx(1.0, abs=0.16)  # it would be 1.4 if lateness were kept
