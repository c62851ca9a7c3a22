"""Calls over the simulated line that do not go as the demo does: giving up, hanging up, talking over the agent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from agent_worker.call.journal import Journal
from agent_worker.call.live_call import Ending
from agent_worker.domain.call import CallOffer, DisconnectionReason
from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.simulation.caller import CLIPS_FOLDER, ScriptedCaller
from agent_worker.simulation.demo import demo_settings
from agent_worker.simulation.line import SimulatedLine
from agent_worker.simulation.script import CALLER_LINES, DIALED_NUMBER
from agent_worker.simulation.stage import stage
from agent_worker.store.queries import call_detail

CALL_SECONDS = 60


async def taken(data_dir: Path, line: SimulatedLine, caller: Any, **changed: Any) -> tuple[Ending, dict[str, Any]]:
    """Take a call while `caller` does the caller's part; returns how it ended and what is stored of it."""
    async with stage(demo_settings(data_dir).model_copy(update=changed)) as theatre:
        await theatre.render_speech(theatre.catalog.agents["demo"])
        calling = asyncio.create_task(caller)
        try:
            async with asyncio.timeout(CALL_SECONDS):
                ending = await theatre.take(line)
                await calling
        finally:
            calling.cancel()
        await theatre.settle()
        async with theatre.control.reading() as connection:
            call = await call_detail(connection, line.call_id)
    assert call is not None
    return ending, call


async def test_a_caller_who_gives_up_while_it_rings_is_a_cancelled_call(tmp_path: Path) -> None:
    """Nothing was said, and the call is stored with its reason."""
    line = SimulatedLine(dialed_number=DIALED_NUMBER)
    line.caller_hangs_up()
    ending, call = await taken(tmp_path, line, asyncio.sleep(0))
    assert ending.reason is DisconnectionReason.CANCELLED
    assert (call["status"], call["metadata"]["disconnection_reason"]) == ("failed", "cancelled")
    assert call["transcript"]["entries"] == []


async def test_an_unknown_number_hears_a_sentence_and_is_hung_up(tmp_path: Path) -> None:
    """A number no agent answers is told so."""
    line = SimulatedLine(dialed_number="+12015550199")
    ending, call = await taken(tmp_path, line, asyncio.sleep(0))
    assert ending.reason is DisconnectionReason.UNKNOWN_NUMBER
    assert sum(loud for _, _, loud in line.ear.frames) > 25
    assert call["status"] == "failed"


class LateLine(SimulatedLine):
    """A line that takes longer to join than a call may ring."""

    async def ring(self) -> CallOffer:
        await asyncio.sleep(0.7)
        return await super().ring()


async def test_a_call_that_joins_late_is_answered_all_the_same(tmp_path: Path) -> None:
    """Past the answer budget the agent still takes the call, and greets."""
    line = LateLine(dialed_number=DIALED_NUMBER)
    ending, call = await taken(tmp_path, line, ScriptedCaller(line, []).run(), answer_budget_ms=500)
    assert ending.reason is DisconnectionReason.USER_HANGUP
    assert call["agent_id"] == "demo"
    assert [entry["source"] for entry in call["transcript"]["entries"]][:1] == ["agent"]


async def test_an_id_that_is_given_twice_makes_two_calls(tmp_path: Path) -> None:
    """A dispatch repeated while its first call lives: the second has an id of its own, and says why."""
    line = SimulatedLine(dialed_number=DIALED_NUMBER)
    given = line.call_id
    first = Journal(demo_settings(tmp_path).journal_dir, given)
    ending, call = await taken(tmp_path, line, ScriptedCaller(line, []).run())
    first.close()
    assert ending.reason is DisconnectionReason.USER_HANGUP
    assert call["id"] != given
    assert "callId: there is a call of this id already" in str(call["metadata"]["ignored_job_metadata"])


async def test_a_caller_without_lines_hangs_up_on_their_own(tmp_path: Path) -> None:
    """After the last line the caller waits for the answer, and leaves; the call ends by the caller."""
    line = SimulatedLine(dialed_number=DIALED_NUMBER)
    caller = ScriptedCaller(line, CALLER_LINES[:1])
    ending, call = await taken(tmp_path, line, caller.run())
    assert ending.reason is DisconnectionReason.USER_HANGUP
    assert caller.turns[0].latency_ms is not None and caller.turns[0].latency_ms > 0
    said = [entry["text"] for entry in call["transcript"]["entries"] if entry["source"] == "agent"]
    assert said[1].startswith("On Saturday we are open")


async def test_the_agent_stops_when_it_is_talked_over(tmp_path: Path) -> None:
    """Speech over the greeting silences it before it is complete, and what was asked is answered."""
    line = SimulatedLine(dialed_number=DIALED_NUMBER)

    async def interrupt() -> tuple[float, float | None]:
        await line.answered.wait()
        await asyncio.sleep(1.2)
        started, ended = await line.speak(ClipLibrary(CLIPS_FOLDER).pcm(CALLER_LINES[1]) or b"")
        await asyncio.sleep(4)
        line.caller_hangs_up()
        return started, ended

    speaking = asyncio.create_task(interrupt())
    _, call = await taken(tmp_path, line, asyncio.sleep(0))
    started, ended = await speaking
    assert ended is not None
    over = [at for at, _, loud in line.ear.frames if loud and started + 1.5 < at < ended - 0.1]
    assert over == []
    greeting, *answers = [entry for entry in call["transcript"]["entries"] if entry["source"] == "agent"]
    assert len(greeting["text"]) < len("Thanks for calling Juniper Cycles. How can I help you today?")
    assert answers[0]["text"].startswith("A full service")
