"""JSON from outside, made safe to keep and to send on."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")


def read_json(text: str | bytes) -> Any:
    """Return what the text says, with half surrogate pairs, which nothing after this could send on, as `?`.

    Raises:
        ValueError: it is no JSON, or has a number that is none.
        RecursionError: it nests too deeply to be read.
    """
    return json.loads(json.dumps(parse_json(text), ensure_ascii=False).encode("utf-8", "replace"))


def parse_json(text: str | bytes) -> Any:
    """Return what the text says, to the letter.

    Raises:
        ValueError: it is no JSON, or has a number that is none.
        RecursionError: it nests too deeply to be read.
    """
    return json.loads(text, parse_constant=_no_number, parse_float=_finite)


def storable(value: Any) -> bool:
    """Return whether a database can keep every string: neither a NUL character nor half a surrogate pair in it."""
    level = [value]
    while level:
        found = level.pop()
        if isinstance(found, dict):
            level += [*found.keys(), *found.values()]
        elif isinstance(found, list):
            level += found
        elif isinstance(found, str) and _NOT_STORABLE.search(found):
            return False
    return True


def depth_within(value: Any, limit: int) -> bool:
    """Return whether objects and lists lie in one another no deeper than this."""
    level = [value] if isinstance(value, dict | list) else []
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
