"""What a vendor is to the registry: the layers it serves, what it needs, how its objects are built."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import Purpose
from agent_worker.domain.speech import LlmOptions, SttOptions, TtsOptions
from agent_worker.errors import ProviderError

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

    from agent_worker.providers.structured import StructuredModel

logger = logging.getLogger("agent_worker.providers")

Layer = Literal["stt", "llm", "tts"]
LAYERS: tuple[Layer, ...] = ("stt", "llm", "tts")
LAYER_TITLES: Mapping[Layer, str] = {
    "stt": "speech recognition",
    "llm": "language model",
    "tts": "speech synthesis",
}


@dataclass(frozen=True)
class ProviderLabel:
    """Names a provider on the call row: `vendor` and the model in use, None where the vendor decides."""

    provider: str
    model: str | None

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}" if self.model else self.provider


@dataclass(frozen=True)
class Wishes:
    """All of an agent that its providers depend on: two agents with equal wishes can have each other's providers.

    Attributes:
        allowed: for each layer, the entries the agent names.
        language: BCP 47 tag of the call, `en` or `en-US`.
        recogniser_ends_turn: whether the recogniser decides when the caller has finished.
    """

    allowed: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    purpose: Purpose
    language: str
    voice: str | None
    stt: SttOptions
    llm: LlmOptions
    tts: TtsOptions
    recogniser_ends_turn: bool

    @classmethod
    def of(cls, agent: AgentConfig) -> Wishes:
        """Return the wishes of an agent."""
        allowed = agent.stack_preferences.allowed_providers
        return cls(
            allowed=(tuple(allowed.stt), tuple(allowed.llm), tuple(allowed.tts)),
            purpose=agent.intent.optimize_for,
            language=agent.intent.language,
            voice=agent.voice,
            stt=agent.stt_options,
            llm=agent.llm_options,
            tts=agent.tts_options,
            recogniser_ends_turn=agent.turn_handling.turn_detection == "stt",
        )

    @property
    def heard_language(self) -> str:
        """BCP 47 tag the recogniser listens for."""
        return self.stt.language or self.language

    def entries(self, layer: Layer) -> tuple[str, ...]:
        """Return the entries the agent names for a layer."""
        return self.allowed[LAYERS.index(layer)]

    def model(self, layer: Layer) -> str | None:
        """Return the model the agent names for whichever vendor serves the layer."""
        return {"stt": self.stt.model, "llm": self.llm.model, "tts": self.tts.model}[layer]

    def language_of(self, layer: Layer) -> str:
        """Return the language of a layer."""
        return self.heard_language if layer == "stt" else self.language


@dataclass(frozen=True)
class BuildContext:
    """What a vendor builds from.

    Attributes:
        model: the model asked for, or the vendor's default.
        env: the environment; keys and base URLs come from here and from nowhere else.
    """

    wishes: Wishes
    model: str | None
    env: Mapping[str, str]


@dataclass(frozen=True)
class Vendor:
    """One vendor.

    Attributes:
        name: as written in an agent file.
        module: the module that must be importable for the vendor to be used.
        package: what to install where it is not.
        default_models: for each layer served, the model where none is asked for.
        key: environment variable of the API key, None where none is needed.
        base_url: environment variable of another server's address.
        keyless: whether that other server may be used without a key.
        model_problem: why a model cannot serve a layer in a language, None where it can.
        make_structured: a model to ask outside of calls, None where only the plugin can ask it.
    """

    name: str
    module: str
    package: str
    default_models: Mapping[Layer, str | None]
    make_stt: Callable[[BuildContext], stt.STT[Any]] | None = None
    make_llm: Callable[[BuildContext], llm.LLM[Any]] | None = None
    make_tts: Callable[[BuildContext], tts.TTS[Any]] | None = None
    key: str | None = None
    base_url: str | None = None
    keyless: bool = False
    needs_module: frozenset[Layer] = field(default_factory=lambda: frozenset(LAYERS))
    model_problem: Callable[[Layer, str | None, str], ProviderError | None] | None = None
    make_structured: Callable[[BuildContext], StructuredModel] | None = None

    def problem(
        self, layer: Layer, model: str | None, env: Mapping[str, str], *, language: str = "en"
    ) -> ProviderError | None:
        """Return why this vendor cannot serve the layer with this model and language here, or None where it can."""
        if layer not in self.default_models:
            return ProviderError(
                "provider_layer_unknown",
                f"{self.name} does not do {LAYER_TITLES[layer]}.",
                remedy=f"Take it out of allowedProviders.{layer}.",
            )
        if layer in self.needs_module and not is_importable(self.module):
            return ProviderError(
                "provider_not_installed",
                f"{self.name} needs the package {self.package}, which is not installed.",
                remedy=f"Run: pip install '{self.package}'.",
            )
        without_key = self.keyless and self.base_url is not None and bool(env.get(self.base_url))
        if self.key and not env.get(self.key) and not without_key:
            also = f", or {self.base_url} to a server that needs no key" if self.keyless else ""
            return ProviderError(
                "provider_key_missing",
                f"{self.name} has no API key.",
                remedy=f"Set {self.key} in the environment{also}.",
            )
        return self.model_problem(layer, model, language) if self.model_problem else None


def plugin_arguments(vendor: str, given: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the `providerOptions` a plugin knows, by the plugin's own names; what it does not know is logged.

    Args:
        given: keys in camelCase or in the plugin's spelling.
        known: argument names of the plugin.
    """
    arguments = {_snake(key): value for key, value in given.items()}
    names = set(known)
    if unknown := sorted(set(arguments) - names):
        logger.warning("provider options not used", extra={"vendor": vendor, "options": unknown})
    return {name: value for name, value in arguments.items() if name in names}


def _snake(key: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower()


@cache
def is_importable(module: str) -> bool:
    """Return whether the module can be imported, without importing it (its parents are)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def base_url_of(env: Mapping[str, str], variable: str) -> str | None:
    """Return the address in the variable without a trailing slash, None where it is unset or empty."""
    return env.get(variable, "").strip().rstrip("/") or None
