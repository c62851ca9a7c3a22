"""The order of measurement: single calls in turn, then several at once, on one LiveKit."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from rich.console import Console

from agent_worker.testing.processes import ChildProcess
from agent_worker.testing.rtp import RATE
from agent_worker.testing.sip_call import SipCall
from agent_worker.testing.sip_phone import SipPhone
from agent_worker.testing.stack import LiveKitStack, StackBinaries
from agent_worker.testing.stand_ins import Rule
from agent_worker.testing.voice import CALLER_VOICE, render
from bench import contenders
from bench.calls import MeasuredCall, converse, finish
from bench.contenders import Contender, CpuMeter
from bench.script import EXCHANGES, GREETING, Exchange
from bench.summary import Results

# A burst of callers, not one packet storm.
DIAL_INTERVAL = 0.1
SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    workers: list[str]
    calls: int
    at_once: list[int]
    record: bool
    greeting_only: bool
    folder: Path
    machine: dict[str, Any]


@dataclass
class Providers:
    """The stand-ins in their own process."""

    env: dict[str, str]
    control_url: str
    client: ClientSession

    async def control(self, body: dict[str, Any]) -> None:
        """Change a stand-in."""
        async with self.client.post(f"{self.control_url}/__control", json=body) as answer:
            answer.raise_for_status()

    async def log(self) -> list[dict[str, Any]]:
        """Return what they saw since they started."""
        async with self.client.get(f"{self.control_url}/__log") as answer:
            entries: list[dict[str, Any]] = await answer.json()
            return entries


@asynccontextmanager
async def providers(folder: Path) -> AsyncIterator[Providers]:
    """Run the stand-ins and teach them the script."""
    port_file = folder / "stand-ins.json"
    # A run that was killed leaves its own behind.
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "agent_worker.testing.stand_ins", "--port-file", str(port_file)]
    process = await ChildProcess.start("stand-ins", command, log_dir=folder, cwd=contenders.ROOT)
    try:
        deadline = time.monotonic() + 20
        while not port_file.is_file():
            if process.exit_code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the stand-ins do not start:\n{process.tail()}")
            await asyncio.sleep(0.1)
        ports = json.loads(port_file.read_text())
        async with ClientSession() as client:
            running = Providers(ports["env"], ports["control_url"], client)
            await teach(running)
            yield running
    finally:
        await process.stop()
        port_file.unlink(missing_ok=True)


async def teach(running: Providers) -> None:
    """Tell the stand-ins the caller's lines, the replies, and what will be spoken."""
    clips = [
        {
            "text": exchange.line,
            "rate": RATE,
            "pcm": base64.b64encode(render(exchange.line, RATE, voice=CALLER_VOICE).tobytes()).decode(),
        }
        for exchange in EXCHANGES
    ]
    await running.control({"service": "deepgram", "clips": clips})
    rules = [asdict(Rule(exchange.key, reply=exchange.reply)) for exchange in EXCHANGES]
    await running.control({"service": "openai", "rules": rules})
    spoken = [GREETING, *(piece for exchange in EXCHANGES for piece in exchange.pieces)]
    await running.control({"service": "cartesia", "warm": spoken})


async def measure(
    phone: SipPhone, contender: Contender, at_once: int, exchanges: Sequence[Exchange]
) -> list[MeasuredCall]:
    """Make calls to one worker at the same time and measure each."""
    calls = [MeasuredCall(contender.name, at_once) for _ in range(at_once)]
    meter = CpuMeter(contender.pid)
    metering = asyncio.create_task(meter.run())
    started = time.monotonic()
    try:
        lives = await asyncio.gather(*(_dial(phone, contender, call, n, exchanges) for n, call in enumerate(calls)))
        meter.sample()
        share = meter.seconds / (time.monotonic() - started) / at_once
        memory = await asyncio.to_thread(contenders.call_memory_mib, contender.pid) if at_once == 1 else None
    finally:
        metering.cancel()
        await asyncio.gather(metering, return_exceptions=True)
    for live, call in zip(lives, calls, strict=True):
        call.cpu_share, call.memory_mib = share, memory
        await finish(live, call)
    return calls


async def _dial(
    phone: SipPhone, contender: Contender, call: MeasuredCall, position: int, exchanges: Sequence[Exchange]
) -> SipCall:
    await asyncio.sleep(position * DIAL_INTERVAL)
    return await converse(phone, contender.number, call, exchanges)


async def run(plan: Plan, binaries: StackBinaries, console: Console) -> Results:
    """Start everything, measure in turn, and return the results."""
    results = Results(plan.machine, plan.workers)
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(LiveKitStack(binaries, plan.folder / "stack"))
        running = await opened.enter_async_context(providers(plan.folder))
        field: list[Contender] = []
        for name in plan.workers:
            console.print(f"starting {name} ...")
            if name == "plain":
                starting = contenders.plain(stack, running.env, plan.folder)
            else:
                make = contenders.asking if name == "asking" else contenders.ours
                starting = make(stack, running.env, plan.folder, record=plan.record)
            field.append(await opened.enter_async_context(starting))
        phone = await opened.enter_async_context(SipPhone(stack.sip_address))
        # The first call of each worker is not counted: it fills caches that later calls find full.
        rounds = [1] * (plan.calls + 1) + plan.at_once
        for number, at_once in enumerate(rounds):
            for contender in field if number % 2 == 0 else reversed(field):
                await asyncio.sleep(SETTLE_SECONDS)
                measured = await measure(phone, contender, at_once, () if plan.greeting_only else EXCHANGES)
                await _until_no_rooms(stack)
                if number > 0:
                    results.calls += measured
                console.print(_progress(number, len(rounds), contender, measured), highlight=False)
        results.log = await running.log()
    return results


async def _until_no_rooms(stack: LiveKitStack) -> None:
    # A worker that leaves rooms behind must not burden the next one's calls.
    try:
        await stack.wait_no_rooms(15)
    except AssertionError:
        for room in await stack.rooms():
            await stack.delete_room(room)


def _progress(number: int, count: int, contender: Contender, calls: list[MeasuredCall]) -> str:
    turns = [f"{turn.seconds * 1000:.0f}" for call in calls[:1] for turn in call.turns if turn.seconds is not None]
    complete = sum(call.complete for call in calls)
    kind = "warm-up" if number == 0 else f"{number} of {count - 1}"
    return f"{kind}: {contender.name}, {len(calls)} at once, {complete} complete, turns {' '.join(turns)} ms"
