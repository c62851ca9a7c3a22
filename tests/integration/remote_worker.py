"""A worker's side of a control plane on another host, and hosts that answer badly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_worker.errors import ControlPlaneError
from agent_worker.testing.processes import free_port
from tests.call_facts import whole_call
from tests.integration.serving import Remote, remote_to, serve_settings, serving

Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    """Run something that is not `serve`, and answers as the handler does."""
    app = web.Application(client_max_size=2**25)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def cached_worker(folder: Path, *agents: dict[str, Any], **changes: Any) -> AsyncIterator[Remote]:
    """Lend a worker's end that has seen a configuration, of a control plane that is gone now."""
    settings = serve_settings(folder, *agents, **changes)
    port = free_port()
    async with remote_to(f"http://127.0.0.1:{port}", folder) as worker:
        async with serving(settings.model_copy(update={"api_port": port})):
            await worker.keeper.refresh()
        assert worker.keeper.state == "ok"
        yield worker


async def error_of(handler: Handler, folder: Path) -> ControlPlaneError:
    """Return what `record` raises where the other side answers like this."""
    async with answering(handler) as url, remote_to(url, folder) as worker:
        with pytest.raises(ControlPlaneError) as error:
            await worker.control.record(whole_call().facts)
    return error.value
