"""Which bytes of a file a request asks for (RFC 9110, 14): one range is answered, anything odd gets the whole file."""

from __future__ import annotations

import re

_ONE = re.compile(r"bytes=\s*([0-9]{0,18})-([0-9]{0,18})\s*")


class Unsatisfiable(Exception):
    """The range begins behind the end of the file."""


def asked_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the [start, end) that is asked for; None for the whole file, as for several ranges and for nonsense.

    Raises:
        Unsatisfiable: it begins behind the end.
    """
    found = _ONE.fullmatch(header)
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        last = int(found[2])
        if last == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - last), size
    start = int(found[1])
    end = size if found[2] == "" else min(int(found[2]) + 1, size)
    if found[2] != "" and int(found[2]) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, end
