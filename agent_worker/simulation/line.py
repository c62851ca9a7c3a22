"""A line without a phone network: real audio both ways, in real time."""

from __future__ import annotations

import asyncio

from agent_worker.call.line import Line, LineClosed
from agent_worker.domain.call import CallOffer, Direction, DisconnectionReason, new_call_id
from agent_worker.errors import CallError
from agent_worker.simulation.leg import SimulatedLeg

CALLER_NUMBER = "+12015550177"


class SimulatedLine(SimulatedLeg, Line):
    """The caller's side of a simulated inbound call.

    Args:
        dialed_number: E.164; decides which agent answers, as on a real call.
        job_metadata: what a dispatch would have sent along.
        seed: of the noise on the caller's side.

    Attributes:
        answered: set when the agent picks up.
    """

    def __init__(
        self,
        *,
        dialed_number: str,
        caller_number: str | None = CALLER_NUMBER,
        job_metadata: dict[str, object] | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__(new_call_id())
        self._equip(seed)
        self.room_name = f"simulated-{self.call_id[:8]}"
        self.answered = asyncio.Event()
        self._offer = CallOffer(
            call_id=self.call_id,
            direction=Direction.INBOUND,
            room_name=self.room_name,
            caller_number=caller_number,
            dialed_number=dialed_number,
            caller_identity="simulated-caller",
            attributes={"sip.callStatus": "ringing"},
            job_metadata=job_metadata or {},
        )

    async def ring(self) -> CallOffer:
        """Return who calls whom; a simulated caller never keeps us waiting."""
        return self._offer

    async def pick_up(self) -> None:
        """Answer: the microphone opens and the agent is heard."""
        if self.closed.done():
            raise CallError(
                "cancelled",
                "The caller gave up while it rang.",
                disconnection_reason=DisconnectionReason.CANCELLED,
            )
        self.picked_up = True
        self.open_microphone()
        self.answered.set()

    async def hang_up(self) -> None:
        """Take the line down from the agent's side."""
        self._close(LineClosed(DisconnectionReason.AGENT_HANGUP, None, 200, "OK"))

    def caller_hangs_up(self) -> None:
        """Take the line down from the caller's side; while it rings, that is giving up."""
        if self.picked_up:
            self._close(LineClosed(DisconnectionReason.USER_HANGUP, None, 200, "OK"))
        else:
            self._close(LineClosed(DisconnectionReason.CANCELLED, "cancelled", 487, "Request Terminated"))

    def caller_presses(self, digit: str) -> None:
        """Press a key on the caller's phone."""
        self._pressed(digit)
