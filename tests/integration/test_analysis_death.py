"""An analysis survives the death of the process that makes it, and is written once."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.stand_ins.openai import OpenAIStandIn
from tests.integration.analysing import FORM, spoken_call
from tests.integration.serving import DESK, remote_to


def _query(serve: ServeProcess, statement: str) -> list[Any]:
    with closing(sqlite3.connect(serve.data_dir / "agent-worker.db", timeout=10)) as connection, connection:
        return connection.execute(statement).fetchall()


async def _until(serve: ServeProcess, statement: str, wanted: list[Any]) -> None:
    for _ in range(400):
        if _query(serve, statement) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{_query(serve, statement)}\n{serve.log()}")


async def test_kill_9_in_the_middle_of_an_analysis_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The next process claims the job when its claim has run out: one report, one callback, one `call.analysis`."""
    agent = DESK | {"webhooks": {"analysis": {"url": "https://crm.example/analysis"}}}
    async with OpenAIStandIn(delay_ms=0) as model:
        model.form = lambda _schema: FORM
        await model.set_fault("hang")
        env = {"OPENAI_BASE_URL": model.base_url}
        async with ServeProcess(tmp_path, [agent], env=env) as first, remote_to(first.url, tmp_path) as worker:
            story = spoken_call()
            facts = [
                fact.model_copy(update={"agent_id": "desk"}) if hasattr(fact, "agent_id") else fact
                for fact in story.facts
            ]
            await worker.control.record(facts)
            for _ in range(400):
                if model.sightings.of("openai", "hanging"):
                    break
                await asyncio.sleep(0.05)
            assert _query(first, "SELECT id, attempts FROM jobs") == [("analysis:call-1", 1)]
            await first.kill()
        await model.set_fault("none")
        # as if the claim had run out: the dead process would have kept it for half a minute
        _query(first, "UPDATE jobs SET due_at = created_at")
        async with ServeProcess(tmp_path, [agent], env=env) as second:
            await _until(second, "SELECT analysis_status FROM reports", [("completed",)])
            await _until(second, "SELECT id FROM jobs", [])
            assert _query(second, "SELECT count(*) FROM callbacks") == [(1,)]
            told = _query(second, "SELECT payload FROM deliveries WHERE event = 'call.analysis'")
            assert [json.loads(payload)["summary"] for (payload,) in told] == [FORM["summary"]]
            assert len(model.requests) == 1
            assert await second.terminate() == 0
            assert "Traceback" not in second.log()
