"""What is said in a measured call, by both sides: the same for every worker."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.providers.first_clause import FirstClauseTokenizer

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
    def openings(self) -> list[str]:
        """What a worker may hand to the voice first: the first sentence, or its beginning as this project cuts it."""
        return list(
            dict.fromkeys([self.reply.partition(". ")[0] + ".", FirstClauseTokenizer("en").tokenize(self.reply)[0]])
        )

    @property
    def pieces(self) -> list[str]:
        """Every text that is likely to be spoken in one piece."""
        rest = self.reply.partition(". ")[2]
        return list(dict.fromkeys([*self.openings, *FirstClauseTokenizer("en").tokenize(self.reply), rest]))


# Lines that the local end-of-turn model takes for finished, so that a turn is not its longest pause.
EXCHANGES = (
    Exchange(
        "Good morning, do you have any rooms?",
        "any rooms",
        "Yes of course, we have a room for you tonight. When will you leave?",
    ),
    Exchange(
        "How much is breakfast?",
        "breakfast",
        "Breakfast is twelve dollars for each of our guests. Shall I add it?",
    ),
    Exchange(
        "What is your address?",
        "address",
        "We are at number ten in Harbour Street, right beside the station. Anything else?",
    ),
)
