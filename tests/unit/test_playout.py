"""The agent's voice on its way to the line, in virtual time."""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents.voice.io import PlaybackFinishedEvent, TimedString

from agent_worker.call.playout import FRAME_MS, LEAD_SECONDS, Playout
from tests.virtual_time import run_virtually

RATE = 16_000


def speech(seconds: float) -> rtc.AudioFrame:
    samples = int(seconds * RATE)
    return rtc.AudioFrame(b"\x01\x00" * samples, RATE, 1, samples)


class Phone:
    """A playout and what reached the line."""

    def __init__(self) -> None:
        self.sent: list[float] = []
        self.heard: list[float] = []
        self.finished: list[PlaybackFinishedEvent] = []
        self.discarded = 0
        self.playout = Playout(RATE, self._send, self._discard)
        self.playout.tap(lambda frame, at: self.heard.append(at))
        self.playout.on("playback_finished", self.finished.append)
        self.playout.start()

    async def _send(self, frame: rtc.AudioFrame) -> None:
        self.sent.append(asyncio.get_running_loop().time())

    def _discard(self) -> None:
        self.discarded += 1


def test_frames_are_sent_a_short_lead_ahead_of_being_heard() -> None:
    """Audio given all at once leaves in real time, never further ahead than the lead."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.capture_frame(speech(1.0))
        phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    phone = run_virtually(story())
    assert len(phone.sent) == 1000 // FRAME_MS
    assert all(abs(at - i * FRAME_MS / 1000) < 1e-6 for i, at in enumerate(phone.heard))
    leads = [heard - sent for heard, sent in zip(phone.heard, phone.sent, strict=True)]
    assert max(leads) <= LEAD_SECONDS + 1e-6
    assert phone.finished[0].interrupted is False
    assert abs(phone.finished[0].playback_position - 1.0) < 1e-6


def test_an_interruption_stops_at_once_and_reports_what_was_heard() -> None:
    """What was sent but not heard yet does not count as spoken."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.text.capture_text("one two three four five six seven eight nine ten")
        await phone.playout.capture_frame(speech(2.0))
        await asyncio.sleep(1.0)
        phone.playout.clear_buffer()
        phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    phone = run_virtually(story())
    event = phone.finished[0]
    assert event.interrupted
    assert phone.discarded == 1
    assert abs(event.playback_position - 1.0) <= 2 * FRAME_MS / 1000
    assert event.synchronized_transcript == "one two three four five"


def test_words_with_their_place_in_the_audio_are_cut_exactly() -> None:
    """Where the synthesiser says when each word starts, the words heard are known, not estimated."""

    async def story() -> Phone:
        phone = Phone()
        for word, start in (("never ", 0.0), ("mind ", 0.4), ("the ", 1.6), ("rest", 1.8)):
            await phone.playout.text.capture_text(TimedString(word, start_time=start))
        await phone.playout.capture_frame(speech(2.0))
        await asyncio.sleep(1.0)
        phone.playout.clear_buffer()
        phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    assert run_virtually(story()).finished[0].synchronized_transcript == "never mind "


def test_a_pause_holds_the_voice_and_resume_goes_on() -> None:
    """Nothing is lost over a pause, only later."""

    async def story() -> tuple[Phone, float]:
        phone = Phone()
        await phone.playout.capture_frame(speech(1.0))
        phone.playout.flush()
        await asyncio.sleep(0.5)
        phone.playout.pause()
        await asyncio.sleep(3.0)
        phone.playout.resume()
        await phone.playout.wait_for_playout()
        return phone, asyncio.get_running_loop().time()

    phone, end = run_virtually(story())
    assert len(phone.sent) == 50
    assert 3.9 < end < 4.1


def test_an_interruption_while_paused_ends_the_segment() -> None:
    """A paused voice that is then interrupted does not wait for a resume that never comes."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.capture_frame(speech(1.0))
        phone.playout.flush()
        await asyncio.sleep(0.5)
        phone.playout.pause()
        await asyncio.sleep(1.0)
        phone.playout.clear_buffer()
        await phone.playout.wait_for_playout()
        return phone

    assert run_virtually(story()).finished[0].interrupted


def test_the_next_segment_follows_the_one_before() -> None:
    """Two sentences given at once are heard one after the other, each reported."""

    async def story() -> Phone:
        phone = Phone()
        for _ in range(2):
            await phone.playout.capture_frame(speech(0.5))
            phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    phone = run_virtually(story())
    assert [round(event.playback_position, 2) for event in phone.finished] == [0.5, 0.5]
    assert abs(phone.heard[-1] - 0.98) < 1e-6


def test_a_voice_slower_than_speech_is_waited_for() -> None:
    """A segment whose audio comes late is one segment all the same."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.capture_frame(speech(0.2))
        await asyncio.sleep(1.0)
        await phone.playout.capture_frame(speech(0.2))
        phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    phone = run_virtually(story())
    assert len(phone.finished) == 1
    assert abs(phone.heard[10] - 1.0) < 0.03


def test_closing_reports_segments_that_were_not_heard() -> None:
    """Whoever waits for a playout is not left waiting when the line goes down."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.capture_frame(speech(5.0))
        phone.playout.flush()
        await asyncio.sleep(0.1)
        await phone.playout.aclose()
        await phone.playout.wait_for_playout()
        return phone

    assert run_virtually(story()).finished[0].interrupted


def test_an_interruption_within_the_first_word_leaves_nothing_said() -> None:
    """A sentence of which no word was heard whole is not in the transcript, nor in what the model believes."""

    async def story() -> Phone:
        phone = Phone()
        await phone.playout.text.capture_text("Certainly, your table is booked.")
        await phone.playout.capture_frame(speech(3.0))
        await asyncio.sleep(0.2)
        phone.playout.clear_buffer()
        phone.playout.flush()
        await phone.playout.wait_for_playout()
        return phone

    assert run_virtually(story()).finished[0].synchronized_transcript == ""


def test_a_sentence_that_stands_still_is_noticed() -> None:
    """A voice that begins and does not go on counts as stalled from the moment the caller hears nothing."""

    async def story() -> list[float]:
        phone = Phone()
        before = phone.playout.stalled_seconds
        await phone.playout.capture_frame(speech(1.0))
        await asyncio.sleep(0.5)
        speaking = phone.playout.stalled_seconds
        await asyncio.sleep(2.5)
        stalled = phone.playout.stalled_seconds
        phone.playout.flush()
        await asyncio.sleep(0.1)
        return [before, speaking, round(stalled, 3), phone.playout.stalled_seconds]

    assert run_virtually(story()) == [0.0, 0.0, 2.0, 0.0]
