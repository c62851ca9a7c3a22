"""Which bytes `Range` asks for."""

from __future__ import annotations

import pytest

from agent_worker.api.byte_range import Unsatisfiable, asked_range


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("bytes=0-", (0, 1000)),
        ("bytes=0-0", (0, 1)),
        ("bytes=500-599", (500, 600)),
        ("bytes=500-99999", (500, 1000)),
        ("bytes=-100", (900, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("bytes=999-", (999, 1000)),
        ("bytes= 0-9", (0, 10)),
        ("bytes=0-1,5-6", None),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=", None),
        ("items=0-5", None),
        ("bytes=a-b", None),
        ("bytes=1-2-3", None),
        ("bytes=٣-", None),
        ("bytes=" + "9" * 40 + "-", None),
        ("", None),
    ],
)
def test_one_range_is_answered_and_anything_odd_is_the_whole(header: str, found: tuple[int, int] | None) -> None:
    assert asked_range(header, 1000) == found


@pytest.mark.parametrize(
    ("header", "size"), [("bytes=1000-", 1000), ("bytes=5000-6000", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)]
)
def test_what_begins_behind_the_end_cannot_be_had(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        asked_range(header, size)
