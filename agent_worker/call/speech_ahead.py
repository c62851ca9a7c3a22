"""Renders what agents are known to say before a caller needs it, and again when their configuration changes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping

from livekit.agents.utils import http_context

from agent_worker.call.speech_cache import SpeechCache
from agent_worker.config.catalog import AgentCatalog
from agent_worker.config.catalog_cache import CachedCatalog
from agent_worker.config.routing import refusing_voice
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Presets
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import build_stack

logger = logging.getLogger("agent_worker.call")

LOOK_SECONDS = 2.0
RETRY_SECONDS = 30.0
TIDY_SECONDS = 6 * 3600.0


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
        self._done: dict[str, tuple[AgentConfig, str]] = {}
        self._files: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Render until cancelled: what is new soon, what failed again after a while; remove what nobody needs."""
        loop = asyncio.get_running_loop()
        retry_at = tidy_at = 0.0
        seen = None
        while True:
            found = await self._catalog.fresh()
            if found is not seen or (loop.time() >= retry_at and found.agents.keys() - self._done.keys()):
                seen = found
                await self._render(found)
                retry_at = loop.time() + RETRY_SECONDS
            if loop.time() >= tidy_at:
                await asyncio.to_thread(self._tidy, found)
                tidy_at = loop.time() + TIDY_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    def _tidy(self, catalog: AgentCatalog) -> None:
        needed: set[str] = set().union(*self._files.values())
        self._cache.mark_needed(needed)
        # while an agent's voice cannot be had, nobody can say which files are its
        if self._files.keys() == catalog.agents.keys():
            self._cache.tidy(needed)

    def _wishes(self, catalog: AgentCatalog) -> Mapping[str, tuple[AgentConfig, str]]:
        """Return each agent with the sentence that only the agent says who speaks where nobody takes a call."""
        refusing = refusing_voice(catalog)
        return {
            agent_id: (agent, self._refusal if agent is refusing else "") for agent_id, agent in catalog.agents.items()
        }

    async def _render(self, catalog: AgentCatalog) -> None:
        wishes = self._wishes(catalog)
        self._done = {agent_id: wish for agent_id, wish in self._done.items() if wishes.get(agent_id) == wish}
        self._files = {agent_id: files for agent_id, files in self._files.items() if agent_id in self._done}
        todo = {agent_id: wish for agent_id, wish in wishes.items() if agent_id not in self._done}
        if not todo:
            return
        http_context._new_session_ctx()
        try:
            for agent_id, (agent, refusal) in todo.items():
                try:
                    complete = await self._render_agent(agent_id, agent, refusal)
                except Exception:  # one agent's odd voice must not keep the others silent
                    logger.exception("agent's speech not rendered", extra={"agent": agent_id})
                    complete = True
                if complete:
                    self._done[agent_id] = agent, refusal
        finally:
            await http_context._close_http_ctx()

    async def _render_agent(self, agent_id: str, agent: AgentConfig, refusal: str) -> bool:
        """Return whether there is nothing left to try."""
        try:
            stack = build_stack(agent, os.environ, self._presets)
        except ProviderError as error:
            logger.error("agent has no voice", extra={"agent": agent_id, "code": error.code})
            return True
        missing = 0
        files = self._cache.files(agent, stack.own_voice_label, [refusal])
        # before looking, so that no other process removes what is found here
        self._cache.mark_needed(files)
        try:
            for text in self._cache.missing(agent, stack.own_voice_label, [refusal]):
                missing += not await self._cache.render(stack, agent, text)
            if not missing:
                self._files[agent_id] = files
        finally:
            await stack.aclose()
        return not missing
