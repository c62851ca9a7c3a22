"""A call nobody takes: one sentence and a hang-up, or no answer at all."""

from __future__ import annotations

import asyncio

from livekit import rtc

from agent_worker.call.answer import announce_and_hang_up
from agent_worker.call.journal import Journal
from agent_worker.call.line import Line
from agent_worker.call.live_call import Ending
from agent_worker.call.services import CallServices
from agent_worker.call.speech_cache import bundled
from agent_worker.call.wrapup import end_refused
from agent_worker.domain.call import CallRefusal, DisconnectionReason
from agent_worker.errors import CallError

LEAST_SECONDS = 0.5
"""What a voice is given to begin a refusal, however little of the ringing is left."""


async def refuse(
    line: Line, journal: Journal, refusal: CallRefusal, services: CallServices, *, answer_by: float
) -> Ending:
    """Say the refusal's sentence and hang up, or close the line while it rings where there is none.

    Args:
        answer_by: until when the call may ring, on the loop's clock.
    """
    ending = Ending(refusal.reason, refusal.reason.value)
    if refusal.sentence:
        try:
            await announce_and_hang_up(line, await _sentence(refusal, services, answer_by))
        except CallError as error:
            ending = Ending(DisconnectionReason(error.disconnection_reason), error.code)
    await end_refused(line, journal, ending)
    return ending


async def _sentence(refusal: CallRefusal, services: CallServices, answer_by: float) -> rtc.AudioFrame:
    """Return the sentence in the agent's voice, or a clip that ships with the product and says as much."""
    if refusal.voice is not None:
        left = answer_by - asyncio.get_running_loop().time()
        audio = await services.spoken(refusal.voice, refusal.sentence, max(LEAST_SECONDS, left))
        if audio is not None:
            return audio
    return bundled("not_in_service" if refusal.reason is DisconnectionReason.UNKNOWN_NUMBER else "goodbye")
