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

from livekit.agents import AMD, AgentSession, UserInputTranscribedEvent
from livekit.agents.llm import ToolError, function_tool
from livekit.agents.voice.amd.detector import DetectionOptions

from agent_worker.call.line import Leg
from agent_worker.call.phone_agent import PhoneAgent
from agent_worker.call.session import build_session
from agent_worker.call.usage import usage
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.fact import UsageLine
from agent_worker.domain.transfer import VoicemailDetection
from agent_worker.providers.stack import Stack

logger = logging.getLogger("agent_worker.call")

ACCEPT_KEY = "1"
DECLINE_KEY = "2"

MODEL_SECONDS = 3.0
"""How long the person waits for the model's opening before a fixed one is said."""

SILENCE_SECONDS = 12.0
"""Without a word or a key for so long after our last sentence, the person does not want the call; after our first it is
`timeoutSeconds` where machines are looked for."""

DETECTOR_QUIET_SECONDS = 2.5
"""A line that stays quiet for so long after it was picked up is taken for a person's, who waits for us to speak."""

DETECTOR_PAUSE_SECONDS = 0.8
"""Of silence after words, before what was said is judged."""

PLAIN_WORDS = 10
"""Longer answers hold a yes or a no that may mean something else; so do the greetings of mailboxes."""

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

    def __init__(
        self, leg: Leg, agent: AgentConfig, stack: Stack, briefing: Briefing, detection: VoicemailDetection
    ) -> None:
        self.entries: list[tuple[str, str]] = []
        self._leg = leg
        self._stack = stack
        self._briefing = briefing
        self._detection = detection
        self._verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._spoke = False
        self._answered = False
        self._asked = False
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
            if self._detection.how == "amd" and await self._is_machine():
                return Verdict.VOICEMAIL
            if not self._verdict.done():
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

    def usage(self) -> list[UsageLine]:
        """Return what asking has used of the providers so far."""
        return usage(self._session, self._stack)

    def decide(self, verdict: Verdict) -> None:
        """Take a decision, the person's or somebody's for them; the first one stands."""
        if not self._verdict.done():
            self._verdict.set_result(verdict)

    async def _is_machine(self) -> bool:
        """Listen before anything is said; returns False also where a key or a hang-up decides first."""
        options = DetectionOptions(
            no_speech_threshold=DETECTOR_QUIET_SECONDS,
            machine_silence_threshold=DETECTOR_PAUSE_SECONDS,
            timeout=float(self._detection.timeout_seconds),
        )
        async with AMD(
            self._session,
            llm=None,  # the agent's own, and its recogniser: the library's choice is in LiveKit's cloud
            stt=None,
            ivr_detection=False,
            suppress_compatibility_warning=True,
            detection_options=options,
            wait_until_finished=False,
        ) as detector:
            detecting = asyncio.ensure_future(detector.execute())
            try:
                either: set[asyncio.Future[Any]] = {detecting, self._verdict}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if self._verdict.done():
                    return False
                found = detecting.result()
            finally:
                detecting.cancel()
        if not found.is_machine:
            with contextlib.suppress(RuntimeError):
                await self._session.interrupt(force=True)  # the model's answer to their hello: the briefing comes first
        return bool(found.is_machine)

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
                self._opened()
                return
        with contextlib.suppress(RuntimeError):
            await self._session.interrupt(force=True)
            self._session.say(self._briefing.spoken)
            self._opened()

    def _opened(self) -> None:
        """From here on what they say is an answer: the hello they picked up with is no yes, and no no."""
        self._asked, self._spoke = True, False

    def _tools(self) -> list[Any]:
        async def accept(raw_arguments: Mapping[str, object]) -> str:
            if not self._spoke:
                raise ToolError("Nobody has said yes yet. Ask, and wait for the answer.")
            self.decide(Verdict.ACCEPTED)
            return "Accepted."

        async def decline(raw_arguments: Mapping[str, object]) -> str:
            self.decide(Verdict.DECLINED)
            return "Declined."

        async def voicemail(raw_arguments: Mapping[str, object]) -> str:
            self.decide(Verdict.VOICEMAIL)
            return "Noted."

        tools = [
            function_tool(accept, raw_schema=_schema("accept_transfer", "The person takes the call.")),
            function_tool(decline, raw_schema=_schema("decline_transfer", "The person does not take the call.")),
        ]
        if self._detection.how != "disabled":
            told = _schema("voicemail_detected", "A machine answered, not a person.")
            tools.append(function_tool(voicemail, raw_schema=told))
        return tools

    def _heard(self, event: UserInputTranscribedEvent) -> None:
        if not event.is_final or not event.transcript.strip():
            return
        self._spoke = self._answered = True
        self._moved.set()
        self.entries.append(("user", event.transcript.strip()))
        if self._reading is not None:
            self._reading.cancel()
        if self._asked:
            self._reading = asyncio.create_task(self._read_plainly(event.transcript), name="plain_answer")

    async def _read_plainly(self, text: str) -> None:
        """Take a plain yes or no as it stands where the model says and does nothing about it."""
        await asyncio.sleep(MODEL_SECONDS)
        if not (self._leg.playout.speaking or self._session.user_state == "speaking") and (
            answer := plain_answer(text)
        ):
            self.decide(answer)

    def _said(self, event: Any) -> None:
        item = event.item
        if getattr(item, "role", None) == "assistant" and (text := item.text_content):
            self.entries.append(("agent", text.strip()))

    def _pressed(self, digit: str) -> None:
        self._answered = True
        self._moved.set()
        if digit == ACCEPT_KEY:
            self.decide(Verdict.ACCEPTED)
        elif digit == DECLINE_KEY:
            self.decide(Verdict.DECLINED)

    async def _leg_watch(self) -> None:
        await asyncio.shield(self._leg.closed)
        self.decide(Verdict.HUNG_UP)

    async def _silence(self) -> None:
        """Take a person who says nothing for a no; the clock stops while we speak, and while they do."""
        quiet_since = asyncio.get_running_loop().time()
        opened = False
        while True:
            await asyncio.sleep(0.25)
            now = asyncio.get_running_loop().time()
            opened = opened or self._leg.playout.speaking
            first_word = opened and not self._answered and self._detection.how != "disabled"
            patience = self._detection.timeout_seconds if first_word else SILENCE_SECONDS
            if self._leg.playout.speaking or self._session.user_state == "speaking" or self._moved.is_set():
                self._moved.clear()
                quiet_since = now
            elif now - quiet_since > patience:
                self.decide(Verdict.DECLINED)
                return


def plain_answer(text: str) -> Verdict | None:
    """Return what somebody's words say where they say it plainly, for when no model is there to understand them."""
    if len(text.split()) > PLAIN_WORDS:
        return None
    yes, no = _YES.search(text), _NO.search(text)
    if bool(yes) == bool(no):
        return None
    return Verdict.ACCEPTED if yes else Verdict.DECLINED


def _schema(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "parameters": {"type": "object", "properties": {}}}
