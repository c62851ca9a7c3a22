"""From an agent's `vendor` and `vendor:model` entries to the provider objects of one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Presets
from agent_worker.errors import ProviderError
from agent_worker.providers import cartesia, deepgram, openai
from agent_worker.providers.embedded import vendor as embedded
from agent_worker.providers.failover import Link, llm_chain, stt_chain, tts_chain
from agent_worker.providers.other import other_vendor
from agent_worker.providers.plugin_model import PluginModel
from agent_worker.providers.silero import make_vad, vad_problem
from agent_worker.providers.stack import Stack
from agent_worker.providers.structured import StructuredModel
from agent_worker.providers.vendor import (
    LAYER_TITLES,
    LAYERS,
    BuildContext,
    Layer,
    ProviderLabel,
    Vendor,
    Wishes,
    is_importable,
)

if TYPE_CHECKING:
    from livekit.agents import llm

__all__ = [
    "VENDORS",
    "Candidate",
    "Choice",
    "Stack",
    "build_llm",
    "build_stack",
    "build_structured",
    "check_stack",
    "choose",
    "look_up",
    "preload_modules",
]

VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor for vendor in (deepgram.VENDOR, openai.VENDOR, cartesia.VENDOR, embedded.VENDOR)
}


@dataclass(frozen=True)
class Candidate:
    """One entry of a layer's list that can be used here."""

    vendor: Vendor
    label: ProviderLabel


@dataclass(frozen=True)
class Choice:
    """Who can serve a layer.

    Attributes:
        candidates: in order; the first serves, the others take over when it fails. Empty where none can be used.
        source: who wrote the list: `agent`, `preset latency`, `preset latency, de` or `built in`.
        problems: why the entries that are not among the candidates cannot be used.
    """

    candidates: tuple[Candidate, ...]
    source: str
    problems: tuple[ProviderError, ...]


def look_up(agent: AgentConfig, layer: Layer, env: Mapping[str, str], presets: Presets) -> Choice:
    """Return who can serve the layer: the agent's own list, or where it has none the preset's."""
    wishes = Wishes.of(agent)
    entries, source = list(wishes.entries(layer)), "agent"
    if not entries:
        entries, source = presets.find(layer, wishes.purpose, wishes.language_of(layer))
    usable: list[Candidate] = []
    problems: list[ProviderError] = []
    for entry in dict.fromkeys(entries):
        try:
            vendor, model = _parse(entry, env)
        except ProviderError as error:
            problems.append(error)
            continue
        model = model or wishes.model(layer) or vendor.default_models.get(layer)
        if problem := _problem(vendor, layer, model, env, wishes.language_of(layer)):
            problems.append(problem)
            continue
        usable.append(Candidate(vendor, ProviderLabel(vendor.name, model)))
    return Choice(tuple(usable), source, tuple(problems))


def choose(agent: AgentConfig, layer: Layer, env: Mapping[str, str], presets: Presets) -> tuple[Candidate, ...]:
    """Return who serves the layer, then who takes over, in order.

    Raises:
        ProviderError: none can be used; the message names each and what it lacks.
    """
    choice = look_up(agent, layer, env, presets)
    if not choice.candidates:
        raise _none_usable(layer, choice)
    return choice.candidates


def check_stack(agent: AgentConfig, env: Mapping[str, str], presets: Presets) -> list[ProviderError]:
    """Return what keeps `build_stack` from working, without building anything."""
    problems = []
    for layer in LAYERS:
        try:
            choose(agent, layer, env, presets)
        except ProviderError as error:
            problems.append(error)
    if problem := vad_problem(env):
        problems.append(problem)
    return problems


def build_stack(agent: AgentConfig, env: Mapping[str, str], presets: Presets) -> Stack:
    """Build the providers of one call.

    Raises:
        ProviderError: a layer has no usable provider; the remedy says what to set.
    """
    detector = make_vad(env)
    return Stack(
        recognisers=stt_chain(_links(agent, "stt", env, presets), detector),
        models=llm_chain(_links(agent, "llm", env, presets)),
        voices=tts_chain(_links(agent, "tts", env, presets)),
        vad=detector,
    )


def build_llm(agent: AgentConfig, env: Mapping[str, str], presets: Presets) -> llm.LLM[Any]:
    """Build the language model alone, for a conversation without speech.

    Raises:
        ProviderError: none can be used.
    """
    model: llm.LLM[Any] = _link(Wishes.of(agent), choose(agent, "llm", env, presets)[0], "llm", env).provider
    return model


