"""How fast the agent answered: average, p50 and p95 of each leg of its turns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

LEGS = ("eou_ms", "llm_ttft_ms", "tts_ttfb_ms", "conversational_latency_ms")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("a percentile of nothing")
    rank = max(1, math.ceil(len(values) * percent / 100))
    return sorted(values)[rank - 1]


def latency_summary(entries: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | int]]:
    """Return `{leg: {average, p50, p95, turns}}` in ms over transcript entries, without legs no entry has."""
    summary: dict[str, dict[str, float | int]] = {}
    for leg in LEGS:
        values = [float(entry[leg]) for entry in entries if entry.get(leg) is not None]
        if values:
            summary[leg] = {
                "average": round(sum(values) / len(values), 1),
                "p50": round(percentile(values, 50), 1),
                "p95": round(percentile(values, 95), 1),
                "turns": len(values),
            }
    return summary
