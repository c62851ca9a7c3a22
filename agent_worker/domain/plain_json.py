"""JSON from outside, made safe to keep and to send on."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def read_json(text: str | bytes) -> Any:
    """Return what the text says, with half surrogate pairs, which nothing after this could send on, as `?`.

    Raises:
        ValueError: it is no JSON, or has a number that is none.
        RecursionError: it nests too deeply to be read.
    """
    value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def depth_within(value: Any, limit: int) -> bool:
    """Return whether objects and lists lie in one another no deeper than this."""
    level = [value]
    for _ in range(limit):
        inner = (part for outer in level for part in (outer.values() if isinstance(outer, dict) else outer))
        level = [part for part in inner if isinstance(part, dict | list)]
        if not level:
            return True
    return False


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number
