"""What is said in a measured call, by both sides: the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass

# One clause: a worker that hands its text over in clauses and one that does not speak the same audio.
GREETING = "Good morning and welcome to the Harbour Hotel."
INSTRUCTIONS = "You are the front desk of a small hotel. Answer briefly."


@dataclass(frozen=True)
class Exchange:
    """One turn of the caller and the model's answer; `key` finds it."""

    line: str
    key: str
    reply: str

    @property
    def sentences(self) -> list[str]:
        """The reply as a worker hands it to the voice."""
        first, _, rest = self.reply.partition(". ")
        return [f"{first}.", rest]


EXCHANGES = (
    Exchange(
        "I would like to book a room for two people.",
        "book a room",
        "Certainly we have a room for two people. Which day would you like to arrive?",
    ),
    Exchange(
        "We would arrive on the second Friday of next month.",
        "second Friday",
        "That is noted and the room is still free on that day. Would you like to have breakfast as well?",
    ),
    Exchange(
        "Yes, we would like breakfast on both of the days.",
        "like breakfast",
        "Breakfast is served from seven until half past ten. Is there anything else I can do for you?",
    ),
)
