"""A call whose process died with it: what is to be said, in its own journal, in place of the dead writer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from agent_worker.control.journal_file import Scan
from agent_worker.domain.call import CallStatus, DisconnectionReason
from agent_worker.domain.fact import CallEnded, EventOccurred, Fact, RecordingChanged

PARTIAL = "partial"


def has_content(path: Path) -> bool:
    """Return whether the file exists and is not empty."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def last_words(call_id: str, scan: Scan, at: datetime, is_written: Callable[[Path], bool] = has_content) -> list[Fact]:
    """Return the facts that end a lost call: what there is of the recording, the hangup, the end.

    Args:
        at: when the call was lost.
        is_written: whether a recording's file has anything in it.
    """
    reason = DisconnectionReason.WORKER_LOST
    sequence = scan.next_sequence
    facts: list[Fact] = []
    recording = scan.recording
    if recording is not None and recording.status == "pending" and recording.path:
        written = is_written(Path(recording.path))
        facts.append(
            RecordingChanged(
                id=f"{call_id}:{sequence}",
                call_id=call_id,
                at=at,
                status="uploading" if written else "failed",
                path=recording.path,
                duration_ms=recording.duration_ms,
                detail=PARTIAL if written else "nothing was written",
            )
        )
    facts.append(
        EventOccurred(
            id=f"{call_id}:{sequence + len(facts)}",
            call_id=call_id,
            at=at,
            event_type="call.hangup",
            status=CallStatus.FAILED.value,
            failure_cause=reason.value,
            payload={"disconnection_reason": reason.value},
        )
    )
    facts.append(
        CallEnded(
            id=f"{call_id}:{sequence + len(facts)}",
            call_id=call_id,
            at=at,
            disconnection_reason=reason,
            failure_cause=reason.value,
            structured_data=scan.structured_data,
        )
    )
    return facts
