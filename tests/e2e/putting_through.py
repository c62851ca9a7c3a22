"""What the transfer tests stand on: a caller who asks for somebody, and the phones of those who may be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_worker.testing.audio import tone, tone_seconds
from agent_worker.testing.sip_phone import SipCall, SipPhone
from agent_worker.testing.sip_policies import Answer
from agent_worker.testing.stand_ins import Rule
from agent_worker.testing.voice import CALLER_VOICE, render
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, PHONE_RATE, Rig
from tests.e2e.talk import greeted, say

CALLER_HZ, PERSON_HZ = 600.0, 1_000.0
"""Tones the two hold up to be recognised by; hold music has neither."""

NUMBERS = ("+12015550777", "+12015550778", "+12015550779")
LABELS = ("Sales", "Overflow", "Manager")

ASK = CALLER_LINES[0]
SUMMARY = "The caller wants a room for two."
TO_SALES = Rule(
    "any rooms",
    tool="transfer_call",
    arguments={"destination": "Sales", "reason": "rooms", "summary": SUMMARY},
)

YES, NO = "Good morning, I will take the call.", "Good morning, I am too busy."
MACHINE = "Please leave a message after the tone."
BRIEFED = Rule("Begin now", reply="A caller wants a room for two. Will you take the call?")
SCREENING = (
    Rule("take the call", tool="accept_transfer"),
    Rule("too busy", tool="decline_transfer"),
    Rule("leave a message", tool="voicemail_detected"),
)


@dataclass
class Scene:
    """A greeted caller, a worker, and phones that can be dialled, in the order of the destinations."""

    rig: Rig
    worker: WorkerProcess
    phone: SipPhone
    call: SipCall
    people: Sequence[SipPhone] = field(default_factory=tuple)

    async def ask(self) -> None:
        """The caller asks for somebody."""
        await say(self.call, ASK)

    async def picked_up(self, person: int = 0, *, briefed: bool = True) -> SipCall:
        """Wait until a person has picked up, and has been told why they are called."""
        leg = await self.people[person].incoming(25)
        await leg.wait_answered()
        if briefed:
            await leg.wait_speech(15)
            await leg.wait_silence(1.2)
        return leg


@asynccontextmanager
async def scene(
    rig: Rig, folder: Path, *answers: Answer, env: Mapping[str, str] | None = None, **config: Any
) -> AsyncIterator[Scene]:
    """Set the scene: one phone for each answer, each a destination of the agent's `transfer_call`."""
    rig.providers.openai.rules = [TO_SALES, BRIEFED, *SCREENING, *rig.providers.openai.rules]
    for line in (YES, NO, MACHINE):
        rig.providers.deepgram.register_clip(line, render(line, PHONE_RATE, voice=CALLER_VOICE), PHONE_RATE)
    async with _phones(rig, answers) as people:
        destinations = [
            {
                "to": NUMBERS[index],
                "label": LABELS[index],
                "outboundTrunkId": await rig.stack.outbound_trunk(f"127.0.0.1:{person.port}"),
            }
            for index, person in enumerate(people)
        ] or [{"to": NUMBERS[0], "label": LABELS[0]}]
        tool = {"name": "transfer_call", "config": {"destinations": destinations, **config}}
        number = rig.next_number()
        agent = rig.agent(numbers=[number], tools=["end_call", tool])
        async with rig.worker(agent, folder=folder, env=env) as worker, rig.phone() as phone:
            call = await phone.dial(number)
            await greeted(call)
            yield Scene(rig, worker, phone, call, people)


@asynccontextmanager
async def _phones(rig: Rig, answers: Sequence[Answer]) -> AsyncIterator[list[SipPhone]]:
    if not answers:
        yield []
        return
    async with rig.phone() as phone, _phones(rig, answers[1:]) as others:
        phone.answer_with(answers[0])
        yield [phone, *others]


def heard_tone(call: SipCall, hz: float) -> float:
    """Return for how long a phone has heard a tone, s."""
    return tone_seconds(call.heard.pcm, PHONE_RATE, hz)


async def hold_up(call: SipCall, hz: float, seconds: float = 2.0) -> None:
    """Hold a tone into a phone."""
    await call.play(tone(hz, seconds, PHONE_RATE))


def rows(call: Mapping[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return label, status and cause of each attempt of a call."""
    return [(t["metadata"].get("label", ""), t["status"], t["failure_cause"]) for t in call["transfers"]]
