"""Renders what agents are known to say before a caller needs it, and again when their configuration changes."""

from __future__ import annotations

import asyncio
import logging
import os

from livekit.agents.utils import http_context

from agent_worker.call.speech_cache import SpeechCache
from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.config.routing import refusing_voice
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Presets
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import build_stack

logger = logging.getLogger("agent_worker.call")

LOOK_SECONDS = 2.0
RETRY_SECONDS = 30.0


class SpeechAhead:
    """Works through the agents of a catalog for as long as the worker runs.

    Args:
        refusal: what callers nobody takes are told, in the voice of the first agent; "" where a clip says it.
    """

    def __init__(self, cache: SpeechCache, catalog: CachedCatalog, presets: Presets, *, refusal: str = "") -> None:
        self._cache = cache
        self._refusal = refusal
        self._presets = presets
        self._catalog = catalog
        self._done: dict[str, AgentConfig] = {}

    async def run(self) -> None:
        """Render until cancelled: what is new soon, what failed again after a while."""
        loop = asyncio.get_running_loop()
        retry_at = 0.0
        seen = None
        while True:
            found = self._catalog.current()
            if found is not seen or (loop.time() >= retry_at and found.agents.keys() - self._done.keys()):
                seen = found
                await self._render(dict(found.agents))
                retry_at = loop.time() + RETRY_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    async def _render(self, agents: dict[str, AgentConfig]) -> None:
        self._done = {agent_id: agent for agent_id, agent in self._done.items() if agents.get(agent_id) == agent}
        todo = {agent_id: agent for agent_id, agent in agents.items() if agent_id not in self._done}
        if not todo:
            return
        http_context._new_session_ctx()
        try:
            for agent_id, agent in todo.items():
                try:
                    complete = await self._render_agent(agent_id, agent)
                except Exception:  # one agent's odd voice must not keep the others silent
                    logger.exception("agent's speech not rendered", extra={"agent": agent_id})
                    complete = True
                if complete:
                    self._done[agent_id] = agent
        finally:
            await http_context._close_http_ctx()

    async def _render_agent(self, agent_id: str, agent: AgentConfig) -> bool:
        """Return whether there is nothing left to try."""
        try:
            stack = build_stack(agent, os.environ, self._presets)
        except ProviderError as error:
            logger.error("agent has no voice", extra={"agent": agent_id, "code": error.code})
            return True
        missing = 0
        refusal = [self._refusal] if agent is refusing_voice(self._catalog.current()) else []
        try:
            for text in self._cache.missing(agent, stack.own_voice_label, refusal):
                missing += not await self._cache.render(stack, agent, text)
        finally:
            await stack.aclose()
        return not missing
