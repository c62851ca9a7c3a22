"""`python -m agent_worker keys`: keys are made, listed and revoked, and a first `serve` makes one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from agent_worker.cli import app
from agent_worker.control.api_keys import make_first_key
from agent_worker.settings import Settings, settings
from agent_worker.testing.serve_process import ServeProcess
from tests.databases import fresh_database
from tests.integration.serving import DESK, serve_settings, serving

KEY = re.compile(r"aw_live_[A-Za-z0-9_-]{43}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the command finds its database."""
    monkeypatch.setenv("AGENT_WORKER_DATA_DIR", str(tmp_path / "serve"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def keys(*arguments: str) -> tuple[int, str, str]:
    """Run the command; returns its exit code, stdout and stderr."""
    done = CliRunner().invoke(app, ["keys", *arguments])
    return done.exit_code, done.stdout, done.stderr


async def status_of(url: str, key: str) -> int:
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}) as client:
        return (await client.get("/v1/organization")).status_code


def test_a_key_is_printed_alone_so_that_it_can_be_piped(folder: Path) -> None:
    """Standard output is the key and nothing else; what it is stands on standard error."""
    code, out, err = keys("create", "--name", "crm", "--scope", "operate", "--agent", "desk")

    assert code == 0
    assert KEY.fullmatch(out.strip())
    assert "operate" in err
    assert "desk" in err
    assert not KEY.search(err)


def test_a_list_tells_keys_apart_without_showing_them(folder: Path) -> None:
    """A list has what keys are for, and of the keys themselves their last characters only."""
    _, made, _ = keys("create", "--name", "crm", "--agent", "desk", "--agent", "front")
    key = made.strip()

    [listed] = json.loads(keys("list", "--json")[1])
    table = keys("list")[1]

    assert listed["name"] == "crm"
    assert listed["scope"] == "read"
    assert listed["agents"] == ["desk", "front"]
    assert listed["endsWith"] == key[-4:]
    assert listed["revoked"] is None
    for part in (listed["id"], "crm", "read", "desk, front", key[-4:]):
        assert part in table
    assert key not in table + json.dumps(listed)


def test_the_key_is_nowhere_on_disk(folder: Path) -> None:
    """The database has a hash of it: whoever reads the file has no key."""
    key = keys("create", "--name", "crm")[1].strip()

    for file in (folder / "serve").rglob("*"):
        assert not file.is_file() or key.encode() not in file.read_bytes()


async def test_a_revoked_key_is_refused_by_a_running_serve(folder: Path) -> None:
    """A key works at once where it was made beside a running `serve`, and no longer soon after it is revoked."""
    async with serving(serve_settings(folder)) as url:
        _, made, _ = await asyncio.to_thread(keys, "create", "--name", "crm")
        key = made.strip()
        assert await status_of(url, key) == 200
        [listed] = json.loads((await asyncio.to_thread(keys, "list", "--json"))[1])

        code, out, _ = await asyncio.to_thread(keys, "revoke", listed["id"])

        assert (code, listed["id"] in out) == (0, True)
        async with asyncio.timeout(30):
            while await status_of(url, key) != 401:  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.1)
    [listed] = json.loads((await asyncio.to_thread(keys, "list", "--json"))[1])
    assert listed["revoked"] is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("revoke", "key_unknown"), "No key in force has the id 'key_unknown'."),
        (("revoke", "a\0b"), "No key in force has the id"),
        (("create", "--name", " "), "A key's name has 1 to 120 characters."),
        (("create", "--name", "x" * 121), "A key's name has 1 to 120 characters."),
        (("create", "--name", "x", "--agent", ""), "named by their ids"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder: Path, arguments: tuple[str, ...], sentence: str) -> None:
    """What cannot be done says why, changes nothing, and exits with 2."""
    code, out, err = keys(*arguments)

    assert (code, out) == (2, "")
    assert sentence in err
    assert json.loads(keys("list", "--json")[1]) == []


