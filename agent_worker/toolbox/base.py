"""What a tool gets to work with: the call it runs in.

A file in `tools/` holds one or more `async def` functions decorated with `@tool`; each takes a `CallControl`
first, then the arguments the model fills in, typed and described in its docstring, and returns a short text
for the model.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.transfer import TransferPlan


class ToolsCall(Protocol):
    """A live call, as far as tools are concerned: what all tools of the call share."""

    @property
    def call_id(self) -> str:
        """The call's id."""

    @property
    def ended(self) -> asyncio.Event:
        """Set once the call is over; a tool that waits for anything races it."""

    @property
    def structured_data(self) -> dict[str, Any]:
        """What the call has collected; it ends up in the report."""

    async def say(self, text: str) -> None:
        """Speak and return when the caller has heard it."""

    async def end(self, reason: DisconnectionReason, *, farewell: str | None = None) -> None:
        """Begin to end the call, and return: the farewell is said to its end, then the line is closed."""

    def record_event(self, event_type: str, **payload: Any) -> None:
        """Write a row into the call's event list."""

    def transfer(self, plan: TransferPlan) -> str | None:
        """Begin to put the caller through, and return; what comes of it is told to the conversation.

        Returns:
            None where it has begun, else why it cannot, for the model.
        """


class CallControl(ToolsCall, Protocol):
    """The live call, as one tool sees it."""

    @property
    def config(self) -> dict[str, Any]:
        """What the agent's file says under this tool's `config`."""


class ToolRefused(Exception):
    """Raised by a tool that does not do what it is asked; the model is told this, and answers, `ends_turn` or not."""


@dataclass(frozen=True)
class ToolMeta:
    """How a tool is offered and run.

    Attributes:
        timeout_seconds: after this the tool is stopped and the model told so.
        ends_turn: the tool speaks for itself; the model adds nothing to its result.
        config: what the agent's file may say under the tool's `config`; None = anything, and nobody checks it.
    """

    name: str
    timeout_seconds: float
    ends_turn: bool
    config: type[BaseModel] | None = None


@dataclass(frozen=True)
class FromConfig:
    """Limits a text argument to values of the agent's file.

    `Annotated[str, FromConfig("destinations", "label")]` lets a model choose among the labels, no more.

    Attributes:
        key: key of the tool's `config` that holds a list.
        field: key of each entry, or None where the entries themselves are the values.
        unless: key of the tool's `config` that, where true, lets a model give something else.
        otherwise: what the model is told of that something else.
    """

    key: str
    field: str | None = None
    unless: str | None = None
    otherwise: str = ""

    def is_open(self, config: Mapping[str, Any]) -> bool:
        """Return whether a model may give something else."""
        return self.unless is not None and config.get(self.unless) is True

    def values(self, config: Mapping[str, Any]) -> list[str]:
        """Return the values a model may choose from, in the file's order; [] where the file gives none."""
        entries = config.get(self.key)
        if not isinstance(entries, list):
            return []
        found = [entry.get(self.field) if self.field and isinstance(entry, Mapping) else entry for entry in entries]
        return [value for value in found if isinstance(value, str)]


ToolFunction = Callable[..., Awaitable[str]]
F = TypeVar("F", bound=ToolFunction)


def tool(
    *,
    name: str | None = None,
    timeout_seconds: float = 10.0,
    ends_turn: bool = False,
    config: type[BaseModel] | None = None,
) -> Callable[[F], F]:
    """Mark a function of a file in `tools/` as a tool; its docstring is what the model reads.

    Args:
        config: model of what an agent may say under the tool's `config`; mistakes are told where agents are checked.
    """

    def mark(function: F) -> F:
        meta = ToolMeta(name or function.__name__, timeout_seconds, ends_turn, config)
        function.__tool__ = meta  # type: ignore[attr-defined]
        return function

    return mark
