"""The embedded voice: a synthesiser of this machine, and where there is none, recorded sentences."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectionError, APIConnectOptions, tts, utils

from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.providers.embedded.engines import SAMPLE_RATE, EngineError, installed_engine, speak

logger = logging.getLogger("agent_worker.providers")

CLIPS_FOLDER = Path(__file__).parent / "clips"
NO_VOICE = "I have no recorded voice for this sentence."
NOTICE = "no speech synthesiser here: the agent speaks in recorded sentences (apt install flite for a voice)"


class EmbeddedTTS(tts.TTS[Any]):
    """Speaks whole sentences; the session cuts replies into them.

    Attributes:
        engine: `flite`, `espeak-ng` or `clips`.
    """

    def __init__(
        self, *, engine: str = "auto", voice: str | None = None, speed: float = 1.0, language: str = "en"
    ) -> None:
        super().__init__(capabilities=tts.TTSCapabilities(streaming=False), sample_rate=SAMPLE_RATE, num_channels=1)
        if engine == "auto" and not language.startswith("en"):
            engine = "espeak-ng"  # flite and the recorded sentences are English
        self.engine = installed_engine(engine) or "clips"
        self._voice = voice
        self._speed = speed
        self._language = language
        self._clips = ClipLibrary(CLIPS_FOLDER)
        if self.engine == "clips" and engine != "clips":
            logger.info(NOTICE)

    @property
    def model(self) -> str:
        """The engine in use."""
        return self.engine

    @property
    def provider(self) -> str:
        """Says what it is."""
        return "embedded"

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        """Return the text as a stream of audio."""
        return _Speech(tts=self, input_text=text, conn_options=conn_options)

    async def pcm(self, text: str) -> bytes:
        """Return the text as 16-bit mono PCM at 16 kHz.

        Raises:
            EngineError: the synthesiser failed.
        """
        if self.engine != "clips":
            return await speak(self.engine, text, voice=self._voice, speed=self._speed, language=self._language)
        recorded = await asyncio.to_thread(self._clips.pcm, text)
        if recorded is None:
            logger.warning("a sentence has no recorded voice", extra={"characters": len(text)})
            recorded = await asyncio.to_thread(self._clips.pcm, NO_VOICE)
        if recorded is None:
            raise EngineError("the recorded sentences are missing from this installation")
        return recorded


class _Speech(tts.ChunkedStream):
    _tts: EmbeddedTTS

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=utils.shortuuid(), sample_rate=SAMPLE_RATE, num_channels=1, mime_type="audio/pcm"
        )
        try:
            output_emitter.push(await self._tts.pcm(self._input_text))
        except EngineError as error:
            raise APIConnectionError(str(error)) from error
        output_emitter.flush()
