"""The person a simulated caller is put through to: picks up, listens, says yes, talks with the caller, hangs up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from agent_worker.call.line import LineClosed
from agent_worker.call.transfer.leg import PersonLeg
from agent_worker.domain.call import DisconnectionReason
from agent_worker.simulation.caller import PERSON_VOICE, POLL_SECONDS, TURN_SECONDS, caller_voice
from agent_worker.simulation.leg import SimulatedLeg
from agent_worker.telephony.transfer import SUCCESS, SipOutcome

RING_SECONDS = 1.5
PATIENCE_SECONDS = 20.0
"""How long the person waits for the other side before going on all the same."""


class SimulatedPerson(SimulatedLeg, PersonLeg):
    """One person's phone, and what they do when it rings.

    Args:
        yes: what they say once they have been asked.
        lines: what they say to the caller, in turn with them; then they hang up.
        said: told of each line when it was said.
    """

    def __init__(
        self, room_name: str, *, yes: str, lines: Sequence[str], said: Callable[[str], None], seed: int = 2
    ) -> None:
        super().__init__()
        self._equip(seed)
        self.room_name = room_name
        self._yes = yes
        self._lines = list(lines)
        self._said = said
        self._acting: asyncio.Task[None] | None = None

    async def dial(
        self, to: str, *, trunk_id: str | None, shown_number: str | None, ringing_seconds: int
    ) -> SipOutcome:
        """Ring for a moment and pick up; whoever is dialled, it is this person."""
        voices = {text: await caller_voice(text, voice=PERSON_VOICE) for text in (self._yes, *self._lines)}
        await asyncio.sleep(RING_SECONDS)
        self.open_microphone()
        self._acting = asyncio.create_task(self._act(voices), name="simulated_person")
        return SUCCESS

    @property
    def answered(self) -> bool:
        """Whether they have picked up."""
        return self._acting is not None

    async def hang_up(self) -> None:
        """Take the leg down from our side."""
        self._close(LineClosed(DisconnectionReason.AGENT_HANGUP, None, 200, "OK"))

    async def aclose(self) -> None:
        """Stop the person, and the audio of both sides."""
        if self._acting is not None:
            self._acting.cancel()
            await asyncio.gather(self._acting, return_exceptions=True)
        await super().aclose()

    async def _act(self, voices: dict[str, bytes]) -> None:
        since = 0.0
        for text in (self._yes, *self._lines):
            await self._my_turn(since)
            _, since = await self.speak(voices[text])
            self._said(text)
            if text == self._yes:
                await self.until(self.passed_on)
                since = 0.0  # whoever is asked for speaks first
        self._close(LineClosed(DisconnectionReason.USER_HANGUP, None, 200, "OK"))

    async def _my_turn(self, since: float) -> None:
        """Wait until the other side has been heard after `since` and has finished."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.closed.done() and time.monotonic() < deadline:
            if self.ear.first_sound_after(since) is not None and self.ear.quiet_for() >= TURN_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)
