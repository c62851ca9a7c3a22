"""What every call of a process shares: settings, the control plane, tools, rendered speech."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from livekit import rtc

from agent_worker.call.gain import amplified
from agent_worker.call.speech_cache import SpeechCache
from agent_worker.call.transfer.leg import MakeLeg
from agent_worker.control.base import ControlPlane
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Presets
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import build_stack
from agent_worker.providers.stack import Stack
from agent_worker.providers.vendor import Wishes
from agent_worker.settings import Settings
from agent_worker.toolbox.loaded_tool import LoadedTool

MAX_READY = 8
"""Stacks of providers built ahead; with more, the other agents' calls ring some 30 ms longer."""


@dataclass(frozen=True)
class CallServices:
    """Made once per process, before a call is offered.

    Attributes:
        env: the environment providers take keys and base URLs from.
        presets: which providers serve an agent that names none.
        worker_id: names this worker in leases and on call rows.
        ready: providers built while the process waits for its call, and what they were built for; a process takes
            one call, so each is used once at most.
        make_leg: makes the leg to a person a caller is put through to; none = LiveKit's, on a line of LiveKit's.
    """

    settings: Settings
    control: ControlPlane
    tools: Mapping[str, LoadedTool]
    speech: SpeechCache
    env: Mapping[str, str]
    presets: Presets
    worker_id: str
    ready: list[tuple[Wishes, Stack]] = field(default_factory=list)
    make_leg: MakeLeg | None = None

    def build_ahead(self, agents: Iterable[AgentConfig]) -> None:
        """Build the providers of the agents most likely to be called; clients take their time to make."""
        for agent in agents:
            if len(self.ready) >= MAX_READY:
                return
            wishes = Wishes.of(agent)
            if not any(wishes == built_for for built_for, _ in self.ready):
                with contextlib.suppress(ProviderError):
                    self.ready.append((wishes, build_stack(agent, self.env, self.presets)))

    def stack_for(self, agent: AgentConfig) -> Stack:
        """Return the providers of one call: those built ahead for any agent with the same wishes, or new ones.

        Raises:
            ProviderError: a layer has no usable provider.
        """
        wishes = Wishes.of(agent)
        for index, (built_for, _) in enumerate(self.ready):
            if built_for == wishes:
                return self.ready.pop(index)[1]
        return build_stack(agent, self.env, self.presets)

    async def spoken(self, agent: AgentConfig, text: str, timeout: float) -> rtc.AudioFrame | None:
        """Return a sentence in the agent's voice, at its level: rendered before, else synthesised within the time.

        Args:
            timeout: s.

        Returns:
            None where there is no such voice, or it does not come in time.
        """
        try:
            stack = self.stack_for(agent)
        except ProviderError:
            return None
        try:
            audio = await self.speech.spoken(stack, agent, text, timeout)
        finally:
            await stack.aclose()
        return amplified(audio, agent.audio_output.gain_db) if audio is not None else None
