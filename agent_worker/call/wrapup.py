"""The end of a call: every leg down first, then the last facts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import av

from agent_worker.call.journal import Journal
from agent_worker.call.line import Line
from agent_worker.call.live_call import Ending, LiveCall
from agent_worker.domain.call import final_status
from agent_worker.domain.fact import CallEnded, RecordingChanged

logger = logging.getLogger("agent_worker.call")

SESSION_CLOSE_SECONDS = 5.0
HANG_UP_SECONDS = 10.0


async def wrap_up(call: LiveCall, ending: Ending, *, session_lost: bool = False) -> Ending:
    """Hang up, stop everything, and write what is left to write; each step has its deadline, none skips the next.

    Args:
        session_lost: the session's own tasks are gone already, so there is nothing to close.

    Returns:
        Why the call is over: the first reason stands.
    """
    call.finish(ending)
    ending = call.over.result()
    _hangup_event(call.journal, ending)
    await asyncio.gather(_hang_up(call.line), _hang_up_others(call))
    call.watchdog.stop()
    await call.stop_tasks()
    if not session_lost:
        async with _at_most(SESSION_CLOSE_SECONDS, "session_close"):
            await call.session.aclose()
    await _finish_recording(call)
    call.transcript.close()
    call.count_usage()
    close_journal(call.journal, ending, call)
    async with _at_most(SESSION_CLOSE_SECONDS, "let_go"):
        await call.line.aclose()
        await call.stack.aclose()
    return ending


def close_journal(journal: Journal, ending: Ending, call: LiveCall | None = None) -> None:
    """Write the last fact and let go of the file."""
    journal.write(
        CallEnded,
        disconnection_reason=ending.reason,
        failure_cause=ending.failure_cause,
        sip_status_code=ending.sip_status_code,
        sip_status=ending.sip_status,
        structured_data=call.structured_data if call else {},
    )
    journal.close()


async def end_refused(line: Line, journal: Journal, ending: Ending) -> None:
    """Wrap up a call that never became a conversation."""
    _hangup_event(journal, ending)
    await _hang_up(line)
    close_journal(journal, ending)
    await line.aclose()


async def _hang_up(line: Line) -> None:
    async with _at_most(HANG_UP_SECONDS, "hang_up"):
        await line.hang_up()


async def _hang_up_others(call: LiveCall) -> None:
    """Take down the legs of a transfer, whatever becomes of the caller's: a phone that rings for nobody stops."""
    if call.transfers is not None:
        async with _at_most(HANG_UP_SECONDS, "transfer"):
            await call.transfers.aclose()


def _hangup_event(journal: Journal, ending: Ending) -> None:
    journal.event(
        "call.hangup",
        provider="livekit",
        status=final_status(ending.reason).value,
        failure_cause=ending.failure_cause,
        sip_status_code=ending.sip_status_code,
        sip_status=ending.sip_status,
        payload={
            "disconnection_reason": ending.reason.value,
            **({"ended_by": ending.ended_by} if ending.ended_by else {}),
        },
    )


async def _finish_recording(call: LiveCall) -> None:
    if call.recording is None:
        return
    path = str(call.recording.path.resolve())
    try:
        if not call.line.picked_up:
            await call.recording.discard()
            return
        duration_ms = await call.recording.finish()
    except (OSError, av.FFmpegError) as error:
        if call.line.picked_up:
            call.journal.write(RecordingChanged, status="failed", path=path, detail=str(error))
        return
    call.journal.write(RecordingChanged, status="uploading", path=path, duration_ms=duration_ms)


@contextlib.asynccontextmanager
async def _at_most(seconds: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        logger.error("a step of the end took too long", extra={"step": what, "seconds": seconds})
    except Exception as error:  # noqa: BLE001 - a step that fails must not keep the next from being taken
        logger.error("a step of the end failed", extra={"step": what, "error": type(error).__name__})
