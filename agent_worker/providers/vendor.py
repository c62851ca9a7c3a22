"""What a vendor is to the registry: the layers it serves, what it needs, how its objects are built."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from agent_worker.errors import ProviderError

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

    from agent_worker.domain.agent import AgentConfig

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
class BuildContext:
    """What a vendor builds from.

    Attributes:
        model: the model asked for, or the vendor's default.
        env: the environment; keys and base URLs come from here and from nowhere else.
    """

    agent: AgentConfig
    model: str | None
    env: Mapping[str, str]

    @property
    def language(self) -> str:
        """BCP 47 tag the call is held in."""
        return self.agent.stt_options.language or self.agent.intent.language


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
    model_problem: Callable[[Layer, str | None], ProviderError | None] | None = None

    def problem(self, layer: Layer, model: str | None, env: Mapping[str, str]) -> ProviderError | None:
        """Return why this vendor cannot serve the layer with this model here, or None where it can."""
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
        return self.model_problem(layer, model) if self.model_problem else None


def is_importable(module: str) -> bool:
    """Return whether the module can be imported, without importing it (its parents are)."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def base_url_of(env: Mapping[str, str], variable: str) -> str | None:
    """Return the address in the variable without a trailing slash, None where it is unset or empty."""
    return env.get(variable, "").strip().rstrip("/") or None
