"""An operator takes over on the simulated line: who is silent meanwhile, what is written, what the agent is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from livekit import rtc

from agent_worker.call.operators import MOST_OPERATORS, Change, Operator, Operators
from agent_worker.call.recording import Recording
from agent_worker.domain.command import MESSAGE
from agent_worker.providers.embedded.clips import ClipLibrary
from agent_worker.simulation.caller import CLIPS_FOLDER
from agent_worker.simulation.line import SimulatedLine
from agent_worker.simulation.script import CALLER_LINES
from agent_worker.store.queries import call_detail
from tests.integration.simulated import GREETING, Talk, call_with
from tests.integration.test_commands import command, message

MAYA = "web-maya"


async def speak(line: SimulatedLine, text: str) -> None:
    """Have the operator say a line the recogniser knows, in real time, and a moment of nothing."""
    pcm = np.frombuffer(ClipLibrary(CLIPS_FOLDER).pcm(text) or b"", dtype=np.int16)
    operator = line.operators.find(MAYA)
    assert operator is not None
    due = time.monotonic()
    for start in range(0, len(pcm) + 16_000, 320):
        piece = pcm[start : start + 320]
        piece = np.pad(piece, (0, 320 - len(piece)))
        operator.hear(rtc.AudioFrame(piece.tobytes(), 16_000, 1, 320))
        due += 0.02
        await asyncio.sleep(due - time.monotonic())


async def written_down(talk: Talk, entries: int) -> None:
    """Return once so much of what is said beside the agent is in the transcript; recognition here takes its time."""
    async with asyncio.timeout(20):
        while True:
            async with talk.theatre.control.reading() as connection:
                detail = await call_detail(connection, talk.line.call_id)
            said = detail["transcript"]["entries"] if detail else []
            if sum("speaker" in entry["metadata"] for entry in said) >= entries:
                return
            await asyncio.sleep(0.2)


async def test_the_agent_is_silent_while_an_operator_speaks_and_knows_what_was_said(tmp_path: Path) -> None:
    """A greeting is cut, nothing is answered, no reprompt comes, a message is only kept; then it goes on."""
    heard: list[float] = []

    async def caller(talk: Talk) -> None:
        line = talk.line
        await line.answered.wait()
        line.operators.joined(MAYA)
        while line.ear.first_sound_after(0.0) is None:  # noqa: ASYNC110 - sound has no event
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        line.operators.microphone(MAYA, True)
        await asyncio.sleep(0.5)
        silent_from = time.monotonic()
        await command(line, MESSAGE, message("The shop is closed today.", "respond"))
        await speak(line, CALLER_LINES[1])
        await line.speak(ClipLibrary(CLIPS_FOLDER).pcm(CALLER_LINES[0]) or b"")
        await asyncio.sleep(3)
        await written_down(talk, 2)
        heard.append(line.ear.first_sound_after(silent_from) or 0.0)
        closed = time.monotonic()
        line.operators.left(MAYA)
        await talk.quiet_since(closed)
        heard.append((line.ear.first_sound_after(closed) or 0.0) - closed)
        await talk.ask(CALLER_LINES[0])

    reprompts = {"delayMs": 2000, "maxPrompts": 3}
    told = await call_with(tmp_path, {}, caller, idleRePrompts=reprompts)
    assert heard[0] == 0.0
    assert 1.0 < heard[1] < 5.0
    [greeting, colleague, *_] = told.said("agent")
    assert len(greeting["text"]) < len(GREETING)
    assert colleague["metadata"] == {"speaker": "operator", "identity": MAYA}
    assert "full service" in colleague["text"]
    [meanwhile, afterwards] = told.said("user")
    assert meanwhile["metadata"] == {"speaker": "caller"}
    assert "saturday" in meanwhile["text"] and "saturday" in afterwards["text"]
    assert "Saturday we are open" in told.said("agent")[2]["text"]
    names = [e["event_type"] for e in told.events if e["event_type"].startswith(("operator.", "agent."))]
    assert names == [
        "operator.joined",
        "operator.speaking",
        "agent.silenced",
        "operator.muted",
        "operator.left",
        "agent.resumed",
    ]


async def test_a_microphone_that_is_closed_for_a_moment_gives_nothing_back(tmp_path: Path) -> None:
    """Between two sentences of a push-to-talk button the agent stays silent."""
    quiet: list[bool] = []

    async def caller(talk: Talk) -> None:
        operators = talk.line.operators
        await talk.greeted()
        operators.joined(MAYA)
        since = time.monotonic()
        for _ in range(3):
            operators.microphone(MAYA, True)
            await asyncio.sleep(0.7)
            operators.microphone(MAYA, False)
            await asyncio.sleep(0.7)
        quiet.append(talk.line.ear.first_sound_after(since) is None)

    told = await call_with(tmp_path, {}, caller)
    assert quiet == [True]
    assert len(told.payloads("agent.silenced")) == 1


def test_operators_are_told_as_they_come_and_go() -> None:
    """Whoever watches late is told what is the case; more than a few are not followed."""
    told: list[tuple[str, Change]] = []

    def note(operator: Operator, change: Change) -> None:
        told.append((operator.identity, change))

    operators = Operators()
    operators.joined(MAYA)
    operators.microphone(MAYA, True)
    operators.watch(note)
    operators.joined(MAYA)
    operators.microphone(MAYA, True)
    operators.microphone("web-nobody", True)
    assert operators.speaking
    operators.left(MAYA)
    operators.left(MAYA)
    assert not operators.speaking
    assert told == [(MAYA, "joined"), (MAYA, "speaking"), (MAYA, "muted"), (MAYA, "left")]
    for number in range(MOST_OPERATORS + 3):
        operators.joined(f"web-{number}")
    assert len(operators.here) == MOST_OPERATORS


async def test_voices_on_our_side_are_mixed_in_the_recording(tmp_path: Path) -> None:
    """Agent and operator at the same moment are both on the right, and neither moves the other."""
    pytest.importorskip("av")
    recording = Recording(tmp_path / "call.ogg")
    started = time.monotonic()
    frame = rtc.AudioFrame(np.full(320, 1000, dtype=np.int16).tobytes(), 16_000, 1, 320)
    for number in range(50):
        recording.hear_agent(frame, started + number * 0.02)
        recording.hear_beside(MAYA, frame, started + (number + 1) * 0.02)
    taken = recording._take(started + 1.0)
    await recording.finish()
    ours = taken[1::2]
    assert (ours[1600:-1600] == 2000).all()
    assert not taken[0::2].any()


async def test_what_the_caller_had_just_said_is_kept(tmp_path: Path) -> None:
    """An operator who comes in right behind it answers it; the agent does not, and knows it."""
    quiet: list[bool] = []

    async def caller(talk: Talk) -> None:
        await talk.greeted()
        talk.line.operators.joined(MAYA)
        _, said = await talk.line.speak(ClipLibrary(CLIPS_FOLDER).pcm(CALLER_LINES[1]) or b"")
        talk.line.operators.microphone(MAYA, True)
        await asyncio.sleep(4)
        quiet.append(talk.line.ear.first_sound_after(said) is None)

    told = await call_with(tmp_path, {}, caller)
    assert quiet == [True]
    [words] = told.said("user")
    assert "full service" in words["text"]
