"""A provider fails in the middle of a call on the simulated line, and the caller is answered by the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_worker.providers.embedded.engines import installed_engine
from agent_worker.simulation.script import CALLER_LINES
from agent_worker.testing.stand_ins import CartesiaStandIn, DeepgramStandIn, OpenAIStandIn
from agent_worker.testing.stand_ins.server import Fault
from tests.integration.simulated import GREETING, SORRY, Talk, call_with


@pytest.fixture
async def model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIStandIn]:
    """A model that is asked first."""
    async with OpenAIStandIn(delay_ms=100, default_reply="The first model speaks.") as server:
        monkeypatch.setenv("ALPHA_BASE_URL", server.base_url)
        yield server


@pytest.fixture
async def second_model(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIStandIn]:
    """A model on another server, which takes over."""
    async with OpenAIStandIn(delay_ms=100, default_reply="We close at five on Saturday.") as server:
        monkeypatch.setenv("BETA_BASE_URL", server.base_url)
        yield server


@pytest.mark.parametrize("fault", ["http500", "hang"])
async def test_a_model_that_fails_is_replaced_within_the_turn(
    tmp_path: Path, model: OpenAIStandIn, second_model: OpenAIStandIn, fault: Fault
) -> None:
    """The caller is answered by the other server, without an apology, and the row names who answered."""

    async def caller(talk: Talk) -> None:
        await talk.greeted()
        await model.set_fault(fault)
        waited = await talk.ask(CALLER_LINES[0])
        assert waited is not None and waited < 4.0
        await talk.ask(CALLER_LINES[1])

    told = await call_with(tmp_path, {"llm": ["alpha:one", "beta:two"]}, caller)
    assert [entry["text"] for entry in told.said("agent")] == [GREETING, *["We close at five on Saturday."] * 2]
    assert told.payloads("agent.turn_failed") == []
    assert told.payloads("provider.failover") == [{"provider": "llm", "changed": "alpha:one", "serving": "beta:two"}]
    assert told.used["llm_output_tokens"] == {"beta:two"}
    # who has taken over is asked at once: the first one is not tried at every turn
    assert len(second_model.requests) == 2


async def test_a_model_that_answers_is_not_replaced(
    tmp_path: Path, model: OpenAIStandIn, second_model: OpenAIStandIn
) -> None:
    """The list is an order: the second server is not even asked."""

    async def caller(talk: Talk) -> None:
        await talk.greeted()
        await talk.ask(CALLER_LINES[0])

    told = await call_with(tmp_path, {"llm": ["alpha:one", "beta:two"]}, caller)
    assert told.said("agent")[1]["text"] == "The first model speaks."
    assert (second_model.requests, told.payloads("provider.failover")) == ([], [])
    assert told.used["llm_output_tokens"] == {"alpha:one"}


@pytest.mark.skipif(installed_engine() is None, reason="the second voice needs a synthesiser")
@pytest.mark.parametrize("fault", ["refuse", "hang"])
async def test_a_voice_that_fails_is_replaced_within_the_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    """The greeting is in the agent's own voice, the answer in the other one, and both are on the row and the bill."""
    async with CartesiaStandIn(delay_ms=50) as voice:
        monkeypatch.setenv("CARTESIA_API_KEY", "stand-in")
        monkeypatch.setenv("CARTESIA_BASE_URL", voice.base_url)

        async def caller(talk: Talk) -> None:
            await talk.greeted()
            await voice.set_fault(fault, kill=fault == "refuse")
            waited = await talk.ask(CALLER_LINES[0])
            assert waited is not None and waited < 4.0

        told = await call_with(tmp_path, {"tts": ["cartesia", "embedded:flite"]}, caller)
    greeting, answer = told.said("agent")
    assert (greeting["provider"], answer["provider"]) == ("cartesia", "embedded")
    assert answer["text"].startswith("On Saturday we are open")
    assert told.payloads("agent.turn_failed") == []
    assert [(p["changed"], p["serving"]) for p in told.payloads("provider.failover")] == [
        ("cartesia:sonic-3", "embedded:flite")
    ]
    assert told.used["tts_characters"] == {"embedded:flite"}


async def test_a_recogniser_that_fails_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection breaks between two turns: the next words are heard by the other one."""
    async with DeepgramStandIn(script=CALLER_LINES, delay_ms=100) as recogniser:
        monkeypatch.setenv("DEEPGRAM_API_KEY", "stand-in")
        monkeypatch.setenv("DEEPGRAM_BASE_URL", recogniser.base_url)

        async def caller(talk: Talk) -> None:
            await talk.greeted()
            await talk.ask(CALLER_LINES[0])
            await recogniser.set_fault("refuse", kill=True)
            await asyncio.sleep(1.0)
            assert await talk.ask(CALLER_LINES[1]) is not None

        told = await call_with(tmp_path, {"stt": ["deepgram", "embedded:front-desk"]}, caller)
    first, second = told.said("user")
    assert (first["provider"], second["provider"]) == ("deepgram", "embedded")
    assert told.said("agent")[-1]["text"].startswith("A full service")
    assert [p["serving"] for p in told.payloads("provider.failover")] == ["embedded:front-desk"]
    assert told.used["stt_seconds"] == {"deepgram:nova-3", "embedded:front-desk"}


async def test_a_recogniser_that_hears_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two turns come to no words, each answered by an apology; the third is heard by the other one."""
    async with DeepgramStandIn(script=CALLER_LINES, delay_ms=100) as recogniser:
        monkeypatch.setenv("DEEPGRAM_API_KEY", "stand-in")
        monkeypatch.setenv("DEEPGRAM_BASE_URL", recogniser.base_url)

        async def caller(talk: Talk) -> None:
            await talk.greeted()
            await recogniser.set_fault("hang")
            for _ in range(3):
                await talk.ask(CALLER_LINES[1])

        told = await call_with(tmp_path, {"stt": ["deepgram", "embedded:front-desk"]}, caller)
    assert len(told.payloads("agent.turn_failed")) == 2
    # which words it makes of them depends on where in the sound it began to listen
    assert told.said("agent")[-1]["text"] != SORRY
    assert told.said("user")[-1]["provider"] == "embedded"
