"""When somebody wants to be called: "tomorrow at three", said on the telephone, as a time on the agent's clock.

English words that are understood to the last one are counted here; for all others a model's reading is taken. Either
must be a time that can be kept: to come, and within a year. A day without an hour means nine in the morning; an hour
without more means the one between seven in the morning and seven in the evening.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

LATEST = timedelta(days=365)
MORNING = time(9)


def _words(text: str) -> list[str]:
    return text.split()


_CARDINALS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
)
_ORDINALS = _words(
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"
    " fifteenth sixteenth seventeenth eighteenth nineteenth"
)
_FIGURES = {word: value for words in (_CARDINALS, _ORDINALS) for value, word in enumerate(words)}
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50}
_LAST = {"twentieth": 20, "thirtieth": 30}
_DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
_MONTHS = _words("january february march april may june july august september october november december")
_UNITS = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
_PARTS = {
    "morning": time(9),
    "noon": time(12),
    "midday": time(12),
    "afternoon": time(14),
    "evening": time(18),
    "tonight": time(18),
}
_SAYS_NOTHING = frozenset(
    _words(
        "a again an any around about at back be best better by call can could fine for from good great i in is it like"
        " maybe me now o'clock of on please ring say so some sometime that the then this time uh um us will would you"
    )
)
_EACH_MONTH = "|".join(_MONTHS)


def callback_time(words: str | None, read_as: str | None, now: datetime, timezone: str) -> datetime | None:
    """Return when to call, aware, in the agent's zone; None where that is no time that can be kept.

    Args:
        words: the person's own.
        read_as: a model's reading of them: a date and a time on the agent's clock.
        now: when they were said.
    """
    zone = ZoneInfo(timezone)
    at = spoken_time(words or "", now, zone) or _time_read(read_as or "", zone)
    return at if at is not None and now < at <= now + LATEST else None


def spoken_time(words: str, now: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the time these words name, None where not every one of them is understood."""
    said = _Said(words)
    here = now.astimezone(zone)
    at = _after_a_while(said, here, zone) or _on_some_day(said, here, zone)
    return at if said.understood else None


class _Said:
    """Words in small letters, numbers in figures; what is understood is taken out."""

    def __init__(self, words: str) -> None:
        text = re.sub(r"\b([ap])\. ?m\b\.?", r"\1m", words[:500].lower())
        self.rest = " ".join(_in_figures(re.findall(r"[a-z']+|\d+", text)))

    def take(self, pattern: str) -> re.Match[str] | None:
        found = re.search(rf"\b(?:{pattern})\b", self.rest)
        if found:
            self.rest = f"{self.rest[: found.start()]} {self.rest[found.end() :]}"
        return found

    def not_understood(self) -> None:
        self.rest += " ?"

    @property
    def understood(self) -> bool:
        return all(word in _SAYS_NOTHING for word in self.rest.split())


def _in_figures(words: list[str]) -> list[str]:
    figures: list[str] = []
    tens = 0
    for word in [*words, ""]:
        value = _FIGURES.get(word, 0) if word else 0
        if tens and not 0 < value < 10:
            figures.append(str(tens))
            tens = 0
        if word in _TENS:
            tens = _TENS[word]
        elif word in _FIGURES:
            figures.append(str(tens + value))
            tens = 0
        elif word:
            figures.append(str(_LAST.get(word, word)))
    return figures


def _after_a_while(said: _Said, here: datetime, zone: ZoneInfo) -> datetime | None:
    found = said.take(rf"in (half an?|an?|\d{{1,3}}) ({'|'.join(_UNITS)})s?( and a half)?")
    if found is None:
        return None
    count, unit, and_a_half = found.groups()
    amount = 0.5 if count.startswith("half") else 1 if count in ("a", "an") else int(count)
    span = _UNITS[unit] * (amount + (0.5 if and_a_half else 0))
    if unit in ("day", "week") and not and_a_half:
        return _on((here + span).date(), _time_of_day(said) or here.time(), zone)
    return datetime.fromtimestamp(here.timestamp() + span.total_seconds(), zone).replace(microsecond=0)


def _on_some_day(said: _Said, here: datetime, zone: ZoneInfo) -> datetime | None:
    day = _day(said, here.date())
    hour = _time_of_day(said)
    if day is not None:
        return _on(day, hour or MORNING, zone)
    if hour is None:
        return None
    today = _on(here.date(), hour, zone)
    return today if today > here else _on(here.date() + timedelta(days=1), hour, zone)


def _day(said: _Said, today: date) -> date | None:
    if said.take("(?:the )?day after tomorrow"):
        return today + timedelta(days=2)
    if said.take("tomorrow"):
        return today + timedelta(days=1)
    if said.take("today|later today") or re.search(r"\btonight\b|\bthis (?:morning|afternoon|evening)\b", said.rest):
        return today
    next_week = said.take("next week")
    if named := said.take(f"(next )?({'|'.join(_DAYS)})"):
        number = _DAYS.index(named[2])
        monday = today + timedelta(days=7 - today.weekday())
        if next_week:
            return monday + timedelta(days=number)
        coming = today + timedelta(days=(number - today.weekday() - 1) % 7 + 1)
        if named[1] and coming < monday:
            said.not_understood()  # said on a Monday, "next Thursday" is this week's to some and not to others
        return coming
    if next_week:
        return today + timedelta(days=7 - today.weekday())
    return _date(said, today)


def _date(said: _Said, today: date) -> date | None:
    found = said.take(rf"(\d{{1,2}})(?: ?(?:st|nd|rd|th))?(?: of)? ({_EACH_MONTH})")
    day, month = (found[1], found[2]) if found else ("", "")
    if not found and (found := said.take(rf"({_EACH_MONTH})(?: the)? (\d{{1,2}})(?: ?(?:st|nd|rd|th))?")):
        day, month = found[2], found[1]
    if not found:
        return None
    try:
        named = date(today.year, _MONTHS.index(month) + 1, int(day))
        return named if named >= today else named.replace(year=today.year + 1)
    except ValueError:
        said.not_understood()
        return None


def _time_of_day(said: _Said) -> time | None:
    part = said.take("|".join(_PARTS))
    half = said.take("am|pm")
    found = said.take(r"(half|quarter) (past|after|to|before) (\d{1,2})")
    if found:
        hour, minute = int(found[3]), 30 if found[1] == "half" else 15
        if found[2] in ("to", "before"):
            hour, minute = hour - 1, 60 - minute
    elif found := said.take(r"(\d{1,2})(?: (\d{2}))?"):
        hour, minute = int(found[1]), int(found[2] or 0)
    else:
        return _PARTS[part[0]] if part else None
    if half:
        hour = hour % 12 + (12 if half[0] == "pm" else 0)
    elif part:
        hour = hour % 12 + (0 if part[0] == "morning" else 12)
    elif 1 <= hour < 7:
        hour += 12
    if hour > 23 or minute > 59:
        said.not_understood()
        return None
    return time(hour, minute)


def _time_read(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        read = datetime.fromisoformat(text.strip())
        here = _on(read.date(), read.time(), zone)
    except (ValueError, OverflowError):
        return None
    # an offset that is not the zone's own means that another clock was read
    return here if read.tzinfo is None or read.utcoffset() == here.utcoffset() else None


def _on(day: date, at: time, zone: ZoneInfo) -> datetime:
    # by way of UTC, so that an hour the clocks leave out becomes the one after it
    local = datetime.combine(day, at.replace(microsecond=0, tzinfo=None), zone)
    return datetime.fromtimestamp(local.timestamp(), zone)
