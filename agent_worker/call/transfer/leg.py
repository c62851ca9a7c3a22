"""A leg to a person who is to be asked: whatever network they are dialled over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from agent_worker.call.line import Leg
from agent_worker.telephony.transfer import SipOutcome


class PersonLeg(Leg):
    """One attempt's leg: nobody else is on it but the person and us.

    Attributes:
        trunk_id: LiveKit trunk the person was dialled over, once that is known.
    """

    trunk_id: str | None = None

    @abstractmethod
    async def dial(
        self, to: str, *, trunk_id: str | None, shown_number: str | None, ringing_seconds: int
    ) -> SipOutcome:
        """Dial the person; returns when they hear us and we hear them, or why they will not.

        Cancelled, the phone stops ringing.
        """

    @property
    @abstractmethod
    def answered(self) -> bool:
        """Whether the person has picked up."""

    async def move(self, room_name: str) -> bool:
        """Move the person into the caller's room, where the network can; returns whether it did."""
        return False


MakeLeg = Callable[[str, str], PersonLeg]
"""Makes a leg of the name of its room and the person's identity there."""
