"""From an agent's `vendor` and `vendor:model` entries to the provider objects of one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from agent_worker.domain.agent import AgentConfig
from agent_worker.errors import ProviderError
from agent_worker.providers import cartesia, deepgram, openai
from agent_worker.providers.embedded import vendor as embedded
from agent_worker.providers.other import other_vendor
from agent_worker.providers.silero import make_vad, vad_problem
from agent_worker.providers.vendor import (
    LAYER_TITLES,
    LAYERS,
    BuildContext,
    Layer,
    ProviderLabel,
    Vendor,
    is_importable,
)

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts, vad

VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor for vendor in (deepgram.VENDOR, openai.VENDOR, cartesia.VENDOR, embedded.VENDOR)
}
DEFAULT_ENTRIES: Mapping[Layer, str] = {"stt": "deepgram", "llm": "openai", "tts": "cartesia"}
"""What serves a layer for which the agent's file allows nothing in particular."""


@dataclass(frozen=True)
class Candidate:
    """One entry of a layer's list that can be used here."""

    vendor: Vendor
    label: ProviderLabel


@dataclass(frozen=True)
class Stack:
    """The providers of one call."""

    stt: stt.STT[Any]
    llm: llm.LLM[Any]
    tts: tts.TTS[Any]
    vad: vad.VAD | None
    stt_label: ProviderLabel
    llm_label: ProviderLabel
    tts_label: ProviderLabel

    def prewarm(self) -> None:
        """Open the connections that can be opened before anybody speaks; returns at once."""
        self.llm.prewarm()
        self.tts.prewarm()
        self.stt.prewarm()

    async def aclose(self) -> None:
        """Close all of them."""
        await self.stt.aclose()
        await self.llm.aclose()
        await self.tts.aclose()


def choose(agent: AgentConfig, layer: Layer, env: Mapping[str, str]) -> list[Candidate]:
    """Return the usable entries of the layer's list, in the order of the list; the first one serves.

    Raises:
        ProviderError: none can be used; the message names each and what it lacks.
    """
    entries = getattr(agent.stack_preferences.allowed_providers, layer) or [DEFAULT_ENTRIES[layer]]
    usable: list[Candidate] = []
    problems: list[ProviderError] = []
    for entry in entries:
        try:
            vendor, model = _parse(entry)
        except ProviderError as error:
            problems.append(error)
            continue
        model = model or _model_option(agent, layer) or vendor.default_models.get(layer)
        if problem := _problem(vendor, layer, model, env):
            problems.append(problem)
            continue
        usable.append(Candidate(vendor, ProviderLabel(vendor.name, model)))
    if not usable:
        raise _none_usable(layer, problems)
    return usable


def check_stack(agent: AgentConfig, env: Mapping[str, str]) -> list[ProviderError]:
    """Return what keeps `build_stack` from working, without building anything."""
    problems = []
    for layer in LAYERS:
        try:
            choose(agent, layer, env)
        except ProviderError as error:
            problems.append(error)
    if problem := vad_problem(env):
        problems.append(problem)
    return problems


def build_stack(agent: AgentConfig, env: Mapping[str, str]) -> Stack:
    """Build the providers of one call.

    Raises:
        ProviderError: a layer has no usable provider; the remedy says what to set.
    """
    chosen = {layer: choose(agent, layer, env)[0] for layer in LAYERS}
    contexts = {layer: BuildContext(agent, candidate.label.model, env) for layer, candidate in chosen.items()}
    make_stt, make_llm, make_tts = (
        chosen["stt"].vendor.make_stt,
        chosen["llm"].vendor.make_llm,
        chosen["tts"].vendor.make_tts,
    )
    assert make_stt is not None
    assert make_llm is not None
    assert make_tts is not None
    recogniser = make_stt(contexts["stt"])
    model = make_llm(contexts["llm"])
    voice = make_tts(contexts["tts"])
    return Stack(
        stt=recogniser,
        llm=model,
        tts=voice,
        vad=make_vad(env),
        stt_label=_exact(chosen["stt"].label, recogniser.model),
        llm_label=_exact(chosen["llm"].label, model.model),
        tts_label=_exact(chosen["tts"].label, voice.model),
    )


def build_llm(agent: AgentConfig, env: Mapping[str, str]) -> llm.LLM[Any]:
    """Build the language model alone, for a conversation without speech.

    Raises:
        ProviderError: none can be used.
    """
    candidate = choose(agent, "llm", env)[0]
    assert candidate.vendor.make_llm is not None
    return candidate.vendor.make_llm(BuildContext(agent, candidate.label.model, env))


def preload_modules() -> list[str]:
    """Return the installed modules a fork server imports once for all calls."""
    modules = ["livekit.agents.inference", *(vendor.module for vendor in VENDORS.values())]
    return [module for module in modules if module.startswith("livekit.") and is_importable(module)]


def _exact(label: ProviderLabel, model: str) -> ProviderLabel:
    """Return the label with the model the provider says it uses, where it says one."""
    return label if model in ("", "unknown") else replace(label, model=model)


def _parse(entry: str) -> tuple[Vendor, str | None]:
    name, _, model = entry.strip().partition(":")
    return VENDORS.get(name) or other_vendor(name), model or None


def _model_option(agent: AgentConfig, layer: Layer) -> str | None:
    return {
        "stt": agent.stt_options.model,
        "llm": agent.llm_options.model,
        "tts": agent.tts_options.model,
    }[layer]


def _problem(vendor: Vendor, layer: Layer, model: str | None, env: Mapping[str, str]) -> ProviderError | None:
    problem = vendor.problem(layer, model, env)
    if problem is not None and problem.code == "provider_not_installed" and vendor.name not in VENDORS:
        near = get_close_matches(vendor.name, VENDORS, n=1)
        known = f"Did you mean {near[0]}? " if near else f"Known without a plugin: {', '.join(VENDORS)}. "
        return ProviderError(
            "provider_unknown",
            f"There is no provider {vendor.name!r} here.",
            remedy=f"{known}Any other name needs its plugin: pip install '{vendor.package}'.",
        )
    return problem


def _none_usable(layer: Layer, problems: list[ProviderError]) -> ProviderError:
    causes = " ".join(problem.message for problem in problems)
    remedies = " Or: ".join(dict.fromkeys(problem.remedy for problem in problems))
    return ProviderError(problems[0].code, f"No {LAYER_TITLES[layer]} can be used: {causes}", remedy=remedies)
