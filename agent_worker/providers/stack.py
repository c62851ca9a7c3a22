"""The providers of one call: recognisers, models and voices, each in order, and the voice detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent_worker.providers.failover import Chain, Failover
from agent_worker.providers.vendor import Layer, ProviderLabel

if TYPE_CHECKING:
    from livekit.agents.llm import LLM
    from livekit.agents.stt import STT
    from livekit.agents.tts import TTS
    from livekit.agents.vad import VAD


@dataclass(frozen=True)
class Stack:
    """The providers of one call; a label names who serves at this moment."""

    recognisers: Chain[STT[Any]]
    models: Chain[LLM[Any]]
    voices: Chain[TTS[Any]]
    vad: VAD

    @property
    def stt(self) -> STT[Any]:
        """The recogniser, for the session."""
        return self.recognisers.whole

    @property
    def llm(self) -> LLM[Any]:
        """The model, for the session."""
        return self.models.whole

    @property
    def tts(self) -> TTS[Any]:
        """The voice, for the session."""
        return self.voices.whole

    @property
    def stt_label(self) -> ProviderLabel:
        """Who hears."""
        return self.recognisers.serving.label

    @property
    def llm_label(self) -> ProviderLabel:
        """Who thinks."""
        return self.models.serving.label

    @property
    def tts_label(self) -> ProviderLabel:
        """Who speaks."""
        return self.voices.serving.label

    @property
    def own_voice(self) -> TTS[Any]:
        """The agent's own voice, which rendered sentences are in; never one that stands in for it."""
        return self.voices.links[0].provider

    @property
    def own_voice_label(self) -> str:
        """Names the agent's own voice in the cache of rendered sentences."""
        return str(self.voices.links[0].label)

    def chain(self, layer: Layer) -> Chain[Any]:
        """Return the providers of one layer."""
        chains: dict[Layer, Chain[Any]] = {"stt": self.recognisers, "llm": self.models, "tts": self.voices}
        return chains[layer]

    def watch(self, told: Callable[[Failover], None]) -> None:
        """Have every failure and recovery of a provider told, where there is another to take over."""
        for chain in (self.recognisers, self.models, self.voices):
            chain.watch(told)

    def give_up(self, layer: Layer) -> bool:
        """Ask whoever serves this layer no more on this call; returns whether somebody takes over."""
        chain = self.chain(layer)
        return chain.give_up(chain.next)

    def prewarm(self) -> None:
        """Open the connections that can be opened before anybody speaks; returns at once."""
        self.llm.prewarm()
        self.tts.prewarm()
        self.stt.prewarm()

    async def aclose(self) -> None:
        """Close all of them."""
        await self.recognisers.aclose()
        await self.models.aclose()
        await self.voices.aclose()
