"""What the stand-ins saw and did, with the moment of each: what a measurement takes a turn apart with."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Sighting:
    """One moment at one provider."""

    at: float
    """Monotonic seconds; on Linux the same clock in every process of the machine."""
    epoch: float
    """Seconds since 1970."""
    service: str
    kind: str
    connection: str
    """Connection, request or context it belongs to."""
    text: str = ""


class Sightings:
    """An append-only log."""

    def __init__(self) -> None:
        self.entries: list[Sighting] = []

    def note(self, service: str, kind: str, connection: str, text: str = "", *, at: float | None = None) -> None:
        """Append a sighting of now, or of a moment that has just been."""
        now = time.monotonic()
        moment = now if at is None else at
        self.entries.append(Sighting(moment, time.time() - (now - moment), service, kind, connection, text))

    def of(self, service: str, kind: str, *, after: float = 0.0, text: str | None = None) -> list[Sighting]:
        """Return the sightings of a kind from a moment (monotonic) on; optionally with exactly this text."""
        return [
            entry
            for entry in self.entries
            if entry.service == service
            and entry.kind == kind
            and entry.at >= after
            and (text is None or entry.text == text)
        ]

    def as_json(self, since: int = 0) -> list[dict[str, Any]]:
        """Return entries from index `since` on, as plain values."""
        return [asdict(entry) for entry in self.entries[since:]]
