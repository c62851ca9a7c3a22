"""What the caller hears is worded and levelled as the agent asks, and the transcript keeps what was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from livekit import rtc

from agent_worker.simulation.script import CALLER_LINES
from agent_worker.testing.stand_ins import CartesiaStandIn
from tests.integration.simulated import GREETING, Talk, call_with

GAIN_DB = -12.0


def level(frames: list[rtc.AudioFrame]) -> float:
    samples = np.concatenate([np.frombuffer(frame.data, dtype=np.int16) for frame in frames]).astype(np.float64)
    return float(np.sqrt(np.mean(np.square(samples))))


async def test_a_call_is_spoken_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered greeting and streamed answer both: other words to the voice, 12 dB quieter on the line."""
    heard: list[rtc.AudioFrame] = []
    levels: list[tuple[float, float]] = []
    async with CartesiaStandIn(delay_ms=50) as voice:
        monkeypatch.setenv("CARTESIA_API_KEY", "stand-in")
        monkeypatch.setenv("CARTESIA_BASE_URL", voice.base_url)

        async def caller(talk: Talk) -> None:
            talk.line.playout.tap(lambda frame, _at: heard.append(frame))
            await talk.greeted()
            agent = talk.theatre.catalog.agents["front-desk"]
            rendered = talk.theatre.services.speech.find(agent, "cartesia:sonic-3", GREETING)
            assert rendered is not None
            levels.append((level(heard), level([rendered])))
            await talk.ask(CALLER_LINES[0])

        told = await call_with(
            tmp_path,
            {"tts": ["cartesia"]},
            caller,
            audioOutput={"gainDb": GAIN_DB},
            speechNormalization={
                "pronunciationDictionary": {"juniper": "Joo-nih-per", "Saturday": "Sat her day"},
                "textReplacements": {"nine in the morning": "9 a.m."},
            },
        )
        asked = [entry.text for entry in voice.sightings.entries if entry.kind == "first_text"]
    line, rendered = levels[0]
    assert 20 * np.log10(line / rendered) == pytest.approx(GAIN_DB, abs=0.5)
    assert GREETING.replace("Juniper", "Joo-nih-per") in asked
    assert any("Sat her day" in text for text in asked)
    greeting, answer = [entry["text"] for entry in told.said("agent")]
    assert greeting == GREETING
    assert answer == "On Saturday we are open from nine in the morning until five in the afternoon."
