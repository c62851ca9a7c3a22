"""When a delivery is tried again, and how much an endpoint that fails is asked: decisions only, no I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

RETRY_SECONDS = (10.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 43_200.0, 86_400.0)
"""After the first failure, the second, and so on; the last one holds until the delivery expires (contract 5.4)."""

JITTER = 0.1
LONGEST_RETRY_AFTER = timedelta(hours=24)

MOST_AT_ONCE = 16
"""Requests to one endpoint at the same time; of one call to one endpoint there is never more than one."""

FIRST_AT_ONCE = 2
"""Requests at the same time to an endpoint that is not known to answer; each success doubles them."""

FAILURES_TO_PAUSE = 5
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 120.0


def next_attempt(
    attempts: int,
    now: datetime,
    *,
    jitter: float,
    retry_after: timedelta | None = None,
    schedule: tuple[float, ...] = RETRY_SECONDS,
) -> datetime:
    """Return when to try again after so many failed attempts.

    Args:
        jitter: -1 to 1; moves the time by up to a tenth of the wait.
        retry_after: what the receiver asked for; it is waited for at least so long, at most a day.
    """
    seconds = schedule[min(attempts, len(schedule)) - 1] * (1 + JITTER * jitter)
    asked = min(retry_after or timedelta(0), LONGEST_RETRY_AFTER)
    return now + max(timedelta(seconds=seconds), asked)


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return what a `Retry-After` header asks for, in seconds or as a date; None where it says neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), 10**8))
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(timedelta(0), at - now)


class EndpointHealth:
    """How one endpoint has been answering this process, and so how much it is asked.

    It begins with few requests at a time. An endpoint that fails is asked by a single one; after five failures in a row
    it rests, longer each time up to two minutes, and then a single request finds out whether it is back. A success lets
    twice as many go.
    """

    def __init__(self) -> None:
        self._limit = FIRST_AT_ONCE
        self._failures = 0
        self._pauses = 0
        self._paused_until: datetime | None = None

    def free(self, in_flight: int, now: datetime) -> int:
        """Return how many more requests may be made now."""
        if self._paused_until is not None and now < self._paused_until:
            return 0
        return max(0, self._limit - in_flight)

    def succeeded(self) -> None:
        """Note that a request was answered well."""
        self._failures = self._pauses = 0
        self._paused_until = None
        self._limit = min(MOST_AT_ONCE, self._limit * 2)

    def failed(self, started_at: datetime, now: datetime) -> None:
        """Note that a request failed; one made before a pause began says nothing that is not known."""
        if self._paused_until is not None and started_at < self._paused_until:
            return
        self._limit = 1
        self._failures += 1
        if self._failures >= FAILURES_TO_PAUSE:
            seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0**self._pauses)
            self._pauses += 1
            self._paused_until = now + timedelta(seconds=seconds)

    def asked_to_wait(self, wait: timedelta, now: datetime) -> None:
        """Note that the endpoint asked not to be called for so long; other deliveries wait two minutes at most."""
        until = now + min(wait, timedelta(seconds=LONGEST_PAUSE_SECONDS))
        self._paused_until = max(self._paused_until or until, until)
