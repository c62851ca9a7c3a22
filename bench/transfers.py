"""`python -m bench.transfers`: what a transfer costs the two who talk, measured at their phones.

The relay's own delay is what a burst of tone takes from phone to phone through the worker, less what it takes between
two phones in one room. Everything runs on loopback: livekit-server, livekit-sip, one worker, two phones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
from livekit import api
from rich.console import Console
from rich.table import Table

from agent_worker.testing.audio import tone, tone_levels
from agent_worker.testing.sip_call import SipCall
from agent_worker.testing.sip_policies import Answer, ReferPolicy
from agent_worker.testing.stack import LiveKitStack
from agent_worker.testing.stand_ins import ProviderStandIns
from bench.__main__ import stack_binaries
from tests.e2e.putting_through import CALLER_HZ, PERSON_HZ, Scene, scene
from tests.e2e.rig import PHONE_RATE, Rig

BURST_SECONDS = 0.1
PAUSE_SECONDS = 1.0
ECHO_SECONDS = 0.9
"""A burst that is not heard within so long is lost; longer than any delay worth having, shorter than the pause."""

BLOCK_SECONDS = 0.005
"""Of what was heard, looked at as one: three periods of the lower tone."""

HELD_SECONDS = 6.0

SETTLED_SECONDS = 35.0
"""The media engine takes the pause in a phone's packets while a key is pressed for a bad network, and buffers about
100 ms more for half a minute; the relay's delay is measured after that."""

Figures = dict[str, list[float]]

BARS = {
    "relay, added one-way delay": 60.0,
    "accepted, until the person hears the caller": 500.0,
    "music ends, until the caller hears the person": 300.0,
    "announcement ends, until REFER": 200.0,
}
"""ms at p95 (design 8)."""


async def bursts(speaking: SipCall, hz: float, count: int) -> list[float]:
    """Send bursts of a tone, and return when each left.

    What was heard of them is looked at when nobody speaks any more: both phones live in this process, and one that
    computes sends its packets late, which the media engine takes for a bad network and buffers against.
    """
    burst = tone(hz, BURST_SECONDS, PHONE_RATE)
    sent: list[float] = []
    for _ in range(count):
        played = await speaking.play(burst)
        assert played.started_at is not None
        sent.append(played.started_at)
        await asyncio.sleep(PAUSE_SECONDS)
    return sent


def delays(hearing: SipCall, hz: float, sent: list[float]) -> list[float]:
    """Return the ms from mouth to ear of each burst that was heard."""
    heard = list(heard_at(hearing, hz, sent[0]))
    firsts = ((at, next((ear for ear in heard if 0 < ear - at < ECHO_SECONDS), None)) for at in sent)
    return [(ear - at) * 1000 for at, ear in firsts if ear is not None]


def heard_at(call: SipCall, hz: float, since: float) -> Iterator[float]:
    """Yield the moments from `since` on at which a tone was at a phone's ear, 5 ms apart."""
    heard = call.heard
    start = heard.seconds_at(since)
    levels = tone_levels(heard.pcm[int(start * PHONE_RATE) :], PHONE_RATE, hz, block=BLOCK_SECONDS)
    for block in np.flatnonzero(levels > -35.0):
        yield heard.moment(start + float(block) * BLOCK_SECONDS)


async def one_room(rig: Rig, figures: Figures, count: int) -> None:
    """Measure the way between two phones whose legs are in one room, with nobody between them."""
    async with rig.phone() as first, rig.phone() as second:
        legs = []
        for phone in (first, second):
            phone.answer_with(Answer())
            request = api.CreateSIPParticipantRequest(
                room_name="direct",
                sip_trunk_id=await rig.stack.outbound_trunk(f"127.0.0.1:{phone.port}"),
                sip_call_to="+12015550199",
                participant_identity=f"phone-{phone.port}",
            )
            await rig.stack.lk.sip.create_sip_participant(request)
            leg = await phone.incoming(10)
            await leg.wait_answered()
            legs.append(leg)
        await asyncio.sleep(2)
        sent = await bursts(legs[0], CALLER_HZ, count)
        await rig.stack.delete_room("direct")
    figures["one room, phone to phone"] += delays(legs[1], CALLER_HZ, sent)


