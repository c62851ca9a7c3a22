"""Speech recognition on this machine: pocketsphinx, a closed vocabulary, gated by the voice detector.

Honest within its vocabulary and for synthetic or careful speech; not meant for callers at large.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from livekit import rtc
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
    stt,
    utils,
)
from livekit.agents.language import LanguageCode

from agent_worker.providers.embedded.phrases import (
    read_phrases,
    trim_dictionary,
    words_of,
    write_language_model,
)

if TYPE_CHECKING:
    from pocketsphinx import Decoder

logger = logging.getLogger("agent_worker.providers")

SAMPLE_RATE = 16_000
WINDOW = 512
"""Samples the voice detector takes at a time (32 ms)."""

PREROLL_WINDOWS = 12
SPEECH_WINDOWS = 3
SILENCE_WINDOWS = 8
"""Windows of speech that open an utterance, and of silence that close it (about 100 ms and 250 ms)."""

SPEECH_PROBABILITY = 0.5
SILENCE_PROBABILITY = 0.35
DECODE_WINDOWS = 3
STABLE_LOOKS = 2
"""Looks at the running hypothesis after which, unchanged, it is worth showing."""


def build_decoder(phrases_file: Path) -> Decoder:
    """Return a decoder that knows the words of the phrases file and no others.

    Raises:
        ProviderError: the phrases file is wrong.
    """
    import pocketsphinx

    sentences = read_phrases(phrases_file)
    dictionary = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"))
    entries, missing = trim_dictionary(dictionary, words_of(sentences))
    if missing:
        logger.warning("words without a pronunciation are not recognised", extra={"words": sorted(missing)})
    known = {entry.split(" ", 1)[0].partition("(")[0] for entry in entries}
    with tempfile.TemporaryDirectory(prefix="agent-worker-lm-") as folder:
        words, model = Path(folder) / "words.dict", Path(folder) / "phrases.lm"
        words.write_text("\n".join(entries) + "\n", encoding="utf-8")
        write_language_model(sentences, known, model)
        return pocketsphinx.Decoder(
            hmm=pocketsphinx.get_model_path("en-us/en-us"),
            lm=str(model),
            dict=str(words),
            fwdflat=False,
            loglevel="FATAL",
        )


@dataclass
class Utterance:
    """What became of one stretch of audio: `interim` while it lasts, `final` at its end."""

    started: bool = False
    interim: str | None = None
    final: str | None = None
    start: float = 0.0
    end: float = 0.0


@dataclass
class UtteranceDecoder:
    """Feeds one decoder window by window and knows where utterances begin and end; not thread-safe.

    Attributes:
        heard: seconds of audio taken so far.
    """

    decoder: Decoder
    detector: Any
    heard: float = 0.0
    _preroll: deque[bytes] = field(default_factory=lambda: deque(maxlen=PREROLL_WINDOWS))
    _pending: list[bytes] = field(default_factory=list)
    _speech: int = 0
    _silence: int = 0
    _open: bool = False
    _start: float = 0.0
    _last: str = ""
    _looks: int = 0
    _shown: str = ""

    def feed(self, window: bytes) -> Utterance | None:
        """Take one window of `WINDOW` samples; return what changed, if anything did."""
        import numpy as np

        probability = self.detector.predict(np.frombuffer(window, dtype=np.int16))
        self.heard += WINDOW / SAMPLE_RATE
        if not self._open:
            self._preroll.append(window)
            self._speech = self._speech + 1 if probability >= SPEECH_PROBABILITY else 0
            return self._begin() if self._speech >= SPEECH_WINDOWS else None
        self._pending.append(window)
        self._silence = self._silence + 1 if probability < SILENCE_PROBABILITY else 0
        if self._silence >= SILENCE_WINDOWS:
            return self.finish()
        return self._look() if len(self._pending) >= DECODE_WINDOWS else None

    def finish(self) -> Utterance | None:
        """End the utterance that is open, if one is, and return its words ("" where there were none)."""
        if not self._open:
            return None
        self._decode()
        self.decoder.end_utt()
        text = self._hypothesis()
        self._open, self._speech, self._silence, self._shown, self._last = False, 0, 0, "", ""
        self._preroll.clear()
        return Utterance(final=text, start=self._start, end=self.heard)

    def _begin(self) -> Utterance:
        self._open, self._silence = True, 0
        self._start = max(0.0, self.heard - len(self._preroll) * WINDOW / SAMPLE_RATE)
        self.decoder.start_utt()
        self._pending = list(self._preroll)
        self._preroll.clear()
        self._decode()
        return Utterance(started=True, start=self._start)

    def _look(self) -> Utterance | None:
        self._decode()
        text = self._hypothesis()
        self._looks = self._looks + 1 if text == self._last else 0
        self._last = text
        if text and text != self._shown and self._looks >= STABLE_LOOKS:
            self._shown = text
            return Utterance(interim=text, start=self._start, end=self.heard)
        return None

    def _decode(self) -> None:
        if self._pending:
            self.decoder.process_raw(b"".join(self._pending), no_search=False, full_utt=False)
            self._pending = []

    def _hypothesis(self) -> str:
        hypothesis = self.decoder.hyp()
        return hypothesis.hypstr.strip() if hypothesis is not None else ""


class EmbeddedSTT(stt.STT[Any]):
    """The embedded recogniser; one decoder (about 7 MiB) per stream."""

    def __init__(self, phrases_file: Path, *, model: str) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self._phrases_file = phrases_file
        self._model = model

    @property
    def model(self) -> str:
        """Name of the phrases file."""
        return self._model

    @property
    def provider(self) -> str:
        """Says what it is."""
        return "pocketsphinx"

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> EmbeddedStream:
        """Return a stream that recognises until it is closed."""
        return EmbeddedStream(self, conn_options=conn_options)

    async def utterance_decoder(self) -> UtteranceDecoder:
        """Return a fresh decoder, built off the event loop."""
        from livekit.local_inference import VAD

        decoder = await asyncio.to_thread(build_decoder, self._phrases_file)
        return UtteranceDecoder(decoder, VAD())

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        decoder = await self.utterance_decoder()
        frame = rtc.combine_audio_frames(buffer)
        texts = await asyncio.to_thread(_recognise_all, decoder, _at_sample_rate(frame))
        return _event(stt.SpeechEventType.FINAL_TRANSCRIPT, " ".join(texts), 0.0, decoder.heard)


class EmbeddedStream(stt.RecognizeStream):
    """One call's recognition."""

    def __init__(self, recogniser: EmbeddedSTT, *, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=recogniser, conn_options=conn_options, sample_rate=SAMPLE_RATE)
        self._recogniser = recogniser
        self._counted = 0.0

    async def _run(self) -> None:
        decoder = await self._recogniser.utterance_decoder()
        windows = utils.audio.AudioByteStream(SAMPLE_RATE, 1, samples_per_channel=WINDOW)
        async for item in self._input_ch:
            if isinstance(item, rtc.AudioFrame):
                for window in windows.push(item.data.tobytes()):
                    self._tell(decoder, await asyncio.to_thread(decoder.feed, window.data.tobytes()))
            else:
                self._tell(decoder, await asyncio.to_thread(decoder.finish))
        self._tell(decoder, await asyncio.to_thread(decoder.finish))

    def _tell(self, decoder: UtteranceDecoder, utterance: Utterance | None) -> None:
        if utterance is None:
            return
        kinds = stt.SpeechEventType
        if utterance.started:
            self._event_ch.send_nowait(stt.SpeechEvent(type=kinds.START_OF_SPEECH))
        if utterance.interim:
            self._send(kinds.INTERIM_TRANSCRIPT, utterance.interim, utterance)
        if utterance.final is not None:
            if utterance.final:
                self._send(kinds.FINAL_TRANSCRIPT, utterance.final, utterance)
            self._event_ch.send_nowait(stt.SpeechEvent(type=kinds.END_OF_SPEECH))
            usage = stt.RecognitionUsage(audio_duration=round(decoder.heard - self._counted, 3))
            self._counted = decoder.heard
            self._event_ch.send_nowait(stt.SpeechEvent(type=kinds.RECOGNITION_USAGE, recognition_usage=usage))

    def _send(self, kind: stt.SpeechEventType, text: str, utterance: Utterance) -> None:
        offset = self.start_time_offset
        self._event_ch.send_nowait(_event(kind, text, utterance.start + offset, utterance.end + offset))


def _event(kind: stt.SpeechEventType, text: str, start: float, end: float) -> stt.SpeechEvent:
    data = stt.SpeechData(language=LanguageCode("en"), text=text, start_time=start, end_time=end)
    return stt.SpeechEvent(type=kind, alternatives=[data])


def _at_sample_rate(frame: rtc.AudioFrame) -> bytes:
    if frame.sample_rate == SAMPLE_RATE:
        return frame.data.tobytes()
    resampler = rtc.AudioResampler(frame.sample_rate, SAMPLE_RATE)
    return b"".join(part.data.tobytes() for part in [*resampler.push(frame), *resampler.flush()])


def _recognise_all(decoder: UtteranceDecoder, pcm: bytes) -> list[str]:
    pcm += bytes(2 * WINDOW * (SILENCE_WINDOWS + 2))
    step = 2 * WINDOW
    texts = []
    for start in range(0, len(pcm) - step + 1, step):
        utterance = decoder.feed(pcm[start : start + step])
        if utterance is not None and utterance.final:
            texts.append(utterance.final)
    last = decoder.finish()
    return texts + ([last.final] if last is not None and last.final else [])
