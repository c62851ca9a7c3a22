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


# Lines that the local end-of-turn model takes for finished, so that a turn is not its longest pause.
EXCHANGES = (
    Exchange(
        "Good morning, do you have any rooms?",
        "any rooms",
        "Certainly we have a room for you tonight. Which day would you like to leave?",
    ),
    Exchange(
        "How much is breakfast?",
        "breakfast",
        "Breakfast is twelve dollars for each of our guests. Would you like me to add it to your room?",
    ),
    Exchange(
        "What is your address?",
        "address",
        "We are at number ten in Harbour Street. Is there anything else that I can do for you?",
    ),
)