async def warm(rig: Rig, folder: Path, figures: Figures, count: int) -> None:
    """Put one caller through, and measure joining, delay both ways and CPU."""
    async with scene(rig, folder, Answer(), mode="warm") as on:
        on.call.send_digits("0")
        leg = await on.picked_up()
        # both hold a tone, so that the first of it on the other side is the moment they are joined
        calling = asyncio.create_task(on.call.play(tone(CALLER_HZ, HELD_SECONDS, PHONE_RATE)))
        pressed = time.monotonic()
        leg.send_digits("1")
        await leg.play(tone(PERSON_HZ, HELD_SECONDS - 1, PHONE_RATE))
        await calling
        busy = await asyncio.to_thread(busiest, on)
        await asyncio.sleep(SETTLED_SECONDS)
        before, began = sum(busy.cpu_times()[:2]), time.monotonic()
        by_caller, by_person = await bursts(on.call, CALLER_HZ, count), await bursts(leg, PERSON_HZ, count)
        spent, lasted = sum(busy.cpu_times()[:2]) - before, time.monotonic() - began
        memory = busy.memory_full_info().pss
        await leg.hang_up()
        await on.call.wait_ended(5)
    figures["relay, phone to phone"] += delays(leg, CALLER_HZ, by_caller) + delays(on.call, PERSON_HZ, by_person)
    joined = next(heard_at(on.call, PERSON_HZ, pressed))
    music = max((at for at in on.call.media.loud_at if at < joined - 0.02), default=joined)
    figures["accepted, until the person hears the caller"].append(
        (next(heard_at(leg, CALLER_HZ, pressed)) - pressed) * 1000
    )
    figures["music ends, until the caller hears the person"].append((joined - music) * 1000)
    figures["CPU of a joined call, % of a core"].append(spent / lasted * 100)
    figures["memory of a joined call, MiB"].append(memory / 2**20)


def busiest(on: Scene) -> psutil.Process:
    """Return the process of the call."""
    return max(on.worker.job_processes(), key=lambda process: process.cpu_times().user)


async def blind(rig: Rig, folder: Path, figures: Figures) -> None:
    """Hand one caller over, and measure from the last sound of the announcement to the REFER."""
    async with scene(rig, folder, mode="blind") as on:
        on.call.refer_policy = ReferPolicy()
        on.call.send_digits("0")
        await on.call.wait_ended(20)
        referred = on.call.moments.referred_at
        assert referred is not None
        announced = max(at for at in on.call.media.loud_at if at < referred)
        figures["announcement ends, until REFER"].append((referred - announced) * 1000)


@asynccontextmanager
async def rig_in(folder: Path) -> AsyncIterator[Rig]:
    async with LiveKitStack(stack_binaries(), folder / "stack") as stack, ProviderStandIns() as providers:
        rig = Rig(stack, providers, folder)
        rig.script()
        yield rig


async def measure(calls: int, count: int, folder: Path) -> Figures:
    """Return every figure by its name: ms, or what the name says."""
    names = [name for name in BARS if not name.startswith("relay")]
    figures: Figures = {name: [] for name in [*names, "one room, phone to phone", "relay, phone to phone"]}
    figures |= {"CPU of a joined call, % of a core": [], "memory of a joined call, MiB": []}
    async with rig_in(folder) as rig:
        for number in range(calls):
            await one_room(rig, figures, count)
            await warm(rig, folder / f"warm-{number}", figures, count)
            await blind(rig, folder / f"blind-{number}", figures)
            rig.script()
    alone = float(np.median(figures["one room, phone to phone"]))
    figures["relay, added one-way delay"] = [ms - alone for ms in figures["relay, phone to phone"]]
    return figures


def show(figures: Figures, console: Console) -> bool:
    """Print the table; returns whether every bar is met."""
    table = Table(title=f"Transfers at the phones, {os.cpu_count()} cores", title_justify="left")
    for name in ("what", "measured", "p50", "p95", "max", "bar"):
        table.add_column(name, justify="left" if name == "what" else "right")
    met = True
    for name, values in figures.items():
        bar, p95 = BARS.get(name), float(np.percentile(values, 95))
        met = met and (bar is None or p95 <= bar)
        cells = [f"{np.percentile(values, 50):.0f}", f"{p95:.0f}", f"{max(values):.0f}", f"{bar:.0f}" if bar else "-"]
        table.add_row(name, str(len(values)), *cells, style=None if bar is None or p95 <= bar else "red")
    console.print(table)
    return met


def main() -> int:
    """Measure as the arguments say; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.transfers", description=__doc__)
    parser.add_argument("--calls", type=int, default=6, help="transfers of each kind (default 6)")
    parser.add_argument("--bursts", type=int, default=12, help="tones each way and transfer (default 12)")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-transfers-") as scratch:
        figures = asyncio.run(measure(given.calls, given.bursts, Path(scratch)))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))
    return 0 if show(figures, Console(width=120)) else 1


if __name__ == "__main__":
    sys.exit(main())
