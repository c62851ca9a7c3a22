"""Callback times: what people say, counted on the agent's clock, and what cannot be kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.control.spoken_time import LATEST, callback_time, spoken_time

ZONE = "Europe/Berlin"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)  # a Monday, 10:30 in Berlin


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("tomorrow at three", "2026-03-03T15:00:00+01:00"),
        ("Tomorrow at 3 p.m., please", "2026-03-03T15:00:00+01:00"),
        ("tomorrow", "2026-03-03T09:00:00+01:00"),
        ("in half an hour", "2026-03-02T11:00:00+01:00"),
        ("in two hours", "2026-03-02T12:30:00+01:00"),
        ("in an hour and a half", "2026-03-02T12:00:00+01:00"),
        ("in 20 minutes", "2026-03-02T10:50:00+01:00"),
        ("in three days at ten", "2026-03-05T10:00:00+01:00"),
        ("in a week", "2026-03-09T10:30:00+01:00"),
        ("on Thursday at ten thirty", "2026-03-05T10:30:00+01:00"),
        ("Monday morning", "2026-03-09T09:00:00+01:00"),
        ("next week", "2026-03-09T09:00:00+01:00"),
        ("Thursday next week at eleven", "2026-03-12T11:00:00+01:00"),
        ("the day after tomorrow in the evening", "2026-03-04T18:00:00+01:00"),
        ("this afternoon", "2026-03-02T14:00:00+01:00"),
        ("tonight at eight", "2026-03-02T20:00:00+01:00"),
        ("at half past four", "2026-03-02T16:30:00+01:00"),
        ("March 28th at quarter to nine", "2026-03-28T08:45:00+01:00"),
        ("the twenty first of April at 14:15", "2026-04-21T14:15:00+02:00"),
        ("the first of March", "2027-03-01T09:00:00+01:00"),
        ("at eight", "2026-03-03T08:00:00+01:00"),  # eight has passed today
    ],
)
def test_what_people_say_is_a_time(words: str, at: str) -> None:
    """The time is on the agent's clock, with its offset on that day."""
    found = callback_time(words, None, NOW, ZONE)
    assert found is not None
    assert found.isoformat() == at


@pytest.mark.parametrize(
    "words",
    [
        "",
        "whenever it suits you",
        "not tomorrow",
        "tomorrow or Friday",
        "next Thursday",  # this week's, or the next one's
        "the week after next",
        "before three",
        "tomorrow at twenty five",
        "the thirtieth of February",
        "the thirtieth of February at ten",
        "yesterday",
    ],
)
def test_what_is_not_wholly_understood_is_no_time(words: str) -> None:
    """Half an understanding would call somebody at the wrong time."""
    assert spoken_time(words, NOW, ZoneInfo(ZONE)) is None


def test_a_model_reads_what_the_rules_do_not() -> None:
    """Words in another language have the model's reading; words the rules know keep theirs."""
    assert str(callback_time("übermorgen um drei", "2026-03-04T15:00", NOW, ZONE)) == "2026-03-04 15:00:00+01:00"
    assert str(callback_time("tomorrow at three", "2027-01-01T03:00", NOW, ZONE)) == "2026-03-03 15:00:00+01:00"


@pytest.mark.parametrize(
    "read",
    [
        "2026-03-02T10:30",  # now
        "2025-03-03T15:00",
        "2027-03-03T15:00",  # more than a year
        "2026-03-04T14:00Z",  # another clock
        "2026-03-04T15:00-05:00",
        "tomorrow",
        "9999-12-31T23:59",
        "0001-01-01T00:00",
        "2026-03-04T15:00:00+01:00; DROP TABLE callbacks",
    ],
)
def test_a_reading_that_cannot_be_kept_is_none(read: str) -> None:
    """A callback is to come, within a year, and on the agent's own clock."""
    assert callback_time("later", read, NOW, ZONE) is None


def test_an_hour_the_clocks_leave_out_is_the_one_after_it() -> None:
    """On the night the clocks go forward there is no half past two."""
    found = callback_time("March 29th at 2:30 am", None, NOW, ZONE)
    assert str(found) == "2026-03-29 03:30:00+02:00"


@given(st.text(max_size=60), st.text(max_size=30))
def test_nothing_anybody_says_breaks_it(words: str, read: str) -> None:
    """Whatever was recognised: a time that can be kept, or none."""
    found = callback_time(words, read, NOW, ZONE)
    assert found is None or NOW < found <= NOW + LATEST


@given(st.integers(1, 59))
def test_minutes_are_counted_as_they_pass(minutes: int) -> None:
    """In 20 minutes is twenty minutes from now."""
    assert callback_time(f"in {minutes} minutes", None, NOW, ZONE) == NOW + timedelta(minutes=minutes)
