"""The telephone's parts without sockets: levels and clips, mu-law, the recording's clock, SIP as text."""

from __future__ import annotations

import numpy as np
import pytest

from agent_worker.testing.audio import (
    Pcm,
    dbfs,
    locate,
    onset,
    resample,
    speech_segments,
    tone,
    tone_seconds,
    trim_silence,
)
from agent_worker.testing.rtp import RATE, Packet, assemble, comfort_noise, pcmu_decode, pcmu_encode
from agent_worker.testing.sip_message import (
    MediaDescription,
    SipMessage,
    audio_offer,
    digest_credentials,
    header_uri,
    uri_address,
    uri_user,
)
from agent_worker.testing.stand_ins.hearing import ClipBook, Ear
from agent_worker.testing.stand_ins.openai import OpenAIStandIn, Rule
from agent_worker.testing.voice import synthetic_voice

FIRST = synthetic_voice("I would like to book a room for two people, please.", RATE)
SECOND = synthetic_voice("Goodbye, and thank you.", RATE)


def _silence(seconds: float) -> Pcm:
    return comfort_noise(seconds)


def test_levels_follow_the_signal() -> None:
    """A tone's level is what it was made with, and a quiet line's noise is silence."""
    assert dbfs(tone(440, 1.0, RATE, level_dbfs=-20)) == pytest.approx(-20, abs=0.1)
    assert dbfs(_silence(1.0)) < -65
    assert speech_segments(_silence(1.0), RATE) == []
    assert dbfs(np.empty(0, dtype=np.int16)) == -120


def test_speech_is_found_where_it_is() -> None:
    """Segments begin and end within 20 ms of the speech, and a short gap does not split one."""
    recording = np.concatenate((_silence(1.0), SECOND, _silence(1.0), SECOND, _silence(0.5)))
    length = SECOND.size / RATE
    found = speech_segments(recording, RATE)
    assert [segment.start for segment in found] == pytest.approx([1.0, 2.0 + length], abs=0.02)
    assert [segment.end for segment in found] == pytest.approx([1.0 + length, 2.0 + 2 * length], abs=0.08)
    assert onset(recording, RATE, after=1.5 + length) == pytest.approx(2.0 + length, abs=0.02)
    assert len(speech_segments(recording, RATE, max_gap=1.2)) == 1


def test_a_tone_is_measured_for_as_long_as_it_lasts() -> None:
    """One second of 600 Hz is a second of 600 Hz, and none of 1000 Hz; speech is neither."""
    recording = np.concatenate((_silence(0.4), tone(600, 1.0, RATE), FIRST))
    assert tone_seconds(recording, RATE, 600) == pytest.approx(1.0, abs=0.08)
    assert tone_seconds(tone(600, 1.0, RATE), RATE, 1000) == 0
    assert tone_seconds(_silence(1.0), RATE, 600) == 0


@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3])
def test_a_clip_with_its_head_missing_is_told_from_a_whole_one(missing: float) -> None:
    """Where a clip lies is found, and how much of its beginning is not there, also through mu-law."""
    cut = int(missing * RATE)
    heard = pcmu_decode(pcmu_encode(np.concatenate((_silence(0.7), FIRST[cut:], _silence(0.7)))))
    match = locate(heard, FIRST, RATE)
    assert match is not None
    assert match.correlation > 0.9
    assert match.offset == pytest.approx(0.7 - missing, abs=0.01)
    assert match.missing_head == pytest.approx(missing, abs=0.03)
    assert match.missing_tail == 0


def test_another_clip_does_not_match() -> None:
    """A recording of other words correlates badly."""
    match = locate(np.concatenate((_silence(0.5), FIRST)), SECOND, RATE)
    assert match is not None
    assert match.correlation < 0.5


def test_resampling_keeps_level_and_length() -> None:
    """A second stays a second, as loud as before."""
    changed = resample(FIRST, RATE, 24_000)
    assert changed.size == FIRST.size * 3
    assert dbfs(changed) == pytest.approx(dbfs(FIRST), abs=0.2)
    assert trim_silence(np.concatenate((_silence(1), FIRST)), RATE).size <= FIRST.size


def test_mu_law_is_g711() -> None:
    """Known codes decode to their values, every code survives a round trip, and the error stays small."""
    assert pcmu_decode(bytes([0x00, 0x80, 0xFF, 0x7F])).tolist() == [-32124, 32124, 0, 0]
    codes = bytes(set(range(256)) - {0x7F})
    assert pcmu_encode(pcmu_decode(codes)) == codes
    loud = tone(440, 0.1, RATE, level_dbfs=-10)
    error = pcmu_decode(pcmu_encode(loud)).astype(np.int32) - loud
    assert np.abs(error).max() < 700


def _packet(arrived_at: float, timestamp: int, value: int, ssrc: int = 1) -> Packet:
    return Packet(arrived_at, ssrc, timestamp % 2**32, pcmu_encode(np.full(160, value, dtype=np.int16)))


