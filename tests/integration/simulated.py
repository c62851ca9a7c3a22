"""A call on the simulated line between a caller in code and one agent, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_worker.domain.fact import Fact, UsageCounted
from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.simulation.caller import CLIPS_FOLDER, TURN_SECONDS
from agent_worker.simulation.demo import demo_settings
from agent_worker.simulation.line import SimulatedLine
from agent_worker.simulation.stage import Stage, stage
from agent_worker.store.queries import call_detail, call_events

NUMBER = "+12015550142"
GREETING = "Thanks for calling Juniper Cycles. How can I help you today?"
SORRY = "Sorry, I didn't catch that. Could you say it again?"
CALL_SECONDS = 60
ALL_EMBEDDED = {"stt": ["embedded:front-desk"], "llm": ["embedded:front-desk"], "tts": ["embedded"]}


@dataclass
class Told:
    """What is known of a call afterwards."""

    detail: dict[str, Any]
    events: list[dict[str, Any]]
    facts: list[Fact] = field(default_factory=list)

    def said(self, source: str) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self.detail["transcript"]["entries"]
            if entry["source"] == source and not entry["metadata"].get("announcement")
        ]

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        return [event["payload"] for event in self.events if event["event_type"] == event_type]

    @property
    def used(self) -> dict[str, set[str]]:
        last = [fact for fact in self.facts if isinstance(fact, UsageCounted)][-1]
        used: dict[str, set[str]] = {}
        for line in last.lines:
            used.setdefault(line.metric, set()).add(f"{line.provider}:{line.model}")
        return used


class Talk:
    """One caller's side, and a way to break a provider while it goes on."""

    def __init__(self, line: SimulatedLine, theatre: Stage) -> None:
        self.line = line
        self.theatre = theatre

    async def greeted(self) -> None:
        await self.line.answered.wait()
        await self.quiet_since(0.0)

    async def ask(self, text: str) -> float | None:
        """Say a line and hear the answer out; returns after how many seconds it began."""
        pcm = ClipLibrary(CLIPS_FOLDER).pcm(text)
        assert pcm is not None
        _, stopped = await self.line.speak(pcm)
        await self.quiet_since(stopped)
        heard = self.line.ear.first_sound_after(stopped)
        return None if heard is None else heard - stopped

    async def quiet_since(self, moment: float) -> None:
        ear = self.line.ear
        for _ in range(600):
            if ear.first_sound_after(moment) is not None and ear.quiet_for() >= TURN_SECONDS:
                return
            await asyncio.sleep(0.02)


Caller = Callable[[Talk], Coroutine[Any, Any, None]]


async def call_with(folder: Path, providers: dict[str, list[str]], caller: Caller, **keys: Any) -> Told:
    """Take one call with these providers while `caller` does the caller's part; `keys` are the agent's."""
    agents = folder / "agents"
    agents.mkdir()
    config = {
        "name": "front-desk",
        "numbers": [NUMBER],
        "systemPrompt": "You answer the phone of Juniper Cycles.",
        "firstMessage": GREETING,
        "voice": "slt",
        "stackPreferences": {"allowedProviders": ALL_EMBEDDED | providers},
        "fallbacks": {"apology": SORRY},
        **keys,
    }
    (agents / "front-desk.yaml").write_text(json.dumps(config), encoding="utf-8")
    settings = demo_settings(folder / "data").model_copy(update={"agents_dir": agents, "presets_file": None})
    facts: list[Fact] = []
    line = SimulatedLine(dialed_number=NUMBER)
    async with stage(settings, watch=facts.append) as theatre:
        await theatre.render_speech(theatre.catalog.agents["front-desk"])

        async def calling() -> None:
            await caller(Talk(line, theatre))
            line.caller_hangs_up()

        task = asyncio.create_task(calling())
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await theatre.take(line)
                await task
        finally:
            task.cancel()
        await theatre.settle()
        async with theatre.control.reading() as connection:
            detail = await call_detail(connection, line.call_id)
            events = await call_events(connection, line.call_id)
    assert detail is not None
    return Told(detail, events, facts)
