"""Asks a person who has picked up whether they take the caller: by voice, with the keys 1 and 2 always open.

Only what the person has said or pressed themselves can accept; a model that accepts for them is not believed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from livekit.agents import AgentSession, UserInputTranscribedEvent
from livekit.agents.llm import ToolError, function_tool

from agent_worker.call.line import Leg
from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.call.session import build_session
from agent_worker.domain.agent import AgentConfig
from agent_worker.providers.stack import Stack

logger = logging.getLogger("agent_worker.call")

ACCEPT_KEY = "1"
DECLINE_KEY = "2"

MODEL_SECONDS = 3.0
"""How long the person waits for the model's opening before a fixed one is said."""

SILENCE_SECONDS = 12.0
"""Without a word or a key for so long after our last sentence, the person does not want the call."""

LONGEST_SECONDS = 120.0
"""A person who has not decided by then leaves the caller waiting for nothing."""

TAIL_SECONDS = 0.2

_YES = re.compile(r"\b(yes|yeah|yep|sure|okay|ok|accept|go ahead|put (him|her|them|it) through|connect)\b", re.I)
_NO = re.compile(r"\b(no|nope|not now|can't|cannot|decline|busy|somebody else|someone else)\b", re.I)


class Verdict(StrEnum):
    """What came of asking."""

    ACCEPTED = "accepted"
    DECLINED = "declined"
    VOICEMAIL = "voicemail"
    HUNG_UP = "hung_up"


@dataclass(frozen=True)
class Briefing:
    """What the person is told.

    Attributes:
        instructions: the whole prompt of the screening agent.
        spoken: what is said where the model says nothing in time.
    """

    instructions: str
    spoken: str


class Screening:
    """One conversation with the person.

    Attributes:
        entries: what was said, as `(source, text)`; kept apart from the caller's transcript.
    """

    def __init__(self, leg: Leg, agent: AgentConfig, stack: Stack, briefing: Briefing) -> None:
        self.entries: list[tuple[str, str]] = []
        self._leg = leg
        self._stack = stack
        self._briefing = briefing
        self._verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._spoke = False
        self._moved = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self._session: AgentSession[None] = build_session(agent, stack, leg)

    async def run(self) -> Verdict:
        """Brief the person and wait for their decision; silence is none, and counts as a no."""
        self._session.on("user_input_transcribed", self._heard)
        self._session.on("conversation_item_added", self._said)
        agent = PhoneAgent(instructions=self._briefing.instructions, tools=[*self._tools()], stack=self._stack)
        beside = [asyncio.create_task(work) for work in (self._leg_watch(), self._silence())]
        self._leg.tap_digits(self._pressed)
        try:
            await self._session.start(agent, record=False)
            await self._brief()
            async with asyncio.timeout(LONGEST_SECONDS):
                return await asyncio.shield(self._verdict)
        except TimeoutError:
            return Verdict.DECLINED
        finally:
            self._leg.untap_digits(self._pressed)
            beside += [self._reading] if self._reading is not None else []
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            with contextlib.suppress(RuntimeError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._session.aclose()
            await self._stack.aclose()

    async def _brief(self) -> None:
        """Say why we call: in the model's words, or where it is silent, in ours."""
        try:
            self._session.generate_reply(instructions="Begin now: say who is on the line and ask.")
        except RuntimeError:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MODEL_SECONDS):
                while not (self._leg.playout.speaking or self._verdict.done()):  # noqa: ASYNC110 - playout has no event
                    await asyncio.sleep(0.02)
                return
        with contextlib.suppress(RuntimeError):
            await self._session.interrupt(force=True)
            self._session.say(self._briefing.spoken)

    def _tools(self) -> list[Any]:
        async def accept(raw_arguments: Mapping[str, object]) -> str:
            if not self._spoke:
                raise ToolError("Nobody has said yes yet. Ask, and wait for the answer.")
            self._decide(Verdict.ACCEPTED)
            return "Accepted."

        async def decline(raw_arguments: Mapping[str, object]) -> str:
            self._decide(Verdict.DECLINED)
            return "Declined."

        async def voicemail(raw_arguments: Mapping[str, object]) -> str:
            self._decide(Verdict.VOICEMAIL)
            return "Noted."

        return [
            function_tool(accept, raw_schema=_schema("accept_transfer", "The person takes the call.")),
            function_tool(decline, raw_schema=_schema("decline_transfer", "The person does not take the call.")),
            function_tool(voicemail, raw_schema=_schema("voicemail_detected", "A machine answered, not a person.")),
        ]

    def _heard(self, event: UserInputTranscribedEvent) -> None:
        if not event.is_final or not event.transcript.strip():
            return
        self._spoke = True
        self._moved.set()
        self.entries.append(("user", event.transcript.strip()))
        self._reading = asyncio.create_task(self._read_plainly(event.transcript), name="plain_answer")

    async def _read_plainly(self, text: str) -> None:
        """Take a plain yes or no as it stands where the model says and does nothing about it."""
        await asyncio.sleep(MODEL_SECONDS)
        if not (self._leg.playout.speaking or self._session.user_state == "speaking") and (
            answer := plain_answer(text)
        ):
            self._decide(answer)

    def _said(self, event: Any) -> None:
        item = event.item
        if getattr(item, "role", None) == "assistant" and (text := item.text_content):
            self.entries.append(("agent", text.strip()))

    def _pressed(self, digit: str) -> None:
        self._moved.set()
        if digit == ACCEPT_KEY:
            self._decide(Verdict.ACCEPTED)
        elif digit == DECLINE_KEY:
            self._decide(Verdict.DECLINED)

    async def _leg_watch(self) -> None:
        await asyncio.shield(self._leg.closed)
        self._decide(Verdict.HUNG_UP)

    async def _silence(self) -> None:
        """Take a person who says nothing for a no; the clock stops while we speak, and while they do."""
        quiet_since = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(0.25)
            now = asyncio.get_running_loop().time()
            if self._leg.playout.speaking or self._session.user_state == "speaking" or self._moved.is_set():
                self._moved.clear()
                quiet_since = now
            elif now - quiet_since > SILENCE_SECONDS:
                self._decide(Verdict.DECLINED)
                return

    def _decide(self, verdict: Verdict) -> None:
        if not self._verdict.done():
            self._verdict.set_result(verdict)


def plain_answer(text: str) -> Verdict | None:
    """Return what somebody's words say where they say it plainly, for when no model is there to understand them."""
    yes, no = _YES.search(text), _NO.search(text)
    if bool(yes) == bool(no):
        return None
    return Verdict.ACCEPTED if yes else Verdict.DECLINED


def _schema(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": {"type": "object", "properties": {}}}