def test_a_recording_keeps_the_senders_clock() -> None:
    """A lost packet is silence, a late one lies where it belongs, and the timestamp may wrap."""
    start = 2**32 - 160
    packets = [
        _packet(10.00, start, 1000),
        _packet(10.06, start + 480, 3000),
        _packet(10.07, start + 160, 2000),
    ]
    heard = assemble(packets)
    assert heard.pcm.size == 640
    assert [int(heard.pcm[at]) // 900 for at in (0, 160, 320, 480)] == [1, 2, 0, 3]
    assert heard.first_at == 10.0
    assert heard.moment(0.01) == pytest.approx(10.01)
    assert heard.since(10.06).size == 160


def test_a_new_stream_is_placed_by_its_arrival() -> None:
    """A second SSRC continues the recording at the moment it came, whatever its timestamps say."""
    heard = assemble([_packet(5.0, 1000, 1000), _packet(6.0, 777_000, 2000, ssrc=2)])
    assert heard.pcm.size == RATE + 160
    assert heard.moment(1.0) == pytest.approx(6.0)


def test_nothing_heard_has_no_moments() -> None:
    """An empty recording says so instead of inventing a time."""
    heard = assemble([])
    assert heard.first_at is None
    with pytest.raises(ValueError, match="no audio"):
        heard.moment(0.0)


def test_messages_survive_as_text() -> None:
    """Compact and folded headers are read; a response copies what it must and tags its To."""
    datagram = (
        b"INVITE sip:+15550100@127.0.0.1 SIP/2.0\r\nv: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK1\r\n"
        b'f: "A B" <sip:+15559999@127.0.0.1:5070>;tag=a\r\nt: <sip:+15550100@127.0.0.1>\r\ni: c1\r\n'
        b"CSeq: 7 INVITE\r\nSubject: long\r\n  and folded\r\n\r\nbody"
    )
    message = SipMessage.parse(datagram)
    assert (message.method, message.cseq, message.call_id, message.body) == ("INVITE", 7, "c1", b"body")
    assert message.header("Subject") == "long and folded"
    assert uri_user(header_uri(message.header("From"))) == "+15559999"
    assert uri_address("sip:x@127.0.0.1:15060;transport=udp") == ("127.0.0.1", 15060)
    reply = SipMessage.parse(message.respond(180, "Ringing", tag="b").encode())
    assert (reply.status, reply.reason, reply.method) == (180, "Ringing", "INVITE")
    assert reply.header("To").endswith(";tag=b")
    with pytest.raises(ValueError, match="not a SIP message"):
        SipMessage.parse(b"\x80\x00rtp")


def test_offers_are_understood() -> None:
    """What the phone offers is what it reads back; no audio line is an error."""
    media = MediaDescription.parse(audio_offer("127.0.0.1", 4000))
    assert (media.host, media.port, media.pcmu, media.dtmf_payload) == ("127.0.0.1", 4000, True, 101)
    with pytest.raises(ValueError, match="without audio"):
        MediaDescription.parse(b"v=0\r\n")


def test_credentials_match_the_rfc() -> None:
    """The digest without qop is RFC 2069's: MD5 of user, nonce and request."""
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    value = digest_credentials(challenge, "GET", "/dir/index.html", "Mufasa", "Circle Of Life")
    assert 'response="670fd8c2df070c60b045671b8b24ff02"' in value
    assert "qop=auth, nc=00000001" in digest_credentials(f'{challenge}, qop="auth"', "GET", "/", "a", "b")


def test_clips_are_recognised_by_sound() -> None:
    """A clip quieter and through mu-law is still itself; another voice's words are nobody's."""
    book = ClipBook()
    book.register("first", FIRST, RATE)
    book.register("second", SECOND, RATE)
    line = pcmu_decode(pcmu_encode((FIRST * 0.5).astype(np.int16)))
    assert book.recognise(resample(line, RATE, 16_000)) == "first"
    assert book.recognise(resample(SECOND, RATE, 16_000)) == "second"
    assert book.recognise(tone(440, 6.0, 16_000)) is None
    assert "first".startswith(book.guess(resample(FIRST[: FIRST.size // 2], RATE, 16_000)))


def test_a_click_is_no_utterance() -> None:
    """One loud block does not start an utterance; speech does."""
    ear = Ear(16_000)
    click = np.zeros(800, dtype=np.int16)
    click[:160] = 8000
    ear.hear(click.tobytes())
    assert ear.started_at is None
    ear.hear(tone(300, 0.05, 16_000).tobytes())
    assert ear.started_at is not None
    ear.reset()
    assert ear.utterance().size == 0


def test_the_first_rule_that_fits_answers() -> None:
    """Rules look at the caller's last words, or at a tool's result, never at both."""
    model = OpenAIStandIn(rules=[Rule("room", reply="a"), Rule("full", after_tool="book", reply="b")])
    asked = [{"role": "user", "content": "hello"}, {"role": "user", "content": "a ROOM"}]
    call = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "book"}}]}
    assert model.choose(asked).reply == "a"
    assert model.choose([*asked, call, {"role": "tool", "tool_call_id": "1", "content": "full"}]).reply == "b"
    assert model.choose([*asked, call, {"role": "tool", "tool_call_id": "1", "content": "ok"}]).reply == "Done."
    assert model.choose([{"role": "user", "content": "bye"}]).reply == model.default_reply
