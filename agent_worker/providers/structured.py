"""One question to a language model outside of any call, answered in JSON of a given schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from agent_worker.providers.vendor import ProviderLabel

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What a model is asked.

    Attributes:
        instructions: ours; what the model goes by.
        material: what the answer is about; data, whatever it says.
        schema: JSON schema of the answer, in the subset that strict structured output takes.
        name: of the schema.
        most_tokens: longest answer, tokens.
    """

    instructions: str
    material: str
    schema: Mapping[str, Any]
    name: str
    most_tokens: int = 8_000


@dataclass(frozen=True)
class Answer:
    """What a model answered: text, not looked at yet, and the tokens it took; cached ones are among the input."""

    text: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class NoAnswer(Exception):
    """A model gave no answer, or none that can be used; the text is a code that quotes nobody.

    Args:
        passing: whether it may go away by itself: a server in trouble, as opposed to a model that cannot do it.
    """

    def __init__(self, code: str, *, passing: bool = False) -> None:
        super().__init__(code)
        self.passing = passing


class StructuredModel(Protocol):
    """A model that can be asked."""

    @property
    def label(self) -> ProviderLabel:
        """Who answers."""

    async def ask(self, question: Question) -> Answer:
        """Ask once.

        Raises:
            NoAnswer: it did not answer.
        """


@dataclass(frozen=True)
class Given(Generic[T]):
    """An answer that was read, and whose it is."""

    value: T
    label: ProviderLabel
    answer: Answer


async def ask_first(
    models: Sequence[StructuredModel], question: Question, read: Callable[[str], T], *, seconds: float
) -> Given[T]:
    """Return the first answer that can be used: the models are asked one after the other.

    Args:
        read: makes a value of an answer's text; raises `NoAnswer` where it cannot be used.
        seconds: how long each model has.

    Raises:
        NoAnswer: none of them; the text says of each why, as in `openai:gpt-4.1-mini: http_500`.
    """
    problems: list[str] = []
    passing = False
    for model in models:
        try:
            async with asyncio.timeout(seconds):
                answer = await model.ask(question)
            return Given(read(answer.text), model.label, answer)
        except TimeoutError:
            problems.append(f"{model.label}: timeout")
            passing = True
        except NoAnswer as error:
            problems.append(f"{model.label}: {error}")
            passing = passing or error.passing
    raise NoAnswer("; ".join(problems), passing=passing)


def bad_status(status: int) -> NoAnswer:
    """Return what an HTTP status other than 200 means."""
    return NoAnswer(f"http_{status}", passing=status in (408, 409, 425, 429) or status >= 500)
