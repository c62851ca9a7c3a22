"""The desk: a developer talks to an agent, by keyboard or by microphone, without LiveKit or a phone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator

from rich.console import Console

from agent_worker.config.catalog import AgentCatalog, load_catalog
from agent_worker.config.presets_file import read_presets
from agent_worker.control.open_call import plan_call
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.call import CallOffer, CallRefusal, Direction, new_call_id
from agent_worker.errors import ConfigError
from agent_worker.settings import Settings, settings
from agent_worker.simulation.desk_line import DeskLine, open_sound
from agent_worker.simulation.desk_text import TextDesk
from agent_worker.simulation.screen import Screen
from agent_worker.simulation.stage import require_providers, stage
from agent_worker.toolbox.loader import load_tools

DESK_FOLDER = "desk"
"""Below the data folder: calls from the desk are kept apart from real ones."""


async def run_desk(agent_name: str, *, text: bool) -> int:
    """Talk to the agent until it ends the call, the input ends, or Ctrl-C; returns the exit code.

    Raises:
        ConfigError: there is no such agent, or there is no sound on this machine.
        ConfigErrors: an agent file is wrong.
        ProviderError: the agent has no usable provider.
    """
    logging.getLogger().setLevel(logging.WARNING)
    configuration = settings()
    catalog = load_catalog(configuration)
    found = catalog.find_agent(agent_name)
    if found is None:
        raise ConfigError(
            "agent_unknown",
            f"There is no agent {agent_name!r}.",
            remedy=f"Name one of: {', '.join(sorted(catalog.agents))}." if catalog.agents else "Write its file.",
        )
    if text:
        return await _type(await _planned(found[0], catalog, configuration), configuration)
    return await _talk(found[1], configuration)


async def _planned(agent_id: str, catalog: AgentCatalog, configuration: Settings) -> AgentConfig:
    """Return the agent as a call would have it, its texts rendered; its webhook is not asked.

    Raises:
        ConfigError: no call could be planned with it.
    """
    offer = CallOffer(
        call_id=new_call_id(), direction=Direction.INBOUND, room_name="desk", job_metadata={"agentId": agent_id}
    )
    plan = await plan_call(offer, catalog, configuration, budget_seconds=1.0, ask=None)
    if isinstance(plan, CallRefusal):
        raise ConfigError("agent_not_usable", plan.detail, remedy="`python -m agent_worker explain` says more.")
    return plan.agent


async def _type(agent: AgentConfig, configuration: Settings) -> int:
    # what fails is told in the conversation
    logging.getLogger("livekit.agents").setLevel(logging.CRITICAL)
    presets = read_presets(configuration.presets_file)
    desk = TextDesk(agent, load_tools(configuration.tools_dir), os.environ, Console(), presets)
    await desk.run(_typed_lines())
    return 0


async def _talk(agent: AgentConfig, configuration: Settings) -> int:
    require_providers(agent, configuration)
    sound = open_sound()
    apart = configuration.model_copy(update={"data_dir": configuration.data_dir / DESK_FOLDER, "database_url": ""})
    line = DeskLine(agent.name, sound)
    screen = Screen(Console())
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, line.caller_hangs_up)
    async with stage(apart, watch=screen.fact) as theatre:
        screen.note("Use headphones, or the agent hears itself. Ctrl-C hangs up.")
        await theatre.render_speech(agent)
        with screen:
            await theatre.take(line)
            await theatre.settle()
    screen.note(f"Recording: {apart.recordings_dir / f'{line.call_id}.ogg'}")
    return 0


async def _typed_lines() -> AsyncIterator[str]:
    """Yield what is typed, line by line; a terminal that is left in the middle of a line holds nothing up."""
    reader = asyncio.StreamReader()
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
    except ValueError:  # a regular file is no pipe, and never keeps anybody waiting
        for line in await asyncio.to_thread(sys.stdin.readlines):
            yield line
        return
    try:
        while line_bytes := await reader.readline():
            yield line_bytes.decode(errors="replace")
    finally:
        transport.close()
