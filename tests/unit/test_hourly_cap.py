"""The cap of an hour: held by several processes together, over restarts, and never in the way where it cannot count."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent_worker.call.transfer.hourly_cap import HOUR_SECONDS, PATIENCE_SECONDS, HourlyCap

PROCESSES, TRIES, MOST = 6, 40, 100


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def _take_many(path: Path, taken: Any) -> None:
    # patient: a machine under test may not run a process that holds the lock for a while
    cap = HourlyCap(path, MOST, patience_seconds=30)
    taken.put(sum(cap.take() for _ in range(TRIES)))


def test_processes_together_never_exceed_it(tmp_path: Path) -> None:
    """However they come in between each other, and a process that starts later finds it full."""
    context = multiprocessing.get_context("spawn")
    taken = context.Queue()
    processes = [context.Process(target=_take_many, args=(tmp_path / "cap", taken)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    counts = [taken.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(30)
    assert PROCESSES * TRIES > MOST
    assert sum(counts) == MOST
    assert not HourlyCap(tmp_path / "cap", MOST).take()
    assert HourlyCap(tmp_path / "cap", MOST + 1).take()


def test_an_attempt_counts_for_an_hour_and_a_refused_one_not_at_all(tmp_path: Path) -> None:
    """The window slides: each attempt makes room for another an hour after it."""
    clock = Clock()
    cap = HourlyCap(tmp_path / "data" / "cap", 2, clock=clock)
    assert cap.take()
    clock.now += HOUR_SECONDS / 2
    assert [cap.take(), cap.take(), cap.take()] == [True, False, False]
    clock.now += HOUR_SECONDS / 2
    assert [cap.take(), cap.take()] == [True, False]
    assert len((tmp_path / "data" / "cap").read_text().split()) == 2


def test_a_clock_that_is_set_back_blocks_nobody_for_longer_than_an_hour(tmp_path: Path) -> None:
    """What was counted in what is now the far future is forgotten."""
    clock = Clock()
    cap = HourlyCap(tmp_path / "cap", 1, clock=clock)
    assert cap.take()
    clock.now -= 2 * HOUR_SECONDS
    assert cap.take()


def test_without_a_cap_nothing_is_counted(tmp_path: Path) -> None:
    """0 = no cap, and no file."""
    cap = HourlyCap(tmp_path / "cap", 0)
    assert all(cap.take() for _ in range(200))
    assert list(tmp_path.iterdir()) == []


def _folder(path: Path) -> None:
    path.mkdir()


def _no_folder_above(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file")


@pytest.mark.parametrize("spoil", [_folder, os.mkfifo, _no_folder_above])
def test_a_file_that_cannot_be_used_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Any) -> None:
    """The attempt is made, at once, and the log says that it was not counted."""
    path = tmp_path / "data" / "cap"
    path.parent.mkdir()
    spoil(path)
    with caplog.at_level(logging.ERROR):
        assert HourlyCap(path, 1).take()
        assert HourlyCap(path, 1).take()
    assert [record.message for record in caplog.records] == ["transfer not counted"] * 2


@pytest.mark.parametrize("text", [b"\x00\xff rubbish\n", b"nan\ninf\n1e999\n", b"x" * (2 << 20)])
def test_rubbish_in_the_file_is_not_counted(tmp_path: Path, text: bytes) -> None:
    """From then on it counts again."""
    path = tmp_path / "cap"
    path.write_bytes(text)
    cap = HourlyCap(path, 1)
    assert [cap.take(), cap.take()] == [True, False]
    assert len(path.read_bytes().split()) == 1


def test_a_lock_somebody_keeps_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The loop that carries audio stands still meanwhile."""
    path = tmp_path / "cap"
    with path.open("w") as kept, caplog.at_level(logging.ERROR):
        fcntl.flock(kept, fcntl.LOCK_EX)
        began = time.monotonic()
        assert HourlyCap(path, 1).take()
        assert time.monotonic() - began < PATIENCE_SECONDS + 0.5
    assert [record.message for record in caplog.records] == ["transfer not counted"]
