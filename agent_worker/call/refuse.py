"""A call nobody takes: one sentence and a hang-up, or no answer at all."""

from __future__ import annotations

import asyncio
import logging

from livekit import rtc

from agent_worker.call.answer import announce_and_hang_up
from agent_worker.call.journal import Journal
from agent_worker.call.line import Line
from agent_worker.call.live_call import Ending
from agent_worker.call.services import CallServices
from agent_worker.call.speech_cache import bundled
from agent_worker.call.wrapup import end_refused
from agent_worker.domain.call import CallRefusal, DisconnectionReason
from agent_worker.errors import CallError, place_of

logger = logging.getLogger("agent_worker.call")

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
            await announce_and_hang_up(line, await _sentence(line, refusal, services, answer_by))
        except CallError as error:
            ending = Ending(DisconnectionReason(error.disconnection_reason), error.code)
        except Exception as error:  # noqa: BLE001 - whatever broke, the line is closed and the call ends in its journal
            logger.error("refusal not spoken", extra={"call_id": line.call_id, "error": place_of(error)})
    await end_refused(line, journal, ending)
    return ending


async def _sentence(line: Line, refusal: CallRefusal, services: CallServices, answer_by: float) -> rtc.AudioFrame:
    """Return the sentence in the agent's voice, or a clip that ships with the product and says as much."""
    if refusal.voice is not None:
        left = max(LEAST_SECONDS, answer_by - asyncio.get_running_loop().time())
        try:
            audio = await line.unless_closed(services.spoken(refusal.voice, refusal.sentence, left))
        except CallError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller: a clip says as much without a voice
            logger.warning("no voice for a refusal", extra={"call_id": line.call_id, "error": place_of(error)})
            audio = None
        if audio is not None:
            return audio
    return bundled("not_in_service" if refusal.reason is DisconnectionReason.UNKNOWN_NUMBER else "goodbye")
