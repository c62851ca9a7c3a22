"""Several mistakes in an operator's files, reported together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from agent_worker.errors import ConfigError


class ConfigErrors(ConfigError):
    """All that is wrong, so that an operator mends it in one go.

    Attributes:
        problems: each mistake, in the order of file and line.
    """

    def __init__(self, problems: Iterable[ConfigError]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file or "", problem.line or 0)))
        count = len(self.problems)
        super().__init__("config_invalid", f"{count} {'mistake' if count == 1 else 'mistakes'} in the configuration.")

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def nearest(name: str, valid: Sequence[str]) -> str | None:
    """Return the valid name most like this one, or None where none is like it."""
    folded = {candidate.replace("_", "").replace("-", "").lower(): candidate for candidate in valid}
    found = get_close_matches(name.replace("_", "").replace("-", "").lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(name: str, valid: Sequence[str]) -> str:
    """Return a remedy: the nearest valid name, or all of them."""
    close = nearest(name, valid)
    if close:
        return f"Did you mean {close!r}?"
    return f"Valid here: {', '.join(sorted(valid))}." if valid else ""
