"""The configuration's copy on disk: an edit costs a call that rings no time, and junk costs only itself."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agent_worker.config import catalog_cache
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.catalog_cache import CachedCatalog

CARRIER = {"name": "carrier", "address": "sip.carrier.example"}


def save(path: Path, *names: str, **more: Any) -> None:
    agents = {name: {"name": name, "systemPrompt": "x"} for name in names}
    catalog_cache.write(path, {"source": "here", "agents": agents, "numbers": {}, "version": len(names), **more})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.json"


class Disk:
    """Reads of any file, slow or failing for as long as it is told so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        self.error: OSError | None = None
        self.reads = 0
        read = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            self.reads += 1
            time.sleep(self.seconds)
            if self.error:
                raise self.error
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_an_edit_that_takes_long_to_read_keeps_no_call_waiting(path: Path, disk: Disk) -> None:
    """Calls go on with what they have, the loop goes on too, the file is read once, and the next call has the edit."""
    save(path, "a")
    catalog = CachedCatalog(None, path, source="here")
    assert set(catalog.current().agents) == {"a"}
    save(path, "a", "b")
    disk.seconds, disk.reads = 0.6, 0
    longest = await _longest_gap(asyncio.gather(*(catalog.fresh() for _ in range(5))))
    assert longest < 0.3
    assert set(catalog.current().agents) == {"a"}
    assert (catalog.is_known, catalog.about["version"]) == (True, 1)
    assert set((await catalog.fresh(5)).agents) == {"a", "b"}
    assert (disk.reads, catalog.about["version"]) == (1, 2)


async def _longest_gap(work: asyncio.Future[Any]) -> float:
    longest, last = 0.0, time.monotonic()
    while not work.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return longest


async def test_an_edit_that_is_read_quickly_is_in_force_for_the_call_that_rings(path: Path) -> None:
    """`fresh` and `current` say the same."""
    catalog = CachedCatalog(AgentCatalog.of([]), path, source="here")
    assert dict((await catalog.fresh()).agents) == {}
    for names in (["a"], ["a", "b"], ["b"]):
        save(path, *names)
        assert set((await catalog.fresh(5)).agents) == set(names)
        assert catalog.current() is await catalog.fresh()


async def test_the_first_reading_is_waited_for(path: Path, disk: Disk) -> None:
    """A call that comes before anything was read does not go without the stored agents."""
    save(path, "a")
    disk.seconds = 0.2
    assert set((await CachedCatalog(None, path, source="here").fresh()).agents) == {"a"}


async def test_a_disk_that_fails_once_is_asked_again(path: Path, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """Without another edit, and without a line in the log at every look."""
    save(path, "a")
    catalog = CachedCatalog(None, path, source="here")
    disk.error = OSError(5, "Input/output error")
    assert catalog.current().agents == {}
    assert (await catalog.fresh()).agents == {}
    assert not catalog.is_known
    assert caplog.text.count("cached configuration not readable") == 1
    disk.error = None
    assert set((await catalog.fresh(5)).agents) == {"a"}


def test_junk_in_a_file_is_read_once(path: Path, disk: Disk) -> None:
    """It does not get better by looking again."""
    path.write_text("{")
    catalog = CachedCatalog(None, path, source="here")
    for _ in range(3):
        assert not catalog.is_known
    assert disk.reads == 1


@pytest.mark.parametrize(
    "junk",
    [
        {"agents": {"bad": {"name": 7}, "good": {"name": "good", "systemPrompt": "x"}}},
        {"numbers": {"pn_1": {"e164": 7}}},
        {"connections": [{"name": "CARRIER!"}, CARRIER, 7]},
    ],
    ids=lambda junk: next(iter(junk)),
)
def test_a_bad_row_costs_no_other(path: Path, junk: dict[str, Any]) -> None:
    """Agents and SIP connections this version can read stay, whichever row beside them it cannot."""
    save(path, "good", **{"connections": [CARRIER], **junk})
    found = CachedCatalog(None, path, source="here").current()
    assert set(found.agents) == {"good"}
    assert found.connections["carrier"].address == "sip.carrier.example"


@pytest.mark.parametrize("part", ["agents", "numbers", "connections", "prompts"])
@pytest.mark.parametrize("junk", [None, 7, "x", ["x"], {"x": None}, {"x": {"x": []}}], ids=repr)
def test_junk_of_any_shape_costs_no_call(path: Path, part: str, junk: Any) -> None:
    """Whatever stands in the file, asking raises nothing."""
    save(path, "good", **{part: junk})
    found = CachedCatalog(None, path, source="here").current()
    assert part == "agents" or part == "prompts" or "good" in found.agents
