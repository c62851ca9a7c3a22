"""Calls that somebody spoke on, and an analyst that asks a stand-in about them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from agent_worker.control.analysis import Analyst
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallAnswered
from agent_worker.settings import Settings
from agent_worker.store import jobs, tables
from agent_worker.store.callbacks import list_callbacks
from agent_worker.store.jobs import Job
from agent_worker.store.reports import call_report
from agent_worker.testing.stand_ins.openai import OpenAIStandIn, least_form
from tests.call_facts import CallStory

CONFIG: dict[str, Any] = {
    "kind": "cascade",
    "timezone": "Europe/Berlin",
    "stackPreferences": {"allowedProviders": {"llm": ["openai:stand-in"]}},
    "extractionFields": [
        {"name": "urgent", "type": "boolean", "description": "Is it urgent?"},
        {"name": "topic", "type": "enum", "description": "What about?", "options": ["repair", "sale"]},
    ],
}
SAID = (
    ("agent", "Thanks for calling. How can I help?"),
    ("user", "Hello, my name is Maya. My bicycle is broken, can somebody call me back tomorrow at three?"),
    ("agent", "Yes, tomorrow at three."),
)
FORM = {
    "summary": "Maya asked to be called back about a broken bicycle.",
    "outcome": "callback_scheduled",
    "customer_name": "Maya",
    "customer_request": "A call back about a repair.",
    "general_success": True,
    "final_score": 9,
    "score_reason": "It was quick.",
    "details": [{"name": "Item", "value": "bicycle"}],
    "callback": {
        "requested": True,
        "when_said": "tomorrow at three",
        "local_time": "2026-03-03T15:00",
        "reason": "A repair.",
    },
    "fields": {"urgent": False, "topic": "repair"},
}


def spoken_call(
    call_id: str = "call-1", *said: tuple[str, str], config: Mapping[str, Any] = CONFIG, **ended: Any
) -> CallStory:
    """Return a call that was answered, with these words, and its end."""
    story = CallStory(call_id)
    story.opened(pipeline_config=dict(config))
    story.add(CallAnswered)
    for index, (source, text) in enumerate(said or SAID):
        story.said(index, source, text)
    story.ended(**ended)
    return story


@dataclass
class Desk:
    """A control plane, a model that answers as told, and an analyst between them."""

    settings: Settings
    control: EmbeddedControlPlane
    model: OpenAIStandIn
    env: dict[str, str]

    async def claim(self) -> list[jobs.Job]:
        """Claim every analysis that is due, as a process does that may die with it."""
        now = utc_now()
        async with self.control.writing() as connection:
            return await jobs.claim(connection, ["analysis"], by="test", host="test", now=now, until=now, limit=10)

    def analyst(self, **changes: Any) -> Analyst:
        return Analyst(self.control, self.settings.model_copy(update=changes), self.env)

    async def asked(self) -> None:
        """Return when the model has been asked, and is thinking."""
        for _ in range(500):
            if self.model.requests:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("nobody asked the model")

    async def report(self, call_id: str = "call-1") -> dict[str, Any]:
        async with self.control.reading() as connection:
            found = await call_report(connection, call_id)
        assert found is not None
        return found

    async def callbacks(self) -> list[dict[str, Any]]:
        async with self.control.reading() as connection:
            return await list_callbacks(connection, self.settings.organization_id, limit=100)


@asynccontextmanager
async def desk(folder: Path, database_url: str, **changes: Any) -> AsyncIterator[Desk]:
    """Set up a database and a model that answers `FORM` to a schema it fits, and else the least there is."""
    settings = Settings(data_dir=folder, database_url=database_url, analysis_timeout_seconds=5, **changes)
    control = EmbeddedControlPlane(settings)
    async with OpenAIStandIn(delay_ms=0) as model:
        model.form = lambda schema: {**least_form(schema), **{key: FORM[key] for key in schema["properties"]}}
        env = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "sk-of-the-tests"}
        yield Desk(settings, control, model, env)
    await control.aclose()


async def claimed_job(found: Desk, *, attempts: int | None = None, **ended: Any) -> Job:
    """Record a call and return its claimed job, at the attempt it is to be at."""
    await found.control.record(spoken_call(**ended).facts)
    if attempts is not None:
        async with found.control.writing() as connection:
            await connection.execute(update(tables.jobs).values(attempts=attempts - 1))
    (job,) = await found.claim()
    return job


async def jobs_left(found: Desk) -> int:
    """Return how many jobs are to be done."""
    async with found.control.reading() as connection:
        return len((await connection.execute(select(tables.jobs.c.id))).all())
