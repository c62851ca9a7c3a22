"""The providers of one layer of a call, in order: the next one serves when one fails, and it is known who serves.

With one provider nothing stands between it and the session. With several the library's own adapter does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from agent_worker.providers.vendor import Layer, ProviderLabel

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts, vad

P = TypeVar("P")

ATTEMPT_SECONDS = 5.0
"""How long one model may be silent in the middle of a reply; for its first word it has less (`call.failover`)."""

CONNECT_SECONDS = 2.0
"""How long a recogniser may take to connect, twice, before the next one is asked."""

VOICE_SAMPLE_RATE = 16_000
"""Hz all voices of a chain are brought to; what the line carries."""


@dataclass(frozen=True)
class Link(Generic[P]):
    """One provider of a chain."""

    label: ProviderLabel
    provider: P


@dataclass(frozen=True)
class Failover:
    """A provider has failed, or serves again.

    Attributes:
        usable: whether `changed` serves again.
        serving: who serves from now on.
    """

    layer: Layer
    changed: ProviderLabel
    usable: bool
    serving: ProviderLabel


class Chain(Generic[P]):
    """The providers of one layer.

    Args:
        links: in order of preference, at least one.
        adapter: the library's fallback adapter around them where they are several.

    Attributes:
        given_up: set when a provider is given up, and replaced by a new one: who is listening to it begins again.
    """

    def __init__(self, layer: Layer, links: Sequence[Link[P]], adapter: Any = None) -> None:
        self.layer = layer
        self.links = tuple(links)
        self._adapter = adapter
        self._slow: set[int] = set()
        self._told: list[Callable[[Failover], None]] = []
        self.given_up = asyncio.Event()
        if adapter is not None:
            adapter.on(f"{layer}_availability_changed", self._availability_changed)

    @property
    def whole(self) -> P:
        """What the session is given."""
        return cast("P", self._adapter) if self._adapter is not None else self.links[0].provider

    @property
    def fails_over(self) -> bool:
        """Whether there is anybody to take over."""
        return self._adapter is not None

    @property
    def serving(self) -> Link[P]:
        """Who has served last; the first one before anybody has."""
        return self.links[self._index(self._adapter._active_instance)] if self._adapter is not None else self.links[0]

    @property
    def next(self) -> Link[P]:
        """Who is asked first next time."""
        return self.links[self._index(self._adapter._next_instance())] if self._adapter is not None else self.links[0]

    @property
    def spare(self) -> bool:
        """Whether somebody other than the next one could serve as well."""
        return self._adapter is not None and sum(status.available for status in self._adapter._status) > 1

    def label_of(self, provider: str, model: str) -> ProviderLabel:
        """Return the label of the link whose provider calls itself so; that of who serves where none does."""
        for link in self.links:
            if (getattr(link.provider, "provider", ""), getattr(link.provider, "model", "")) == (provider, model):
                return link.label
        return self.serving.label

    def watch(self, told: Callable[[Failover], None]) -> None:
        """Have every failure and recovery told."""
        self._told.append(told)

    def give_up(self, link: Link[P]) -> bool:
        """Ask this provider no more on this call, because it says nothing; returns whether somebody takes over.

        Nothing happens where it has failed by itself meanwhile, or is the last one.
        """
        if not self.spare or self.next is not link:
            return False
        index = self.links.index(link)
        self._slow.add(index)
        self._adapter._status[index].available = False
        self.given_up.set()
        self.given_up = asyncio.Event()
        self._tell(index, usable=False)
        return True

    async def aclose(self) -> None:
        """Close all of them."""
        if self._adapter is not None:
            await self._adapter.aclose()
            for status in self._adapter._status:
                # the adapter for models leaves its probes running
                if (probe := getattr(status, "recovering_task", None)) is not None:
                    probe.cancel()
        for link in self.links:
            await cast("Any", link.provider).aclose()

    def _index(self, instance: object) -> int:
        instances: list[object] = getattr(self._adapter, f"_{self.layer}_instances")
        return instances.index(instance)

    def _availability_changed(self, event: Any) -> None:
        index = self._index(getattr(event, self.layer))
        if event.available and index in self._slow:
            # a probe may take its time, a caller does not: who was too slow once is not tried again on this call
            self._adapter._status[index].available = False
            return
        self._tell(index, usable=event.available)

    def _tell(self, index: int, *, usable: bool) -> None:
        change = Failover(self.layer, self.links[index].label, usable, self.next.label)
        for told in self._told:
            told(change)


def stt_chain(links: Sequence[Link[stt.STT[Any]]], detector: vad.VAD) -> Chain[stt.STT[Any]]:
    """Return recognisers in order; one that takes whole utterances is given them by the voice detector."""
    if len(links) == 1:
        return Chain("stt", links)
    from livekit.agents import stt

    adapter = stt.FallbackAdapter(
        [link.provider for link in links], vad=detector, attempt_timeout=CONNECT_SECONDS, max_retry_per_stt=1
    )
    return Chain("stt", links, adapter)


def llm_chain(links: Sequence[Link[llm.LLM[Any]]]) -> Chain[llm.LLM[Any]]:
    """Return models in order; who has taken over serves until it fails itself."""
    if len(links) == 1:
        return Chain("llm", links)
    from livekit.agents import llm

    # sticky: otherwise every turn asks the failed model too, to see whether it is back
    adapter = llm.FallbackAdapter(
        [link.provider for link in links], attempt_timeout=ATTEMPT_SECONDS, max_retry_per_llm=0, sticky=True
    )
    return Chain("llm", links, adapter)


def tts_chain(links: Sequence[Link[tts.TTS[Any]]]) -> Chain[tts.TTS[Any]]:
    """Return voices in order, all at the line's rate; the first one speaks again once it can."""
    if len(links) == 1:
        return Chain("tts", links)
    from livekit.agents import tts

    voices = [link.provider for link in links]
    if any(voice.capabilities.streaming for voice in voices):
        # one that takes whole sentences would cost the others their word timings
        voices = [voice if voice.capabilities.streaming else tts.StreamAdapter(tts=voice) for voice in voices]
    adapter = tts.FallbackAdapter(voices, max_retry_per_tts=0, sample_rate=VOICE_SAMPLE_RATE)
    return Chain("tts", links, adapter)
