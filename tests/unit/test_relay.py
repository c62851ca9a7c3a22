"""Two legs joined: what each hears of the other, in order, without delay that grows."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import numpy as np
from livekit import rtc

from agent_worker.call.line import LINE_SAMPLE_RATE, MOST_LATE_FRAMES, Leg
from agent_worker.call.transfer.relay import Relay
from agent_worker.simulation.leg import FRAME_SAMPLES
from agent_worker.simulation.line import SimulatedLine
from agent_worker.testing.audio import tone, tone_seconds

CALLER_HZ, PERSON_HZ = 600.0, 1_000.0


class SlowLine(SimulatedLine):
    """A line that takes 100 ms for each frame passed on."""

    async def pass_on(self, frame: rtc.AudioFrame) -> None:
        await asyncio.sleep(0.1)
        await super().pass_on(frame)


def heard(line: SimulatedLine) -> np.ndarray:
    return np.frombuffer(b"".join(samples for _, samples, _ in line.ear.frames), dtype=np.int16)


def seconds_of(line: SimulatedLine, hz: float) -> float:
    return tone_seconds(heard(line), LINE_SAMPLE_RATE, hz)


def nobody(_leg: Leg) -> None:
    """Is told of keys."""


def numbered(number: int) -> rtc.AudioFrame:
    return rtc.AudioFrame(np.full(FRAME_SAMPLES, number, np.int16).tobytes(), LINE_SAMPLE_RATE, 1, FRAME_SAMPLES)


def numbers(line: SimulatedLine) -> list[int]:
    return [int(np.frombuffer(samples, dtype=np.int16)[0]) for _, samples, _ in line.ear.frames]


async def test_each_hears_the_other_and_not_themselves() -> None:
    """Whole, while they are joined; nothing before, nothing after."""
    caller, person = SimulatedLine(dialed_number="+12015550142"), SimulatedLine(dialed_number="+12015550143", seed=2)
    for line in (caller, person):
        await line.pick_up()
    await asyncio.sleep(0.1)
    before = len(heard(caller)), len(heard(person))
    async with Relay(caller, person, nobody):
        await asyncio.gather(
            caller.speak(tone(CALLER_HZ, 1.0, LINE_SAMPLE_RATE).tobytes()),
            person.speak(tone(PERSON_HZ, 1.0, LINE_SAMPLE_RATE).tobytes()),
        )
        await asyncio.sleep(0.1)
    joined = len(heard(caller)), len(heard(person))
    await asyncio.sleep(0.2)
    after = len(heard(caller)), len(heard(person))
    for line in (caller, person):
        await line.hang_up()
        await line.aclose()
    assert before == (0, 0)
    assert after == joined
    assert seconds_of(person, CALLER_HZ) > 0.9
    assert seconds_of(caller, PERSON_HZ) > 0.9
    assert (seconds_of(caller, CALLER_HZ), seconds_of(person, PERSON_HZ)) == (0.0, 0.0)


async def test_frames_come_in_order_and_late_ones_are_dropped() -> None:
    """A sink that cannot keep up gets the newest, never a queue of old ones."""
    caller, person = SimulatedLine(dialed_number="+12015550142"), SlowLine(dialed_number="+12015550143")
    async with Relay(caller, person, nobody):
        for number in range(1, 51):
            caller._hear(numbered(number))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1 * (MOST_LATE_FRAMES + 2))
    got = numbers(person)
    assert all(earlier < later for earlier, later in pairwise(got))
    assert len(got) < 20
    assert got[-MOST_LATE_FRAMES:] == [48, 49, 50]
    for line in (caller, person):
        await line.aclose()


async def test_keys_go_to_the_other_side_and_are_told() -> None:
    """Both ways, in order; once parted no more."""
    caller, person = SimulatedLine(dialed_number="+12015550142"), SimulatedLine(dialed_number="+12015550143")
    told: list[Leg] = []
    async with Relay(caller, person, told.append):
        for digit in "57#":
            caller.caller_presses(digit)
        person.caller_presses("1")
        await asyncio.sleep(0.05)
    caller.caller_presses("9")
    await asyncio.sleep(0.05)
    assert (caller.keys, person.keys) == ("1", "57#")
    assert told.count(person) == 3
    assert told.count(caller) == 1
    for line in (caller, person):
        await line.aclose()
