"""SIGTERM and SIGINT: the first one asks a process to stop in order, a later one to stop at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

SAME_SECONDS = 0.5
"""Signals this close to the first one are the same: a child hears of its parent's death from each of its threads."""


def on_stop_signals(stop: Callable[[], None], stop_at_once: Callable[[], None]) -> None:
    """Have the running loop call `stop` at the first signal, and `stop_at_once` at one that comes later."""
    loop = asyncio.get_running_loop()
    asked_at: float | None = None

    def told() -> None:
        nonlocal asked_at
        if asked_at is None:
            asked_at = loop.time()
            stop()
        elif loop.time() - asked_at >= SAME_SECONDS:
            stop_at_once()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
