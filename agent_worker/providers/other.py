"""Any other vendor by name: the installed plugin `livekit.plugins.<vendor>`, with its own key variables."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from agent_worker.errors import ProviderError
from agent_worker.providers.vendor import LAYER_TITLES, LAYERS, BuildContext, Layer, Vendor

NAME = re.compile(r"^[a-z][a-z0-9_-]{0,40}$")


def other_vendor(name: str) -> Vendor:
    """Return the vendor of this name, installed or not.

    Raises:
        ProviderError: no package can have this name.
    """
    if not NAME.match(name):
        raise ProviderError(
            "provider_unknown",
            f"{name!r} is no provider name.",
            remedy="Write `vendor` or `vendor:model`, in lower case, as in `deepgram:nova-3`.",
        )
    package = name.replace("_", "-")
    return Vendor(
        name=name,
        module=f"livekit.plugins.{name.replace('-', '_')}",
        package=f"livekit-plugins-{package}",
        default_models=dict.fromkeys(LAYERS),
        make_stt=_maker(name, "stt"),
        make_llm=_maker(name, "llm"),
        make_tts=_maker(name, "tts"),
    )


def _maker(name: str, layer: Layer) -> Callable[[BuildContext], Any]:
    def make(context: BuildContext) -> Any:
        module = importlib.import_module(f"livekit.plugins.{name.replace('-', '_')}")
        factory = getattr(module, layer.upper(), None)
        if factory is None:
            raise ProviderError(
                "provider_layer_unknown",
                f"The plugin {name} does not do {LAYER_TITLES[layer]}.",
                remedy=f"Take it out of allowedProviders.{layer}.",
            )
        try:
            return factory(**_accepted(factory, _wanted(context, layer)))
        except (ValueError, TypeError) as error:
            raise ProviderError(
                "provider_refused",
                f"The plugin {name} cannot be used: {error}",
                remedy="Set the environment variables its documentation names.",
            ) from error

    return make


def _wanted(context: BuildContext, layer: Layer) -> dict[str, Any]:
    """Return what the agent's file says that plugins commonly take, by their usual argument names."""
    agent = context.agent
    by_layer: dict[Layer, dict[str, Any]] = {
        "stt": {"language": context.language, "prompt": agent.stt_options.prompt},
        "llm": {
            "temperature": agent.llm_options.temperature,
            "max_completion_tokens": agent.llm_options.max_tokens,
        },
        "tts": {
            "language": agent.intent.language,
            "voice": agent.voice,
            "speed": agent.tts_options.speed,
            **agent.tts_options.provider_options,
        },
    }
    wanted = {"model": context.model, **by_layer[layer]}
    return {key: value for key, value in wanted.items() if value is not None}


def _accepted(factory: Callable[..., Any], wanted: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    return {key: value for key, value in wanted.items() if key in parameters}
