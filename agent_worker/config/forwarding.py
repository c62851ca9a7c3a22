"""Who forwarded a call: the number that was called first, from what carriers send along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Forwarding:
    """Where a call came from before it reached us."""

    number: str | None = None
    source: Literal["telnyx", "diversion", "history-info"] | None = None
    hops: tuple[str, ...] = ()


def forwarded_from(
    attributes: Mapping[str, str], job_metadata: Mapping[str, Any], dialed_number: str | None
) -> Forwarding:
    """Return the number that forwarded first."""
    return Forwarding()
