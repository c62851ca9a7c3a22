"""A scripted caller: listens until the agent has finished, pauses, says the next line, hangs up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.errors import ProviderError
from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.providers.embedded.engines import EngineError, installed_engine, speak
from agent_worker.simulation.line import SimulatedLine

CLIPS_FOLDER = Path(__file__).parent / "clips"
CALLER_VOICE = "rms"
PERSON_VOICE = "awb"
TURN_SECONDS = 0.9
"""Silence after which the caller takes the turn: longer than a pause between two sentences."""

PATIENCE_SECONDS = 10.0
"""How long the caller waits for an answer before speaking all the same."""

GOODBYE_SECONDS = 12.0
"""How long the caller stays on the line after the last words; then the caller hangs up."""

POLL_SECONDS = 0.02
LOUD = 500


@dataclass(frozen=True)
class CallerTurn:
    """One line of the caller, as it went; times are monotonic, in seconds.

    Attributes:
        answered_at: when the agent was heard after it, None where it was not.
    """

    text: str
    started_at: float
    stopped_at: float
    answered_at: float | None

    @property
    def latency_ms(self) -> float | None:
        """From the caller's last sound to the agent's first, ms."""
        return None if self.answered_at is None else (self.answered_at - self.stopped_at) * 1000


async def caller_voice(text: str, clips: ClipLibrary | None = None, voice: str = CALLER_VOICE) -> bytes:
    """Return somebody's line as 16-bit mono PCM at 16 kHz: the recorded one, else synthesised.

    Raises:
        ProviderError: the line is not recorded and there is no synthesiser here.
    """
    recorded = await asyncio.to_thread((clips or ClipLibrary(CLIPS_FOLDER)).pcm, text)
    if recorded is not None:
        return recorded
    engine = installed_engine()
    try:
        if engine is not None:
            return await speak(engine, text, voice=voice)
        cause = "no speech synthesiser is installed"
    except EngineError as error:
        cause = str(error)
    raise ProviderError(
        "caller_has_no_voice",
        f"The simulated caller cannot say its line: {cause}.",
        remedy="Run: apt install flite.",
    )


class ScriptedCaller:
    """Calls with a list of lines.

    Args:
        said: told of each line when it was said.

    Attributes:
        turns: what was said so far.
    """

    def __init__(
        self, line: SimulatedLine, script: Sequence[str], *, said: Callable[[str], None] | None = None
    ) -> None:
        self._line = line
        self._script = list(script)
        self._said = said
        self.turns: list[CallerTurn] = []

    async def run(self) -> None:
        """Hold the caller's side until the line is closed.

        Raises:
            ProviderError: a line can be neither played nor synthesised.
        """
        clips = ClipLibrary(CLIPS_FOLDER)
        voices = [await caller_voice(text, clips) for text in self._script]
        await self._line.until(self._line.answered)
        since = 0.0
        for text, pcm in zip(self._script, voices, strict=True):
            await self._my_turn(since)
            if self._line.closed.done():
                break
            since = await self._say(text, pcm)
        await asyncio.wait({self._line.closed}, timeout=GOODBYE_SECONDS)
        self._line.caller_hangs_up()
        self._note_answer()

    async def _say(self, text: str, pcm: bytes) -> float:
        self._note_answer()
        started, ended = await self._line.speak(pcm)
        stopped = ended - _trailing_silence(pcm)
        self.turns.append(CallerTurn(text, started, stopped, None))
        if self._said is not None:
            self._said(text)
        return stopped

    def _note_answer(self) -> None:
        if self.turns and self.turns[-1].answered_at is None:
            last = self.turns[-1]
            heard = self._line.ear.first_sound_after(last.stopped_at)
            self.turns[-1] = CallerTurn(last.text, last.started_at, last.stopped_at, heard)

    async def _my_turn(self, since: float) -> None:
        """Wait until the agent has been heard after `since` and has finished."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        ear = self._line.ear
        while not self._line.closed.done():
            heard = ear.first_sound_after(since)
            if heard is None and time.monotonic() > deadline:
                return
            if heard is not None and ear.quiet_for() >= TURN_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)


def _trailing_silence(pcm: bytes) -> float:
    loud = np.flatnonzero(np.abs(np.frombuffer(pcm, dtype=np.int16).astype(np.int32)) > LOUD)
    total = len(pcm) // 2
    return (total - int(loud[-1]) - 1) / LINE_SAMPLE_RATE if len(loud) else 0.0
