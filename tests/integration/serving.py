"""What the tests of the remote control plane stand on: a real `serve` on loopback, and a hop that fails as told."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from agent_worker.api.auth import hash_of, new_key
from agent_worker.api.backend import Streaming
from agent_worker.api.server import address_of, listening, make_server
from agent_worker.app import create_app
from agent_worker.control.catalog_keeper import CatalogKeeper
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.make import make_catalog, make_keeper
from agent_worker.control.remote import RemoteControlPlane
from agent_worker.domain.call import CallOffer, Direction, utc_now
from agent_worker.settings import Settings
from agent_worker.store.keys import save_key
from agent_worker.store.migrate import upgrade
from agent_worker.testing.serve_process import TOKEN

NUMBER = "+12015550199"
OFFER = CallOffer(call_id="call-1", direction=Direction.INBOUND, room_name="room-1", dialed_number=NUMBER)
DESK = {"name": "desk", "systemPrompt": "You help.", "numbers": [NUMBER]}


def write_agents(folder: Path, *agents: Mapping[str, Any]) -> Path:
    """Write agent files; returns their folder."""
    found = folder / "agents"
    found.mkdir(parents=True, exist_ok=True)
    for agent in agents:
        (found / f"{agent['name']}.yaml").write_text(json.dumps(agent))  # JSON is YAML
    return found


def serve_settings(folder: Path, *agents: Mapping[str, Any], **changes: Any) -> Settings:
    """Return the settings of a `serve` with these agents and a folder of its own."""
    prompts = folder / "prompts"
    prompts.mkdir(parents=True, exist_ok=True)
    values: dict[str, Any] = {
        "data_dir": folder / "serve",
        "agents_dir": write_agents(folder, *(agents or (DESK,))),
        "prompts_dir": prompts,
        "control_token": TOKEN,
        "api_port": 0,
        "analysis": "off",  # no test asks a model by accident
    }
    return Settings(**(values | changes))


def _migrated(settings: Settings) -> None:
    """Put a database that has all tables there: what a start would do, in a hundredth of the time."""
    file = settings.data_dir / "agent-worker.db"
    if not settings.database_url and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_template(), file)


@cache
def _template() -> Path:
    file = Path(tempfile.mkdtemp(prefix="agent-worker-template-")) / "agent-worker.db"
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    upgrade(f"sqlite:///{file}")
    return file


@asynccontextmanager
async def serving(settings: Settings, *, streaming: Streaming | None = None) -> AsyncIterator[str]:
    """Run `serve` in this process, on a port of its own; yields its URL."""
    _migrated(settings)
    server = make_server(create_app(settings, streaming=streaming))
    with listening(settings.api_host, settings.api_port) as bound:
        running = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            while not server.started:
                assert not running.done()
                await asyncio.sleep(0.01)
            yield address_of(bound)
        finally:
            server.should_exit = True
            await running


async def make_key(settings: Settings, *, scope: str = "admin", agent_ids: list[str] | None = None) -> str:
    """Return a new API key of a `serve` with these settings, which need not run."""
    _migrated(settings)
    key = new_key()
    control = EmbeddedControlPlane(settings)
    try:
        async with control.writing() as connection:
            await save_key(
                connection,
                settings.organization_id,
                name=f"test {scope}",
                hashed=hash_of(key),
                shown=key[-4:],
                scope=scope,
                agent_ids=agent_ids,
                now=utc_now(),
            )
    finally:
        await control.aclose()
    return key


@dataclass
class Remote:
    """A worker host's end: its control plane, and what keeps its copy of the configuration."""

    settings: Settings
    control: RemoteControlPlane
    keeper: CatalogKeeper


@asynccontextmanager
async def remote_to(url: str, folder: Path, **changes: Any) -> AsyncIterator[Remote]:
    """Lend a worker's end to the control plane at this URL."""
    values: dict[str, Any] = {"data_dir": folder / "worker", "control_url": url, "control_token": TOKEN}
    settings = Settings(**(values | changes))
    catalog = make_catalog(settings)
    control = RemoteControlPlane(settings, catalog)
    try:
        yield Remote(settings, control, make_keeper(control, catalog))
    finally:
        await control.aclose()


class Hop:
    """A TCP hop on the way to `serve`: it passes everything on, until it is told to swallow answers or to be gone.

    Attributes:
        swallow: so many answers are lost: the connection is closed when the first byte of one comes.
        requests: connections on which something was sent.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallow = 0
        self.swallowed = 0
        self.url = ""

    async def __aenter__(self) -> Hop:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
        forth = asyncio.create_task(self._copy(reader, there_writer))
        back = asyncio.create_task(self._copy(there_reader, writer, answers=True))
        try:
            await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (forth, back):
                task.cancel()
            await asyncio.gather(forth, back, return_exceptions=True)
            for end in (writer, there_writer):
                end.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if answers and self.swallow > 0:
                    self.swallow -= 1
                    self.swallowed += 1
                    return
                sink.write(data)
                await sink.drain()
