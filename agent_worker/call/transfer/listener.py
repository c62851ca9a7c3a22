"""Writes down what two people say to each other, once the agent is no longer part of the conversation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from livekit import rtc
from livekit.agents import APIError, stt

from agent_worker.call.line import Audible
from agent_worker.call.transcript import TranscriptWriter
from agent_worker.domain.fact import TranscriptSource

logger = logging.getLogger("agent_worker.call")

INTERIM_SECONDS = 1.5
"""Without any news of a sentence for so long it is over, whether or not its final words come."""


class Listener:
    """Recognises one voice; what is recognised goes into the call's transcript.

    Args:
        source: whose side of the call it is.
        about: kept with each entry: who speaks.
        heard: told of each entry's words.
    """

    def __init__(
        self,
        leg: Audible,
        recogniser: stt.STT[Any],
        transcript: TranscriptWriter,
        source: TranscriptSource,
        about: dict[str, Any],
        heard: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._interim_at = float("-inf")
        self._stream: stt.RecognizeStream | None = None
        self._leg = leg
        self._recogniser = recogniser
        self._transcript = transcript
        self._source = source
        self._about = about
        self._heard = heard

    @property
    def mid_sentence(self) -> bool:
        """Whether something was said a moment ago whose final words are not known yet."""
        return time.monotonic() - self._interim_at < INTERIM_SECONDS

    async def run(self) -> None:
        """Listen until cancelled; a recogniser that fails is only a transcript that is missing."""
        if not self._recogniser.capabilities.streaming:
            logger.warning("the recogniser hears whole sentences only: a joined call is not transcribed")
            return
        stream = self._stream = self._recogniser.stream()

        def hear(frame: rtc.AudioFrame, _heard_at: float) -> None:
            with contextlib.suppress(RuntimeError):  # it has failed, and its reader is about to say so
                stream.push_frame(frame)

        self._leg.tap_voice(hear)
        try:
            async for event in stream:
                if event.type is stt.SpeechEventType.INTERIM_TRANSCRIPT:
                    self._interim_at = time.monotonic()
                if event.type is stt.SpeechEventType.FINAL_TRANSCRIPT and event.alternatives:
                    self._interim_at = float("-inf")
                    self._write(event.alternatives[0])
        except APIError as error:
            logger.warning("joined call no longer transcribed", extra={"error": type(error).__name__})
        finally:
            self._leg.untap_voice(hear)
            await stream.aclose()

    def flush(self) -> None:
        """Take what was said so far as a whole sentence: its speaker has closed the microphone."""
        if self._stream is not None:
            with contextlib.suppress(RuntimeError):
                self._stream.flush()

    def finish(self) -> None:
        """Have `run` return once the last words are known."""
        if self._stream is not None:
            with contextlib.suppress(RuntimeError):
                self._stream.end_input()

    def _write(self, said: stt.SpeechData) -> None:
        if not said.text.strip():
            return
        ended = datetime.now(UTC)
        started = ended - timedelta(seconds=max(0.0, said.end_time - said.start_time))
        self._transcript.overheard(self._source, said.text.strip(), started, ended, self._about)
        self._heard(said.text.strip())


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel listeners and wait for them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
