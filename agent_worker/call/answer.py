"""Picking up: an inbound call rings until the greeting's first audio is there, so nobody hears dead air."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import APIError

from agent_worker.call.line import Line
from agent_worker.call.live_call import LINE_TAIL_SECONDS, LiveCall
from agent_worker.call.speech_cache import chunks
from agent_worker.domain.fact import CallAnswered, RecordingChanged

logger = logging.getLogger("agent_worker.call")


async def answer(call: LiveCall, *, answer_by: float) -> None:
    """Start the conversation, pick up, and greet; returns when the greeting is under way.

    Args:
        answer_by: until when the caller may hear ringing while the greeting is synthesised, on the loop's clock.

    Raises:
        CallError: the caller gave up while it rang.
    """
    assert call.phone_agent is not None
    # picking up first: a rendered greeting needs nobody, and the bridge's answer comes while the session starts
    picking_up = asyncio.create_task(_pick_up(call, answer_by), name="pick_up")
    starting = asyncio.create_task(call.session.start(call.phone_agent), name="session_start")
    try:
        greeting = await picking_up
        call.journal.write(CallAnswered)
        call.journal.event("call.answered", status="active", sip_status_code=200, sip_status="OK")
        _record(call)
        await starting
    except BaseException:  # also when the call is cancelled: nothing goes on beside a call that was never answered
        picking_up.cancel()
        starting.cancel()
        raise
    if call.agent.first_message.strip():
        text = call.agent.first_message
        call.phone_agent.reply_stage = "tts"
        call.watchdog.reply_due()
        call.session.say(text, audio=greeting) if greeting else call.session.say(text)
    else:
        call.idle.busy("greeting", False)


async def _pick_up(call: LiveCall, answer_by: float) -> AsyncIterator[rtc.AudioFrame] | None:
    """Pick up as soon as the greeting can begin; returns its audio, or None where it has to be synthesised."""
    text = call.agent.first_message
    if cached := call.audio_of(text):
        greeting: AsyncIterator[rtc.AudioFrame] | None = chunks(cached)
    else:
        greeting = await call.line.unless_closed(_synthesised_greeting(call, text, answer_by))
    await call.line.pick_up()
    return greeting


async def announce_and_hang_up(line: Line, sentence: rtc.AudioFrame) -> None:
    """Pick up, say one sentence without a session, and hang up.

    Raises:
        CallError: the caller gave up while it rang.
    """
    await line.pick_up()
    async for frame in chunks(sentence):
        await line.playout.capture_frame(frame)
    line.playout.flush()
    heard = asyncio.ensure_future(line.playout.wait_for_playout())
    either: set[asyncio.Future[Any]] = {heard, line.closed}
    await asyncio.wait(either, timeout=sentence.duration + 2, return_when=asyncio.FIRST_COMPLETED)
    heard.cancel()
    if not line.closed.done():
        await asyncio.sleep(LINE_TAIL_SECONDS)
    await line.hang_up()


def _record(call: LiveCall) -> None:
    if call.recording is None:
        # an agent that is to be recorded and is not had no disk to be recorded to
        call.journal.write(RecordingChanged, status="failed" if call.agent.record else "suppressed")
        return
    call.line.tap_voice(call.recording.hear_caller)
    call.line.playout.tap(call.recording.hear_agent)
    call.recording.start()
    call.journal.write(RecordingChanged, status="pending", path=str(call.recording.path.resolve()))


async def _synthesised_greeting(call: LiveCall, text: str, answer_by: float) -> AsyncIterator[rtc.AudioFrame] | None:
    """Return the greeting's audio once its first frame is there; None past the budget, or with none to say."""
    if not text.strip():
        return None
    frames = call.speech.stream(call.stack, call.agent, text)
    try:
        async with asyncio.timeout_at(answer_by):
            first = await anext(frames)
    except (APIError, TimeoutError, StopAsyncIteration) as error:
        logger.warning("greeting not ready", extra={"error": type(error).__name__})
        return None
    return _rejoin(first, frames)


async def _rejoin(first: rtc.AudioFrame, rest: AsyncIterator[rtc.AudioFrame]) -> AsyncIterator[rtc.AudioFrame]:
    yield first
    try:
        async for frame in rest:
            yield frame
    except APIError as error:
        logger.warning("greeting cut short", extra={"error": type(error).__name__})
