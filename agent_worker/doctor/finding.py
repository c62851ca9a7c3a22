"""What one look at one part found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a part is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: name of the check it belongs to.
        message: one sentence: what works, or the cause of the failure.
        remedy: one sentence: what to do about it; "" where there is nothing to do.
        code: names the cause for machines; "" where all is well.
        detail: figures and ids, plain JSON, nothing secret.
    """

    check: str
    status: Status
    message: str
    remedy: str = ""
    code: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON."""
        return {
            "check": self.check,
            "status": self.status.value,
            "code": self.code,
            "message": self.message,
            "remedy": self.remedy,
            "detail": dict(self.detail),
        }
