"""Tools in the transcript: on the agent's turn they led to, or on the last one where the agent said nothing more."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import ConversationItemAddedEvent, FunctionToolsExecutedEvent
from livekit.agents.llm import ChatMessage, FunctionCall, FunctionCallOutput

from agent_worker.call.journal import Journal
from agent_worker.call.transcript import TranscriptWriter
from agent_worker.domain.fact import TranscriptSpoken, decode


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path, "call-1")


@pytest.fixture
def writer(journal: Journal) -> TranscriptWriter:
    label = SimpleNamespace(provider="p", model="m")
    stack: Any = SimpleNamespace(stt_label=label, tts_label=label)
    playout: Any = SimpleNamespace()
    return TranscriptWriter(journal, playout, stack)


class _Session:
    """The events of a session, fired by hand."""

    def __init__(self, writer: TranscriptWriter) -> None:
        self._heard: dict[str, list[Any]] = {}
        session: Any = self
        writer.attach(session)

    def on(self, name: str, told: Any) -> None:
        self._heard.setdefault(name, []).append(told)

    def emit(self, name: str, event: Any) -> None:
        for told in self._heard[name]:
            told(event)

    def said(self, role: Any, text: str) -> None:
        self.emit("conversation_item_added", ConversationItemAddedEvent(item=ChatMessage(role=role, content=[text])))

    def used(self, name: str, arguments: str) -> None:
        call = FunctionCall(call_id="c", name=name, arguments=arguments)
        output = FunctionCallOutput(call_id="c", name=name, output="ok", is_error=False)
        event = FunctionToolsExecutedEvent(function_calls=[call], function_call_outputs=[output])
        self.emit("function_tools_executed", event)


def _written(journal: Journal) -> dict[int, TranscriptSpoken]:
    facts = [decode(line) for line in journal.path.read_bytes().splitlines()]
    return {fact.index: fact for fact in facts if isinstance(fact, TranscriptSpoken)}


def test_a_tool_stands_on_the_turn_it_led_to(journal: Journal, writer: TranscriptWriter) -> None:
    """Name and arguments, as a JSON string; the next turn has none."""
    session = _Session(writer)
    session.said("user", "Take a message.")
    session.used("take_message", '{"name": "Maya"}')
    session.said("assistant", "It is noted.")
    session.said("assistant", "Anything else?")
    writer.close()
    turns = _written(journal)
    assert turns[1].metadata == {"toolCalls": [{"name": "take_message", "args": '{"name": "Maya"}'}]}
    assert "toolCalls" not in turns[0].metadata | turns[2].metadata


def test_a_tool_that_ends_the_call_stands_on_the_last_turn(journal: Journal, writer: TranscriptWriter) -> None:
    """Nothing is lost because nothing more was said."""
    session = _Session(writer)
    session.said("user", "Goodbye.")
    writer.announcement("Thank you. Goodbye.")
    session.used("end_call", "")
    writer.close()
    writer.close()
    turns = _written(journal)
    assert turns[1].metadata == {"announcement": True, "toolCalls": [{"name": "end_call", "args": "{}"}]}
    assert turns[1].text == "Thank you. Goodbye."


@pytest.mark.parametrize("arguments", ["not json", "[1]", json.dumps({"message": "x" * 10_000})])
def test_arguments_that_cannot_be_kept_are_left_out(journal: Journal, writer: TranscriptWriter, arguments: str) -> None:
    """What is there is always a JSON object of a bounded size."""
    session = _Session(writer)
    session.used("take_message", arguments)
    session.said("assistant", "Done.")
    assert _written(journal)[0].metadata["toolCalls"] == [{"name": "take_message", "args": "{}"}]
