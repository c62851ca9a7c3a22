"""Turns measured calls into numbers, and numbers into a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bench.calls import MeasuredCall
from bench.legs import LEGS, Entry, legs

PROVIDERS_SECONDS = 0.3 + 0.35 + 0.15
"""Delays of the stand-ins: what a turn cannot be shorter than without guessing ahead."""


@dataclass
class Results:
    """Everything measured in one run."""

    machine: dict[str, Any]
    workers: list[str]
    calls: list[MeasuredCall] = field(default_factory=list)
    log: list[Entry] = field(default_factory=list)
    """What the stand-ins saw."""

    def of(self, worker: str, at_once: int) -> list[MeasuredCall]:
        """Return the calls of one worker at one load."""
        return [call for call in self.calls if call.worker == worker and call.at_once == at_once]

    def loads(self) -> list[int]:
        """Return how many calls at once were measured."""
        return sorted({call.at_once for call in self.calls})


def percentile(values: Iterable[float | None], share: float) -> float | None:
    """Return a percentile of what was measured, or None when nothing was."""
    known = [value for value in values if value is not None]
    return float(np.percentile(known, share)) if known else None


def turn_seconds(calls: Iterable[MeasuredCall]) -> list[float]:
    """Return every turn of the calls."""
    return [turn.seconds for call in calls for turn in call.turns if turn.seconds is not None]


def leg_seconds(results: Results, worker: str) -> dict[str, list[float]]:
    """Return each leg of each turn of one worker's single calls."""
    collected: dict[str, list[float]] = {name: [] for name in LEGS}
    for call in results.of(worker, 1):
        for turn in call.turns:
            parts = legs(turn, results.log)
            for name, value in (parts or {}).items():
                collected[name].append(value)
    return collected


def rows(results: Results) -> list[tuple[str, list[str]]]:
    """Return the table: a label, and a cell for each worker."""
    workers = results.workers
    single = {worker: results.of(worker, 1) for worker in workers}
    table: list[tuple[str, list[str]]] = []

    def row(label: str, cells: Sequence[str]) -> None:
        table.append((label, list(cells)))

    def both(values: Iterable[float | None]) -> str:
        known = list(values)
        return f"{_ms(percentile(known, 50))} / {_ms(percentile(known, 95))}"

    row(
        "calls complete",
        [f"{sum(c.complete for c in single[w])} of {len(single[w])}" for w in workers],
    )
    row("INVITE to greeting", [both(c.invite_to_greeting for c in single[w]) for w in workers])
    row("INVITE to pickup", [both(c.invite_to_pickup for c in single[w]) for w in workers])
    row("pickup to greeting", [both(c.pickup_to_greeting for c in single[w]) for w in workers])
    row(
        "clipped first syllables",
        [f"{sum(bool(c.clipped) for c in single[w])} of {len(single[w])}" for w in workers],
    )
    row("turn", [both(turn_seconds(single[w])) for w in workers])
    row(
        "  on top of the providers",
        [both(value - PROVIDERS_SECONDS for value in turn_seconds(single[w])) for w in workers],
    )
    parts = {worker: leg_seconds(results, worker) for worker in workers}
    for name in LEGS:
        row(f"  {name}", [both(parts[w][name]) for w in workers])
    row(
        "processor per call, cores",
        [_number(percentile((c.cpu_share for c in single[w]), 50), 2) for w in workers],
    )
    row(
        "memory of a live call, MiB",
        [_number(percentile((c.memory_mib for c in single[w]), 50), 1) for w in workers],
    )
    for load in results.loads():
        if load == 1:
            continue
        many = {worker: results.of(worker, load) for worker in workers}
        row(
            f"{load} at once: complete",
            [f"{sum(c.complete for c in many[w])} of {len(many[w])}" for w in workers],
        )
        row(f"{load} at once: turn", [both(turn_seconds(many[w])) for w in workers])
        row(
            f"{load} at once: INVITE to greeting",
            [both(c.invite_to_greeting for c in many[w]) for w in workers],
        )
        row(
            f"{load} at once: processor per call",
            [_number(percentile((c.cpu_share for c in many[w]), 50), 2) for w in workers],
        )
    return table


def as_json(results: Results) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "machine": results.machine,
        "table": [{"what": label, **dict(zip(results.workers, cells, strict=True))} for label, cells in rows(results)],
        "calls": [asdict(call) | {"complete": call.complete} for call in results.calls],
        "legs_seconds": {worker: leg_seconds(results, worker) for worker in results.workers},
    }


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
