"""The embedded recogniser and voice, with real audio."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, stt

from agent_worker.providers.embedded.clips import ClipLibrary, normalise, write_clips
from agent_worker.providers.embedded.data_files import find_data_file
from agent_worker.providers.embedded.engines import EngineError, installed_engine, speak
from agent_worker.providers.embedded.recogniser import EmbeddedSTT
from agent_worker.providers.embedded.synthesiser import CLIPS_FOLDER, NO_VOICE, EmbeddedTTS
from agent_worker.simulation.caller import CLIPS_FOLDER as CALLER_CLIPS
from agent_worker.simulation.script import CALLER_LINES

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")

FRAME = 320


def recogniser() -> EmbeddedSTT:
    return EmbeddedSTT(find_data_file("phrases", None), model="front-desk")


def noisy(pcm: bytes, seconds: float, seed: int = 3) -> bytes:
    """Return the audio on a line that is never quite silent, with a pause behind it."""
    samples = np.concatenate([np.frombuffer(pcm, dtype=np.int16), np.zeros(int(seconds * 16_000))])
    noise = np.random.default_rng(seed).normal(0, 8, len(samples))
    return np.clip(samples + noise, -32_768, 32_767).astype(np.int16).tobytes()


async def heard(audio: bytes, *, flush: bool = False) -> list[stt.SpeechEvent]:
    """Return every event of a stream that is fed this audio in frames of 20 ms."""
    async with recogniser().stream() as stream:
        for start in range(0, len(audio) - 2 * FRAME + 1, 2 * FRAME):
            stream.push_frame(rtc.AudioFrame(audio[start : start + 2 * FRAME], 16_000, 1, FRAME))
        if flush:
            stream.flush()
            await asyncio.sleep(0)
        stream.end_input()
        return [event async for event in stream]


def texts(events: list[stt.SpeechEvent], kind: stt.SpeechEventType) -> list[str]:
    return [event.alternatives[0].text for event in events if event.type is kind]


@pytest.mark.parametrize("line", CALLER_LINES)
async def test_the_callers_lines_are_understood(line: str) -> None:
    """Each recorded line of the demo is recognised word for word, as one utterance with its beginning and end."""
    pcm = ClipLibrary(CALLER_CLIPS).pcm(line)
    assert pcm is not None
    events = await heard(noisy(pcm, 0.6))
    kinds = [event.type for event in events]
    assert texts(events, stt.SpeechEventType.FINAL_TRANSCRIPT) == [normalise(line)]
    assert kinds[0] is stt.SpeechEventType.START_OF_SPEECH
    assert stt.SpeechEventType.END_OF_SPEECH in kinds
    assert texts(events, stt.SpeechEventType.INTERIM_TRANSCRIPT)


async def test_noise_and_silence_are_not_speech() -> None:
    """A closed vocabulary makes words of anything, so only what the detector calls speech reaches it."""
    assert await heard(noisy(b"", 3.0)) == []
    assert await heard(bytes(2 * 16_000)) == []


async def test_two_utterances_are_two_results_and_their_times_follow_each_other() -> None:
    """A pause ends an utterance; the next one starts after it."""
    clips = ClipLibrary(CALLER_CLIPS)
    first, second = (noisy(clips.pcm(line) or b"", 0.8) for line in CALLER_LINES[:2])
    events = await heard(first + second)
    finals = [event for event in events if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT]
    assert [event.alternatives[0].text for event in finals] == [normalise(line) for line in CALLER_LINES[:2]]
    assert finals[0].alternatives[0].end_time <= finals[1].alternatives[0].start_time + 0.5


async def test_a_flush_gives_the_words_without_waiting_for_silence() -> None:
    """What was said so far is final when the session says so."""
    pcm = ClipLibrary(CALLER_CLIPS).pcm(CALLER_LINES[0]) or b""
    events = await heard(pcm, flush=True)
    assert texts(events, stt.SpeechEventType.FINAL_TRANSCRIPT) == [normalise(CALLER_LINES[0])]


async def test_usage_adds_up_to_the_audio_heard() -> None:
    """Seconds of audio are counted once."""
    pcm = noisy(ClipLibrary(CALLER_CLIPS).pcm(CALLER_LINES[0]) or b"", 0.6)
    events = await heard(pcm)
    counted = sum(event.recognition_usage.audio_duration for event in events if event.recognition_usage)
    assert 0 < counted <= len(pcm) / 32_000


async def test_audio_at_another_rate_is_understood_too() -> None:
    """Batch recognition takes what a desk's microphone gives, 48 kHz, and resamples it."""
    pcm = ClipLibrary(CALLER_CLIPS).pcm(CALLER_LINES[2]) or b""
    resampler = rtc.AudioResampler(16_000, 48_000)
    frames = [*resampler.push(rtc.AudioFrame(pcm, 16_000, 1, len(pcm) // 2)), *resampler.flush()]
    event = await recogniser().recognize(rtc.combine_audio_frames(frames))
    assert "sales" in event.alternatives[0].text


def test_clips_are_found_by_their_words(tmp_path: Path) -> None:
    """Case, marks and the way sentences are grouped do not matter; a missing part is no clip at all."""
    tone = (np.sin(np.arange(8_000) / 8) * 9_000).astype(np.int16).tobytes()
    write_clips(tmp_path, {"We are open.": tone, "Anything else?": tone + tone})
    library = ClipLibrary(tmp_path)
    assert library.find("WE are open - anything else") is not None
    assert library.find("We are open today.") is None
    assert library.find("...") is None
    assert len(library.pcm("we are open") or b"") == pytest.approx(len(tone), rel=0.15)


def test_every_sentence_of_the_demo_has_a_clip() -> None:
    """A machine without a synthesiser can say all the demo agent says."""
    from agent_worker.simulation.render_clips import agent_sentences

    library = ClipLibrary(CLIPS_FOLDER)
    assert [text for text in agent_sentences() if library.find(text) is None] == []


async def test_without_a_synthesiser_recorded_sentences_are_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is `clips`, and an unknown sentence is answered with the one that says so."""
    monkeypatch.setenv("PATH", "")
    voice = EmbeddedTTS()
    assert (voice.engine, voice.model, installed_engine()) == ("clips", "clips", None)
    known = await voice.synthesize("What would you like to know?").collect()
    unknown = await voice.synthesize("Colourless green ideas sleep furiously.").collect()
    assert known.duration > 0.5
    assert unknown.duration == pytest.approx(len(ClipLibrary(CLIPS_FOLDER).pcm(NO_VOICE) or b"") / 32_000, abs=0.1)


@needs_flite
async def test_flite_speaks_every_word_from_the_first_sound() -> None:
    """Two sentences are longer than one, and begin within 20 ms."""
    one, two = await speak("flite", "No, that is all."), await speak("flite", "No, that is all. Goodbye.")
    assert len(two) > len(one) * 1.3
    loud = np.flatnonzero(np.abs(np.frombuffer(two, dtype=np.int16).astype(int)) > 200)
    assert loud[0] < 320


@needs_flite
async def test_speed_and_voice_change_the_speech() -> None:
    """Twice the speed is about half the length; a voice flite does not have is not taken for a file."""
    slow, fast = (
        await speak("flite", "One two three four five.", speed=1.0),
        await speak("flite", "One two three four five.", speed=2.0),
    )
    assert len(fast) < 0.7 * len(slow)
    assert await speak("flite", "Hello there.", voice="/etc/passwd")


@needs_flite
async def test_text_never_reaches_the_command_line() -> None:
    """A text that looks like an option, or like a shell command, is spoken."""
    assert len(await speak("flite", "-lv; $(reboot)")) > 16_000


async def test_an_engine_that_fails_is_an_error_of_the_provider(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A synthesiser that dies, or says nothing, fails the turn instead of the call."""
    broken = tmp_path / "flite"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(EngineError):
        await speak("flite", "Hello.")
    voice = EmbeddedTTS(engine="flite")
    with pytest.raises(APIConnectionError):
        await voice.synthesize("Hello.", conn_options=APIConnectOptions(max_retry=0)).collect()
