"""The mono recording is the stereo one that says so, and a file's length can be read off its ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.recordings.ogg import HEAD_BYTES, TAIL_BYTES, mono_head, played_ms, played_ms_of
from tests.made_recordings import LEFT, RIGHT, heard, write_recording


def as_mono(audio: bytes) -> bytes:
    return mono_head(audio[:HEAD_BYTES]) + audio[HEAD_BYTES:]


def test_a_stereo_recording_has_each_voice_on_its_side_and_the_mono_one_has_both(tmp_path: Path) -> None:
    """Decoded by another's decoder: left and right apart, and both in one channel of a file of the same length."""
    dual = write_recording(tmp_path / "call.ogg")
    mono = as_mono(dual)
    assert heard(dual) == [{LEFT}, {RIGHT}]
    assert heard(mono) == [{LEFT, RIGHT}]
    assert len(mono) == len(dual)
    assert as_mono(mono) == mono


@pytest.mark.parametrize("seconds", [0.5, 2.0, 7.3])
def test_its_length_is_known_without_decoding_it(tmp_path: Path, seconds: float) -> None:
    """The last page says where it ends."""
    write_recording(tmp_path / "call.ogg", seconds)
    found = played_ms_of(tmp_path / "call.ogg")
    assert found is not None
    assert abs(found - seconds * 1_000) < 25


def test_a_recording_that_was_cut_off_plays_up_to_there(tmp_path: Path) -> None:
    """As a killed process leaves it: a torn last page costs no more than that page."""
    whole = write_recording(tmp_path / "call.ogg", 6.0)
    torn = whole[: len(whole) // 2]
    found = played_ms(torn[:HEAD_BYTES], torn[-TAIL_BYTES:])
    assert found is not None
    assert 2_000 < found < 4_500
    assert heard(as_mono(torn)) == [{LEFT, RIGHT}]


@pytest.mark.parametrize(
    "content", [b"", b"OggS", b"OggS half a recording", b"RIFF" + bytes(600), b"OggS" + b"\xff" * 600]
)
def test_what_is_no_recording_is_left_as_it_is(content: bytes) -> None:
    """A file of a process that was killed at its first byte, or anything else, is not made worse."""
    assert mono_head(content) == content
    assert played_ms(content, content) is None
