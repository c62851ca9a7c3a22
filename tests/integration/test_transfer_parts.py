"""The caller's side of a transfer, on the simulated line: hold, what comes after nobody took them, what is refused."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from livekit.agents import UserInputTranscribedEvent

from agent_worker.call.commands import take_commands
from agent_worker.call.conversation import attach
from agent_worker.call.line import LINE_SAMPLE_RATE
from agent_worker.call.live_call import Ending, LiveCall
from agent_worker.call.setup import open_call, prepare
from agent_worker.call.transfer import screening as screening_module
from agent_worker.call.transfer.hold import Hold
from agent_worker.call.transfer.hold_audio import MOST_BYTES, HoldAudio
from agent_worker.call.transfer.hourly_cap import HourlyCap
from agent_worker.call.transfer.leg import PersonLeg
from agent_worker.call.transfer.screening import Briefing, Screening, Verdict
from agent_worker.call.transfer.transfers import Transfers, TransferServices
from agent_worker.call.wrapup import wrap_up
from agent_worker.domain.call import CallPlan, DisconnectionReason
from agent_worker.domain.command import MESSAGE, CommandAnswer, message_parts
from agent_worker.domain.dialling import DialPolicy
from agent_worker.domain.fact import EventOccurred, Fact, UsageCounted, UsageLine
from agent_worker.domain.transfer import TransferConfig, TransferFallback, VoicemailDetection
from agent_worker.egress.policy import AddressPolicy
from agent_worker.simulation.demo import demo_settings
from agent_worker.simulation.line import SimulatedLine
from agent_worker.simulation.script import DIALED_NUMBER
from agent_worker.simulation.stage import stage
from agent_worker.testing.audio import dbfs, tone, tone_seconds

HZ, CALLER_HZ = 1_400.0, 600.0
LOOPBACK = AddressPolicy.of("127.0.0.1")


@asynccontextmanager
async def on_the_line(
    folder: Path, facts: list[Fact], job_metadata: dict[str, object] | None = None
) -> AsyncIterator[tuple[LiveCall, SimulatedLine]]:
    """A call that has been picked up; nobody has said anything yet."""
    line = SimulatedLine(dialed_number=DIALED_NUMBER, job_metadata=job_metadata)
    async with stage(demo_settings(folder)) as theatre:
        answer_by = asyncio.get_running_loop().time() + 5
        journal, offer, plan = await open_call(line, theatre.services, answer_by=answer_by)
        assert isinstance(plan, CallPlan)
        journal.listen(facts.append)
        call = prepare(line, journal, offer, plan, theatre.services)
        assert isinstance(call, LiveCall)
        assert call.phone_agent is not None
        attach(call)
        await call.session.start(call.phone_agent)
        await line.pick_up()
        try:
            yield call, line
        finally:
            await wrap_up(call, Ending(DisconnectionReason.USER_HANGUP))


def nobody(*_: str) -> PersonLeg:
    raise AssertionError("nobody is to be called")


def transfers_of(call: LiveCall, folder: Path) -> Transfers:
    return Transfers(
        call,
        TransferServices(
            demo_settings(folder),
            DialPolicy(),
            HourlyCap(folder / "cap", 0),
            make_leg=nobody,
            make_stack=lambda: call.stack,
            briefing=lambda _attempt: Briefing("", ""),
            hold_audio=HoldAudio(LOOPBACK),
        ),
    )


@asynccontextmanager
async def serving(body: bytes, status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """Serve this; yields the URL and what was asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}")
        return web.Response(body=body, status=status)

    app = web.Application()
    app.add_routes([web.get("/hold", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hold", asked
    await runner.cleanup()


def wav(seconds: float = 0.7) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(8_000)
        written.writeframes(tone(HZ, seconds, 8_000).tobytes())
    return file.getvalue()


def heard(line: SimulatedLine) -> np.ndarray:
    return np.frombuffer(b"".join(samples for _, samples, _ in line.ear.frames), dtype=np.int16)


def event_types(facts: list[Fact]) -> list[str]:
    return [fact.event_type for fact in facts if isinstance(fact, EventOccurred)]


async def test_on_hold_the_caller_hears_music_and_is_heard_by_nobody(tmp_path: Path) -> None:
    """No frame of theirs reaches the session; afterwards all do, and the music is over."""
    facts: list[Fact] = []
    async with on_the_line(tmp_path, facts) as (call, line):
        async with Hold(call):
            await line.speak(tone(CALLER_HZ, 1.0, LINE_SAMPLE_RATE).tobytes())
            kept = len(call.line.audio_input._frames)
        music = heard(line)
        await asyncio.sleep(0.3)
        assert len(heard(line)) == len(music)
    assert kept == 0
    assert len(music) == pytest.approx(LINE_SAMPLE_RATE, rel=0.1)
    assert -45 < dbfs(music) < -25
    assert tone_seconds(music, LINE_SAMPLE_RATE, CALLER_HZ) == 0.0
    assert [kind for kind in event_types(facts) if "hold" in kind] == ["call.hold", "call.unhold"]


async def test_a_file_is_fetched_once_and_heard_round_and_round(tmp_path: Path) -> None:
    """In place of the music, on each hold of the call."""
    async with serving(wav()) as (url, asked), on_the_line(tmp_path, []) as (call, line):
        audio = HoldAudio(LOOPBACK)
        for _ in range(2):
            async with Hold(call, lambda: audio.get(url)):
                await asyncio.sleep(1.5)
        assert tone_seconds(heard(line), LINE_SAMPLE_RATE, HZ) > 2.0
    assert asked == ["GET /hold"]


@pytest.mark.parametrize("what", ["nonsense", "missing", "too large", "not allowed", "nobody"])
async def test_a_file_that_cannot_be_had_leaves_the_music(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so in the log, without what may be secret in the URL."""
    body = bytes(MOST_BYTES + 1) if what == "too large" else wav() if what == "not allowed" else b"<html>"
    policy = AddressPolicy.of("") if what == "not allowed" else LOOPBACK
    async with serving(body, 404 if what == "missing" else 200) as (url, _), on_the_line(tmp_path, []) as (call, line):
        asked = "http://127.0.0.1:9/hold" if what == "nobody" else url
        async with Hold(call, lambda: HoldAudio(policy).get(f"{asked}?token=hush")):
            await asyncio.sleep(1.0)
        assert tone_seconds(heard(line), LINE_SAMPLE_RATE, HZ) == 0.0
        assert dbfs(heard(line)) > -45
    [said] = [record for record in caplog.records if record.message.startswith("hold audio not played")]
    assert "hush" not in str(said.__dict__)


@pytest.mark.parametrize("strategy", ["return_to_assistant", "take_message"])
async def test_a_fallback_that_breaks_gives_the_caller_back_all_the_same(tmp_path: Path, strategy: Any) -> None:
    """A session that is gone, or a tool nobody can be given: the agent listens, and nothing is raised."""
    async with on_the_line(tmp_path, []) as (call, line):
        transfers = transfers_of(call, tmp_path)
        transfers.services = dataclasses.replace(transfers.services, message_tool=object())
        async with Hold(call):
            await asyncio.sleep(0.1)
        await call.session.aclose()
        await transfers.give_back(TransferFallback(strategy=strategy, message="Nobody is here."), "busy")
        assert not line.closed.done()


@pytest.mark.parametrize("strategy", ["return_to_assistant", "take_message", "end_call"])
async def test_a_caller_nobody_took_stays_with_an_operator_who_speaks(tmp_path: Path, strategy: Any) -> None:
    """The agent says nothing over their voice and ends nothing; it knows what became of the transfer."""
    facts: list[Fact] = []
    async with on_the_line(tmp_path, facts) as (call, line):
        transfers = transfers_of(call, tmp_path)
        async with Hold(call):
            await asyncio.sleep(0.1)
        line.operators.joined("web-maya")
        line.operators.microphone("web-maya", True)
        said = len(heard(line))
        await transfers.give_back(TransferFallback(strategy=strategy, message="Nobody is here."), "no_answer")
        await asyncio.sleep(0.3)
        assert len(heard(line)) == said
        assert not call.ending
        assert call.session.input.audio_enabled
        assert call.phone_agent is not None
        known = [message.text_content for message in call.phone_agent.chat_ctx.messages()]
        assert known[-1] == "Nobody took the call: no answer."
    [fallback] = [fact for fact in facts if isinstance(fact, EventOccurred) and fact.event_type == "transfer.fallback"]
    assert fallback.payload == {"action": "operator", "cause": "no_answer"}


async def test_a_key_that_can_reach_nobody_is_answered(tmp_path: Path) -> None:
    """The hour is full: the caller hears the fallback instead of nothing."""
    facts: list[Fact] = []
    async with on_the_line(tmp_path, facts) as (call, line):
        full = HourlyCap(tmp_path / "cap", 1)
        full.take()
        transfers = transfers_of(call, tmp_path)
        transfers.services = dataclasses.replace(transfers.services, cap=full)
        config = TransferConfig.model_validate({"destinations": [{"to": "+12015550777"}]})
        transfers.listen_for_key("0", config.plan(config.destinations[0], reason="", summary=""))
        line.caller_presses("0")
        async with asyncio.timeout(15):
            while not len(heard(line)):  # noqa: ASYNC110 - the ear has no event
                await asyncio.sleep(0.05)
        assert transfers.attempts == []
    assert {"transfer.refused", "transfer.fallback"} <= set(event_types(facts))


async def test_the_hello_a_person_picks_up_with_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what they say once they have been asked decides; that a model is there makes no difference."""
    monkeypatch.setattr(screening_module, "MODEL_SECONDS", 0.05)
    async with on_the_line(tmp_path, []) as (call, _):
        person = SimulatedLine(dialed_number=DIALED_NUMBER)
        screening = Screening(person, call.agent, call.stack, Briefing("", ""), VoicemailDetection())
        decided = []
        for words in ("Okay Tyres, good morning.", "Yes, put them through."):
            screening._heard(UserInputTranscribedEvent(transcript=words, is_final=True))
            await asyncio.sleep(0.2)
            decided.append(screening._verdict.done())
            screening._opened()
            await asyncio.sleep(0.2)
            decided.append(screening._verdict.done())
        assert decided == [False, False, True, True]
        assert screening._verdict.result() is Verdict.ACCEPTED
        await person.aclose()


async def test_nothing_is_said_into_a_joined_call(tmp_path: Path) -> None:
    """`respond` is refused while caller and person talk, and is no message then; `context` is kept."""
    facts: list[Fact] = []
    async with on_the_line(tmp_path, facts) as (call, line):
        transfers = call.transfers = transfers_of(call, tmp_path)
        take_commands(call)

        async def tell(mode: Any, name: str) -> str:
            [part] = message_parts(name, mode, "The doctor is late.")
            return CommandAnswer.model_validate_json(await line.commands[MESSAGE](part.model_dump_json())).answer

        transfers.talking = True
        answers = [await tell("respond", "msg_1"), await tell("context", "msg_2")]
        transfers.talking = False
        answers.append(await tell("respond", "msg_1"))
    assert answers == ["joined", "done", "done"]
    sent = [
        f.payload["messageId"] for f in facts if isinstance(f, EventOccurred) and f.event_type == "call.message_sent"
    ]
    assert sent == ["msg_2", "msg_1"]


async def test_what_asking_a_person_used_is_the_calls(tmp_path: Path) -> None:
    """Added to the line of the same provider, model and metric."""
    facts: list[Fact] = []
    async with on_the_line(tmp_path, facts) as (call, _):
        used = UsageLine(provider="p", model="m", metric="tts_characters", quantity=30)
        call.other_usage += [used, used]
    last = [fact for fact in facts if isinstance(fact, UsageCounted)][-1]
    assert [line.quantity for line in last.lines if line.provider == "p"] == [60]


async def test_a_dispatch_that_misconfigures_a_tool_is_told(tmp_path: Path) -> None:
    """An event names the tool and the place, not what stands there; the call goes on."""
    facts: list[Fact] = []
    destinations = [{"to": "+12015550777", "label": "Sales"}, {"to": "the boss", "label": "Manager"}]
    tools = [{"name": "transfer_call", "config": {"key": "0", "destinations": destinations}}]
    dispatched: dict[str, object] = {"pipelineConfig": {"tools": tools}}
    async with on_the_line(tmp_path, facts, dispatched) as (_, line):
        assert line.picked_up
    [told] = [fact for fact in facts if isinstance(fact, EventOccurred) and fact.event_type == "tool.misconfigured"]
    assert (told.status, told.failure_cause) == ("failed", "tool_config_wrong")
    assert told.payload["name"] == "transfer_call"
    assert told.payload["mistake"].startswith("config.destinations[1].to cannot be dialled")
    assert "the boss" not in str(told.payload)
