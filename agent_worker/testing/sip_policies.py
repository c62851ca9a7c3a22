"""How the SIP phone treats what comes to it: incoming calls and blind transfers; and how a call can fail."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.testing.audio import Pcm


class CallFailed(Exception):
    """The call was refused, or did not get where it was awaited; `status` is SIP's, 0 for none."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Answer:
    """How the phone treats an incoming call."""

    code: int = 200
    """Final response; 0 = none ever."""
    reason: str = ""
    ring_seconds: float = 0.3
    ringing: bool = True
    """Whether 180 is sent; without it the caller sees 100 only."""
    headers: tuple[tuple[str, str], ...] = ()
    play: Pcm | None = None
    """What is said at pickup, 8 kHz."""
    auth: tuple[str, str] | None = None
    """User and password the caller must give; without, or with others, it is refused."""


@dataclass(frozen=True)
class ReferPolicy:
    """How the phone treats a REFER (a blind transfer)."""

    code: int = 202
    """Response; 0 = none ever."""
    reason: str = "Accepted"
    notifies: tuple[tuple[float, str], ...] = ((0.05, "SIP/2.0 100 Trying"), (0.3, "SIP/2.0 200 OK"))
    """Seconds to wait, and the status line to notify."""
    hang_up_after: float | None = None
    """Seconds after the last NOTIFY until the phone sends BYE; None = it does not."""
