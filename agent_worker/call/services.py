"""What every call of a process shares: settings, the control plane, tools, rendered speech."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from agent_worker.call.speech_cache import SpeechCache
from agent_worker.control.base import ControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import Stack, build_stack
from agent_worker.settings import Settings
from agent_worker.toolbox.loader import LoadedTool

MAX_READY = 8
"""Agents whose providers are built ahead; with more, the others' calls ring some 30 ms longer."""


@dataclass(frozen=True)
class CallServices:
    """Made once per process, before a call is offered.

    Attributes:
        env: the environment providers take keys and base URLs from.
        worker_id: names this worker in leases and on call rows.
        ready: providers built while the process waits for its call, by agent; a process takes one call, so each
            is used once at most.
    """

    settings: Settings
    control: ControlPlane
    tools: Mapping[str, LoadedTool]
    speech: SpeechCache
    env: Mapping[str, str]
    worker_id: str
    ready: dict[str, tuple[AgentConfig, Stack]] = field(default_factory=dict)

    def build_ahead(self, agents: Iterable[AgentConfig]) -> None:
        """Build the providers of the agents most likely to be called; clients take their time to make."""
        for agent in islice(agents, MAX_READY):
            with contextlib.suppress(ProviderError):
                self.ready[agent.name] = (agent, build_stack(agent, self.env))

    def stack_for(self, agent: AgentConfig) -> Stack:
        """Return the providers of one call.

        Raises:
            ProviderError: a layer has no usable provider.
        """
        ready = self.ready.pop(agent.name, None)
        return ready[1] if ready and ready[0] == agent else build_stack(agent, self.env)
