"""The product's own template values, under `system`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent_worker.config.numbers import to_e164

SYSTEM_VARIABLES: Mapping[str, str] = {
    "now": "date and time in the agent's zone, ISO 8601 with offset",
    "date": "the date, 2026-03-02",
    "time": "the time, 09:30",
    "weekday": "the day of the week, in English",
    "time_zone": "the agent's zone, Europe/Berlin",
    "caller_number": "who calls, E.164; empty where that is withheld",
    "dialed_number": "the number that was dialled, E.164",
    "forwarded_from_number": "the number the call was forwarded from, E.164; empty where it was not",
    "call_id": "the call's id",
    "direction": "inbound or outbound",
}
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def system_values(
    *,
    call_id: str,
    direction: str,
    caller_number: str | None,
    dialed_number: str | None,
    forwarded_from_number: str | None,
    timezone: str,
    now: datetime,
) -> dict[str, Any]:
    """Return `{"system": {…}}` for one call; a number that is none is empty, whatever the caller sent.

    Args:
        timezone: IANA name.
        now: aware.
    """
    local = now.astimezone(ZoneInfo(timezone))
    return {
        "system": {
            "now": local.isoformat(timespec="seconds"),
            "date": local.date().isoformat(),
            "time": f"{local:%H:%M}",
            "weekday": _WEEKDAYS[local.weekday()],
            "time_zone": timezone,
            "caller_number": to_e164(caller_number) or "",
            "dialed_number": to_e164(dialed_number) or "",
            "forwarded_from_number": to_e164(forwarded_from_number) or "",
            "call_id": call_id,
            "direction": direction,
        }
    }
