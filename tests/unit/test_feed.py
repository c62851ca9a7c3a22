"""What is told of a watched call: each turn once, when it is final, behind those before it; each event once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from agent_worker.control.feed import HOLD_SECONDS, WatchedCall
from agent_worker.store.live import LiveState
from tests.call_facts import START

Row = dict[str, Any]


def turn(index: int, *, partial: bool = False) -> Row:
    started = START + timedelta(seconds=10 * index)
    return {"index": index, "started_at": started, "metadata": {"partial": True} if partial else {}}


def event(number: int, *, after_turn: float = 0) -> Row:
    at = START + timedelta(seconds=10 * after_turn)
    return {"id": f"e{number}", "occurred_at": at, "created_at": START + timedelta(hours=1, milliseconds=number)}


class Watch:
    """A call that is read again and again."""

    def __init__(self) -> None:
        self.call = WatchedCall("call-1")
        self.revision = 0

    def read(self, *turns: Row, events: tuple[Row, ...] = (), now: float = 0.0, ended: datetime | None = None) -> None:
        self.revision += 1
        status = "ended" if ended else "active"
        self.call.take(LiveState(self.revision, status, ended, list(turns), list(events)), now)

    @property
    def told(self) -> list[Any]:
        return [
            happening.row["index"] if happening.kind == "turn" else happening.row["id"] for happening in self.call.known
        ]


def test_a_turn_is_told_once_and_only_when_it_is_final() -> None:
    """Neither its beginning nor what is known of it later is told."""
    watch = Watch()
    watch.read(turn(0, partial=True))
    assert watch.told == []
    watch.read(turn(0))
    watch.read(turn(0), turn(1))
    assert watch.told == [0, 1]


def test_a_turn_waits_for_an_earlier_one_but_not_for_ever() -> None:
    """Behind a turn that is still being spoken, until that takes too long; then the late one follows."""
    watch = Watch()
    watch.read(turn(0, partial=True), turn(1), now=0.0)
    assert watch.told == []
    assert not watch.call.is_due(watch.revision, HOLD_SECONDS / 2)
    assert watch.call.is_due(watch.revision, HOLD_SECONDS)
    watch.read(turn(0, partial=True), turn(1), now=HOLD_SECONDS)
    assert watch.told == [1]
    watch.read(turn(0), turn(1), turn(2), now=HOLD_SECONDS + 1)
    assert watch.told == [1, 0, 2]


def test_an_index_nobody_wrote_holds_up_nothing() -> None:
    """A line of the journal that could not be read leaves a gap."""
    watch = Watch()
    watch.read(turn(0), turn(2))
    assert watch.told == [0, 2]


def test_the_end_tells_what_is_left() -> None:
    """A turn that was never finished is told as it stands, and nothing follows."""
    watch = Watch()
    watch.read(turn(0), turn(1, partial=True), ended=START)
    assert watch.told == [0, 1]
    assert watch.call.over


def test_a_backlog_is_told_in_the_order_it_happened() -> None:
    """Events and turns among one another by their times, neither out of its own order."""
    watch = Watch()
    watch.read(turn(0), turn(1), events=(event(1, after_turn=0.5), event(2, after_turn=0.2), event(3, after_turn=3)))
    assert watch.told == [0, "e1", "e2", 1, "e3"]


def test_a_call_that_is_gone_is_over() -> None:
    """Its row was erased while it was watched."""
    call = WatchedCall("call-1")
    call.take(None, 0.0)
    assert call.over
