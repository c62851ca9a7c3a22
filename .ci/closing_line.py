"""Adds up the closing lines of several pytest runs and prints one in the same form."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|warnings?|deselected)\b")
SECONDS = re.compile(r" in (\d+(?:\.\d+)?)s\b")
ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")


def closing_line(texts: list[str]) -> str:
    """Return the sum; a run without a closing line counts as one error."""
    counts: Counter[str] = Counter()
    seconds = 0.0
    for text in texts:
        closing = next(
            (line for line in reversed(text.splitlines()) if SECONDS.search(line) and COUNT.search(line)), ""
        )
        if not closing:
            counts["error"] += 1
            continue
        for number, word in COUNT.findall(closing):
            counts[word.removesuffix("s") if word in ("errors", "warnings") else word] += int(number)
        seconds += float(SECONDS.findall(closing)[-1])
    told = ", ".join(
        f"{counts[word]} {word}{'s' if word in ('warning', 'error') and counts[word] > 1 else ''}"
        for word in ORDER
        if counts[word]
    )
    return f"===== {told or 'no tests ran'} in {seconds:.2f}s ====="


if __name__ == "__main__":
    logs = [Path(name) for name in sys.argv[1:]]
    texts = [log.read_text(encoding="utf-8", errors="replace") if log.exists() else "" for log in logs]
    sys.stdout.write(closing_line(texts) + "\n")
