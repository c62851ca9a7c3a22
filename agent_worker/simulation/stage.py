"""Takes simulated calls through everything a real one goes through, from the worker to the control plane."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from livekit.agents.utils import http_context

from agent_worker.call.line import Line
from agent_worker.call.live_call import Ending
from agent_worker.call.services import CallServices
from agent_worker.call.transfer.leg import MakeLeg
from agent_worker.config.catalog import AgentCatalog, load_catalog
from agent_worker.config.presets_file import read_presets
from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.control.shipper import JournalShipper
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.fact import Fact
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import build_stack, check_stack
from agent_worker.settings import Settings
from agent_worker.worker import make_services, take_call

POLL_SECONDS = 0.05
Watcher = Callable[[Fact], None]


class Stage:
    """One worker's surroundings in this process, without LiveKit.

    Attributes:
        catalog: the agents.
        control: the control plane the calls end up in.
        services: what the calls share.
    """

    def __init__(
        self,
        services: CallServices,
        catalog: AgentCatalog,
        control: EmbeddedControlPlane,
        shipper: JournalShipper,
    ) -> None:
        self.services = services
        self.catalog = catalog
        self.control = control
        self._shipper = shipper

    async def take(self, line: Line) -> Ending:
        """Take one call on this line, from its first ring to its last fact."""
        return await take_call(line, self.services)

    async def settle(self) -> None:
        """Return when every fact of the calls taken so far is with the control plane."""
        await self._shipper.aclose()

    async def render_speech(self, agent: AgentConfig) -> None:
        """Render the agent's known sentences, as a worker does before calls come in."""
        stack = build_stack(agent, self.services.env, self.services.presets)
        for text in self.services.speech.missing(agent, stack.own_voice_label):
            await self.services.speech.render(stack, agent, text)
        await stack.aclose()


@asynccontextmanager
async def stage(
    settings: Settings, *, watch: Watcher | None = None, make_leg: MakeLeg | None = None
) -> AsyncIterator[Stage]:
    """Set up the stage for calls; `settle` or the end of the block delivers their journals.

    Args:
        watch: told of every fact, a moment after it happened.
        make_leg: makes the leg to a person a caller is put through to; none = nobody can be reached.

    Raises:
        ConfigErrors: an agent file, prompt or tool is wrong.
        ProviderError: an agent has no usable provider.
    """

    def tell(facts: Sequence[Fact]) -> None:
        if watch is not None:
            for fact in facts:
                watch(fact)

    settings = settings.model_copy(update={"control_url": ""})  # a call without LiveKit stays in this process
    services = dataclasses.replace(await asyncio.to_thread(make_services, settings), make_leg=make_leg)
    catalog = load_catalog(settings)
    control = EmbeddedControlPlane(settings, catalog)
    shipper = JournalShipper(
        settings.journal_dir,
        control,
        worker_id=services.worker_id,
        lease_seconds=settings.lease_seconds,
        on_delivered=tell,
        poll_seconds=POLL_SECONDS,
    )
    shipper.start()
    http_context._new_session_ctx()
    try:
        yield Stage(services, catalog, control, shipper)
    finally:
        await shipper.aclose()
        await http_context._close_http_ctx()
        await services.control.aclose()
        await control.aclose()


def require_providers(agent: AgentConfig, settings: Settings) -> None:
    """Raise the first `ProviderError` that keeps the agent from taking a call."""
    problems: list[ProviderError] = check_stack(agent, os.environ, read_presets(settings.presets_file))
    if problems:
        raise problems[0]
