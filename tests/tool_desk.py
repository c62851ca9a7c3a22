"""A call as tools see it, for tests of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_worker.domain.call import DisconnectionReason
from agent_worker.domain.transfer import TransferPlan
from agent_worker.toolbox.binding import bind
from agent_worker.toolbox.loader import load_tools


@dataclass
class Desk:
    """A call control that notes what tools do with it."""

    call_id: str = "c1"
    config: dict[str, Any] = field(default_factory=dict)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    structured_data: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    endings: list[tuple[DisconnectionReason, str | None]] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    plans: list[TransferPlan] = field(default_factory=list)
    why_not: str | None = None

    async def say(self, text: str) -> None:
        self.said.append(text)

    async def end(self, reason: DisconnectionReason, *, farewell: str | None = None) -> None:
        self.endings.append((reason, farewell))
        self.ended.set()
        await asyncio.sleep(0)

    def record_event(self, event_type: str, **payload: Any) -> None:
        self.events.append((event_type, payload))

    def transfer(self, plan: TransferPlan) -> str | None:
        self.plans.append(plan)
        return self.why_not


async def call(folder: Path, name: str, desk: Desk, config: dict[str, Any] | None = None, /, **arguments: Any) -> Any:
    """Have a model call a tool of a folder, configured so; returns what the model is answered."""
    return await bind(load_tools(folder)[name], desk, config or {})(raw_arguments=arguments)
