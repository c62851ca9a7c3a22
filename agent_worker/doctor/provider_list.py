"""Which providers the agents can be served by: each once, with the agents that depend on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Presets
from agent_worker.errors import ProviderError
from agent_worker.providers.registry import Candidate, look_up
from agent_worker.providers.vendor import LAYERS, BuildContext, Layer, Wishes


@dataclass
class ListedProvider:
    """One provider as some agents use it: vendor, model, voice and options.

    Attributes:
        agents: names of the agents it serves.
        backup: whether it only takes over where another fails.
    """

    layer: Layer
    candidate: Candidate
    wishes: Wishes
    agents: list[str]
    backup: bool

    @property
    def label(self) -> str:
        """`vendor:model`."""
        return str(self.candidate.label)

    def build(self, env: Mapping[str, str]) -> Any:
        """Build the provider object.

        Raises:
            ProviderError: the plugin refuses its options, or lacks something.
        """
        vendor = self.candidate.vendor
        make = {"stt": vendor.make_stt, "llm": vendor.make_llm, "tts": vendor.make_tts}[self.layer]
        assert make is not None, "a candidate serves its layer"
        try:
            return make(BuildContext(self.wishes, self.candidate.label.model, env))
        except (ValueError, TypeError) as error:  # a plugin's word on an option it does not take
            raise ProviderError(
                "provider_refused",
                f"{vendor.name} cannot be used: {error}",
                remedy="Correct the options of the agent, and what the plugin's documentation asks for.",
            ) from error


@dataclass(frozen=True)
class Listing:
    """All providers in use.

    Attributes:
        unusable: entries that an agent lists besides usable ones and that cannot be used, one sentence each.
    """

    providers: tuple[ListedProvider, ...]
    unusable: tuple[ProviderError, ...]

    def of(self, layer: Layer) -> list[ListedProvider]:
        """Return the providers of a layer."""
        return [provider for provider in self.providers if provider.layer == layer]

    def first_recogniser(self, agent: str) -> ListedProvider | None:
        """Return what an agent hears with."""
        own = [provider for provider in self.of("stt") if agent in provider.agents]
        return next((provider for provider in own if not provider.backup), own[0] if own else None)


def list_providers(agents: Iterable[AgentConfig], env: Mapping[str, str], presets: Presets) -> Listing:
    """Return every provider that serves an agent, or would take over; a layer nobody can serve is not in it."""
    found: dict[tuple[Any, ...], ListedProvider] = {}
    unusable: dict[str, ProviderError] = {}
    for agent in agents:
        wishes = Wishes.of(agent)
        for layer in LAYERS:
            choice = look_up(agent, layer, env, presets)
            for index, candidate in enumerate(choice.candidates):
                key = (layer, str(candidate.label), *_options(wishes, layer))
                known = found.setdefault(key, ListedProvider(layer, candidate, wishes, [], backup=True))
                known.agents.append(agent.name)
                known.backup = known.backup and index > 0
            if choice.candidates:
                unusable.update({problem.message: problem for problem in choice.problems})
    return Listing(tuple(found.values()), tuple(unusable.values()))


def _options(wishes: Wishes, layer: Layer) -> tuple[str, ...]:
    """Return what of an agent a provider of this layer is built from, as text."""
    if layer == "stt":
        return wishes.heard_language, wishes.stt.model_dump_json(), str(wishes.recogniser_ends_turn)
    if layer == "llm":
        return (wishes.llm.model_dump_json(),)
    return wishes.language, wishes.voice or "", wishes.tts.model_dump_json()