def build_structured(agent: AgentConfig, env: Mapping[str, str], presets: Presets) -> list[StructuredModel]:
    """Build the models to ask about a call once it is over, in order: those that could speak for the agent in it.

    Raises:
        ProviderError: none can be used.
    """
    wishes = Wishes.of(agent)
    return [_structured(wishes, candidate, env) for candidate in choose(agent, "llm", env, presets)]


def _structured(wishes: Wishes, candidate: Candidate, env: Mapping[str, str]) -> StructuredModel:
    make = candidate.vendor.make_structured
    if make is not None:
        return make(BuildContext(wishes, candidate.label.model, env))

    def client() -> llm.LLM[Any]:
        provider: llm.LLM[Any] = _link(wishes, candidate, "llm", env).provider
        return provider

    return PluginModel(candidate.label, client)


def _links(agent: AgentConfig, layer: Layer, env: Mapping[str, str], presets: Presets) -> list[Link[Any]]:
    """Build the candidates of a layer; one that takes over and cannot be built is left out."""
    links: list[Link[Any]] = []
    problems: list[ProviderError] = []
    for candidate in choose(agent, layer, env, presets):
        try:
            links.append(_link(Wishes.of(agent), candidate, layer, env))
        except ProviderError as error:
            problems.append(error)
    if not links:
        raise problems[0]
    return links


def _link(wishes: Wishes, candidate: Candidate, layer: Layer, env: Mapping[str, str]) -> Link[Any]:
    vendor = candidate.vendor
    makers = {"stt": vendor.make_stt, "llm": vendor.make_llm, "tts": vendor.make_tts}
    make: Callable[[BuildContext], Any] | None = makers[layer]
    assert make is not None
    try:
        provider = make(BuildContext(wishes, candidate.label.model, env))
    except ProviderError:
        raise
    except Exception as error:  # whatever a plugin meets, a job process stays ready and a caller hears a sentence
        # what it says of an option is of use; any other text may hold a key
        said = error if isinstance(error, ValueError | TypeError) else type(error).__name__
        raise ProviderError(
            "provider_refused",
            f"{vendor.name} cannot be used: {said}",
            remedy="Check the options of the agent, and what the plugin's documentation asks for.",
        ) from error
    return Link(_exact(candidate.label, provider.model), provider)


def preload_modules() -> list[str]:
    """Return the installed modules a fork server imports once for all calls."""
    modules = ["livekit.agents.inference", *(vendor.module for vendor in VENDORS.values())]
    return [module for module in modules if module.startswith("livekit.") and is_importable(module)]


def _exact(label: ProviderLabel, model: str) -> ProviderLabel:
    """Return the label with the model the provider says it uses, where it says one."""
    return label if model in ("", "unknown") else replace(label, model=model)


def _parse(entry: str, env: Mapping[str, str]) -> tuple[Vendor, str | None]:
    name, _, model = entry.strip().partition(":")
    if name in VENDORS:
        return VENDORS[name], model or None
    vendor = other_vendor(name)
    if not is_importable(vendor.module):
        vendor = openai.compatible_vendor(name, env) or vendor
    return vendor, model or None


def _problem(
    vendor: Vendor, layer: Layer, model: str | None, env: Mapping[str, str], language: str
) -> ProviderError | None:
    problem = vendor.problem(layer, model, env, language=language)
    if problem is not None and problem.code == "provider_not_installed" and vendor.name not in VENDORS:
        near = get_close_matches(vendor.name, VENDORS, n=1)
        known = f"Did you mean {near[0]}? " if near else f"Known without a plugin: {', '.join(VENDORS)}. "
        return ProviderError(
            "provider_unknown",
            f"There is no provider {vendor.name!r} here.",
            remedy=f"{known}Any other name needs its plugin: pip install '{vendor.package}'; or the address of an "
            f"OpenAI-compatible server in {vendor.name.upper().replace('-', '_')}_BASE_URL.",
        )
    return problem


def _none_usable(layer: Layer, choice: Choice) -> ProviderError:
    problems = choice.problems
    where = "" if choice.source == "agent" else f" ({choice.source})"
    causes = " ".join(problem.message for problem in problems)
    remedies = " Or: ".join(dict.fromkeys(problem.remedy for problem in problems))
    return ProviderError(problems[0].code, f"No {LAYER_TITLES[layer]} can be used{where}: {causes}", remedy=remedies)
