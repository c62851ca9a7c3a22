"""The bench every telephony test sits on: LiveKit, the providers' stand-ins, workers and phones."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_worker.store import queries
from agent_worker.store.call_lists import Filters, page
from agent_worker.store.engine import Database
from agent_worker.testing.sip_phone import SipPhone
from agent_worker.testing.stack import LiveKitStack
from agent_worker.testing.stand_ins import ProviderStandIns, Rule
from agent_worker.testing.voice import CALLER_VOICE, render
from agent_worker.testing.worker_process import WorkerProcess

PHONE_RATE = 8_000
GREETING = "Good morning, this is the front desk."

# Lines that the local end-of-turn model takes for finished in the caller's voice; others wait for its longest pause.
CALLER_LINES = (
    "Good morning, do you have any rooms?",
    "How much is breakfast?",
    "Thank you very much for your help. Goodbye.",
)

REPLIES = (
    Rule("any rooms", reply="Certainly, I have a room for two people."),
    Rule("breakfast", reply="Breakfast is twelve dollars for each guest."),
    Rule(
        "goodbye",
        tool="end_call",
        arguments={"reason": "the caller said goodbye", "farewell": "Goodbye, and take care."},
    ),
)


@dataclass
class Rig:
    """What a test is given; LiveKit and the stand-ins live as long as the test session."""

    stack: LiveKitStack
    providers: ProviderStandIns
    folder: Path
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(15_550_100))

    def next_number(self) -> str:
        """Return a number nobody has used in this test session."""
        return f"+{next(self._numbers)}"

    def agent(self, **changes: Any) -> dict[str, Any]:
        """Return an agent file's content that answers with the stand-ins, with changes to its keys."""
        agent: dict[str, Any] = {
            "name": "front-desk",
            "systemPrompt": "You are the front desk of a small hotel. Answer briefly.",
            "firstMessage": GREETING,
            "tools": ["end_call"],
        }
        return agent | changes

    @asynccontextmanager
    async def worker(
        self,
        *agents: Mapping[str, Any],
        folder: Path,
        env: Mapping[str, str] | None = None,
        numbers: Sequence[str] | None = None,
        metadata: str = "",
        route: bool = True,
        process: type[WorkerProcess] = WorkerProcess,
    ) -> AsyncIterator[WorkerProcess]:
        """Run a worker whose agents answer their numbers (or `numbers`); its trunk and rule go with it.

        Args:
            route: False makes neither trunk nor rule.
            process: how it is run.
        """
        content = list(agents) or [self.agent(numbers=[self.next_number()])]
        answered = list(numbers) if numbers is not None else [n for a in content for n in a.get("numbers", [])]
        name = f"phone-agent-{answered[0][1:]}"
        worker = process(folder, self.stack.env | self.providers.env | dict(env or {}), content, agent_name=name)
        inbound = await self.stack.route_number(answered, name, metadata=metadata) if route else None
        try:
            async with worker:
                yield worker
        finally:
            if inbound is not None:
                await self.stack.forget_number(inbound)

    @asynccontextmanager
    async def phone(self) -> AsyncIterator[SipPhone]:
        """Lend a phone."""
        async with SipPhone(self.stack.sip_address) as phone:
            yield phone

    async def calls(self, worker: WorkerProcess) -> list[dict[str, Any]]:
        """Return every call in a worker's database, in full: `CallDetail`, and its events under `events`."""
        database = Database(f"sqlite:///{worker.data_dir / 'agent-worker.db'}")
        try:
            async with database.read() as connection:
                found = []
                for row in await page(connection, Filters("org_local"), 50):
                    detail = await queries.call_detail(connection, row["id"])
                    found.append((detail or {}) | {"events": await queries.call_events(connection, row["id"])})
                return found
        finally:
            await database.aclose()

    def script(self) -> None:
        """Teach the stand-ins the caller's lines and the answers to them."""
        for line in CALLER_LINES:
            self.providers.deepgram.register_clip(line, render(line, PHONE_RATE, voice=CALLER_VOICE), PHONE_RATE)
        self.providers.openai.rules = list(REPLIES)


def describe(calls: Sequence[Mapping[str, Any]]) -> str:
    """Return calls as readable text, for a failing assertion."""
    return json.dumps(calls, indent=2, default=str, ensure_ascii=False)
