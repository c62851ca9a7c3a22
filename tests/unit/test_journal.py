"""The journal: on disk before anybody hears of it, locked while its writer lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from agent_worker.call.journal import Journal
from agent_worker.control.journal_file import Scan
from agent_worker.control.orphan import last_words
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import CallEnded, DataCollected, EventOccurred, Fact, decode, encode


def test_facts_are_on_disk_in_order_with_ids_that_never_repeat(tmp_path: Path) -> None:
    """Every fact can be read back as soon as `write` returns."""
    journal = Journal(tmp_path, "c1")
    seen: list[Fact] = []
    journal.listen(seen.append)
    for name in ("a", "b", "c"):
        journal.event(name)

    facts = [decode(line) for line in journal.path.read_bytes().splitlines()]
    assert [fact.id for fact in facts] == ["c1:0", "c1:1", "c1:2"]
    assert [fact.event_type for fact in facts if isinstance(fact, EventOccurred)] == ["a", "b", "c"]
    assert facts == seen
    journal.close()


def test_the_lock_tells_a_living_writer_from_a_dead_one(tmp_path: Path) -> None:
    """Nobody can take the lock while the journal is open; anybody can afterwards."""
    journal = Journal(tmp_path, "c1")
    other = os.open(journal.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    journal.close()

    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert decode_all(journal.path) == []
    os.close(other)


def test_a_journal_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """People's words are in it."""
    journal = Journal(tmp_path, "c1")
    assert journal.path.stat().st_mode & 0o077 == 0
    journal.close()


def decode_all(path: Path) -> list[Fact]:
    return [decode(line) for line in path.read_bytes().splitlines()]


def test_what_tools_collected_outlives_a_killed_process(tmp_path: Path) -> None:
    """The end that is written for a lost call carries the data its own process had kept last."""
    journal = Journal(tmp_path, "c1")
    journal.write(DataCollected, structured_data={"message": {"name": "Ann"}})
    journal.write(DataCollected, structured_data={"message": {"name": "Anna"}})
    scan = Scan()
    for fact in decode_all(journal.path):
        scan.add(fact)
    journal.close()

    [ended] = [fact for fact in last_words("c1", scan, utc_now()) if isinstance(fact, CallEnded)]
    assert ended.structured_data == {"message": {"name": "Anna"}}


def test_a_call_has_one_journal(tmp_path: Path) -> None:
    """A second call of the same id is told at once: two calls never write into one file, nor wait for one another."""
    first = Journal(tmp_path, "c1")
    with pytest.raises(FileExistsError):
        Journal(tmp_path, "c1")
    first.close()


def test_half_a_letter_costs_no_fact() -> None:
    """A model that streams an emoji in two pieces leaves half a surrogate pair; the fact is kept without it."""
    fact = EventOccurred(id="c1:0", call_id="c1", at=utc_now(), event_type="x", payload={"text": "ok \ud83d"})

    assert decode(encode(fact)) == fact.model_copy(update={"payload": {"text": "ok ?"}})
