"""What an operator may tell a live call, on the simulated line."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from agent_worker.domain.command import END, MESSAGE, CommandAnswer, message_parts
from agent_worker.simulation.line import SimulatedLine
from tests.integration.simulated import GREETING, Talk, Told, call_with


async def command(line: SimulatedLine, name: str, payload: str = "") -> str:
    return CommandAnswer.model_validate_json(await line.commands[name](payload)).answer


def message(text: str, mode: Any, message_id: str = "msg_1") -> str:
    [part] = message_parts(message_id, mode, text)
    return part.model_dump_json()


def reason(told: Told) -> str:
    return str(told.detail["metadata"]["disconnection_reason"])


async def test_an_operator_ends_a_call_in_the_middle_of_a_sentence(tmp_path: Path) -> None:
    """At once, with who did it on the event; a second wish finds it over."""
    answers = []

    async def caller(talk: Talk) -> None:
        await talk.line.answered.wait()
        while talk.line.ear.first_sound_after(0.0) is None:  # noqa: ASYNC110 - sound has no event
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        answers.append(await command(talk.line, END))
        answers.append(await command(talk.line, END))
        answers.append(await command(talk.line, MESSAGE, message("Wait.", "respond")))

    told = await call_with(tmp_path, {}, caller)
    assert answers == ["done", "over", "over"]
    assert (told.detail["status"], reason(told)) == ("ended", "agent_hangup")
    assert told.payloads("call.hangup") == [{"disconnection_reason": "agent_hangup", "ended_by": "operator"}]
    [greeting] = told.said("agent")
    assert len(greeting["text"]) < len(GREETING), (greeting["metadata"], greeting["latency_status"])


async def test_an_operator_ends_a_call_that_rings(tmp_path: Path) -> None:
    """Nobody picks up, and nobody can be told anything."""
    answers = []

    async def caller(talk: Talk) -> None:
        while not talk.line.commands:  # noqa: ASYNC110 - the moment before it is picked up has no event
            await asyncio.sleep(0)
        answers.append(await command(talk.line, MESSAGE, message("Wait.", "respond")))
        answers.append(await command(talk.line, END))

    told = await call_with(tmp_path, {}, caller)
    assert answers == ["ringing", "done"]
    assert (told.detail["status"], reason(told)) == ("failed", "cancelled")
    assert told.payloads("call.hangup") == [{"disconnection_reason": "cancelled", "ended_by": "operator"}]
    assert told.detail["transcript"]["entries"] == []


async def test_messages_reach_the_agent_once_each(tmp_path: Path) -> None:
    """`respond` has it speak, `context` does not; a message sent twice counts once, nonsense not at all."""
    answers = []

    async def caller(talk: Talk) -> None:
        await talk.greeted()
        for payload in (
            message("The shop closes early.", "context"),
            message("The shop closes early.", "context"),
            message("Tell them that the bicycle is ready.", "respond", "msg_2"),
            "nonsense",
            "{}",
        ):
            answers.append(await command(talk.line, MESSAGE, payload))
        await talk.quiet_since(time.monotonic())

    told = await call_with(tmp_path, {}, caller)
    assert answers == ["done", "done", "done", "invalid", "invalid"]
    assert told.payloads("call.message_sent") == [
        {"messageId": "msg_1", "text": "The shop closes early.", "mode": "context"},
        {"messageId": "msg_2", "text": "Tell them that the bicycle is ready.", "mode": "respond"},
    ]
    assert len(told.said("agent")) == 2
    assert told.said("user") == []