def test_an_unknown_scope_is_refused(folder: Path) -> None:
    """There are three scopes."""
    assert keys("create", "--name", "x", "--scope", "root")[0] == 2


def test_making_and_revoking_is_in_the_audit(folder: Path) -> None:
    """Who made a key at the command line can be read afterwards, the newest change first."""
    keys("create", "--name", "crm", "--scope", "admin")
    [listed] = json.loads(keys("list", "--json")[1])
    keys("revoke", listed["id"])

    entries = json.loads(keys("audit", "--json")[1])

    assert [(entry["action"], entry["resource"], entry["key"]) for entry in entries] == [
        ("key.revoke", f"keys/{listed['id']}", "command line"),
        ("key.create", f"keys/{listed['id']}", "command line"),
    ]
    assert entries[1]["detail"] == {"scope": "admin"}
    assert len(json.loads(keys("audit", "--json", "--limit", "1")[1])) == 1
    assert json.loads(keys("audit", "--json", "--key", "key_other")[1]) == []
    assert "key.revoke" in keys("audit")[1]


@pytest.mark.parametrize("command", ["create", "list", "revoke", "audit"])
def test_help_teaches(command: str) -> None:
    """Each command's help has an example that can be typed."""
    shown = keys(command, "--help")[1]

    assert "Example:" in shown
    assert f"python -m agent_worker keys {command}" in shown


async def test_a_first_serve_prints_a_key_once(tmp_path: Path) -> None:
    """The first `serve` on a database prints an admin key that works, not as a line of the log; the next one none."""
    async with ServeProcess(tmp_path, [DESK]) as first:
        key = await _printed_key(first)
        assert await status_of(first.url, key) == 200
        lines = first.log().splitlines()
    assert [line for line in lines if key in line] == [f"API key: {key}"]

    async with ServeProcess(tmp_path, [DESK], env={"AGENT_WORKER_API_REQUESTS_PER_MINUTE": "0"}) as second:
        assert await status_of(second.url, key) == 200
        printed = KEY.findall(second.log())
    assert set(printed) <= {key}


async def _printed_key(process: ServeProcess) -> str:
    async with asyncio.timeout(30):
        while True:
            if found := KEY.search(process.log()):
                return found.group()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_of_many_that_start_at_once_one_makes_the_key(tmp_path: Path, kind: str) -> None:
    """Replicas on an empty database make one key together, not one each."""
    with fresh_database(kind, tmp_path) as url:
        shared = Settings(data_dir=tmp_path, database_url=url)

        made = await asyncio.gather(*(make_first_key(shared) for _ in range(8)))

        assert len([key for key in made if key is not None]) == 1
        assert await make_first_key(shared) is None


async def test_several_processes_make_one_key(tmp_path: Path) -> None:
    """Three `serve` of their own processes on one database print one key between them."""
    shared = {"AGENT_WORKER_DATABASE_URL": f"sqlite:///{tmp_path / 'shared.db'}"}
    processes = [ServeProcess(tmp_path / name, [DESK], env=shared) for name in ("a", "b", "c")]
    try:
        await asyncio.gather(*(process.start() for process in processes))
        async with asyncio.timeout(30):
            while not any(KEY.search(process.log()) for process in processes):  # noqa: ASYNC110 - nor has a log
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        printed = {key for process in processes for key in KEY.findall(process.log())}
    finally:
        for process in processes:
            await process.kill()
    assert len(printed) == 1


async def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """A `serve` that starts before its database makes the key once the database is there."""
    blocked = tmp_path / "data"
    blocked.write_text("a file where a folder must be")
    making = asyncio.create_task(make_first_key(Settings(data_dir=blocked), again_seconds=0.05))
    await asyncio.sleep(0.2)
    assert not making.done()

    blocked.unlink()

    key = await asyncio.wait_for(making, 30)
    assert key is not None
    assert KEY.fullmatch(key)
