"""Any other vendor by name: the installed plugin `livekit.plugins.<vendor>`, with its own key variables."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from agent_worker.errors import ProviderError
from agent_worker.providers.vendor import LAYER_TITLES, LAYERS, BuildContext, Layer, Vendor, plugin_arguments

CONNECTION = re.compile(r"(^|_)(api_key|url|session|client|token|secret|host|endpoint|headers|proxy|credentials)(_|$)")
"""Arguments of a plugin that say where its requests go and with which key: never an agent's to set."""

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
            return factory(**_arguments(name, factory, context, layer))
        except (ValueError, TypeError) as error:
            raise ProviderError(
                "provider_refused",
                f"The plugin {name} cannot be used: {error}",
                remedy="Set the environment variables its documentation names.",
            ) from error

    return make


def _wanted(context: BuildContext, layer: Layer) -> dict[str, Any]:
    """Return what the agent's file says that plugins commonly take, by their usual argument names."""
    wishes = context.wishes
    by_layer: dict[Layer, dict[str, Any]] = {
        "stt": {
            "language": wishes.heard_language,
            "prompt": wishes.stt.prompt,
            "keyterms": list(wishes.stt.keywords) or None,
            "smart_format": wishes.stt.smart_format,
            "filler_words": wishes.stt.filler_words,
            "profanity_filter": wishes.stt.profanity_filter,
            "enable_diarization": wishes.stt.diarization,
            "word_timestamps": wishes.stt.word_timestamps,
        },
        "llm": {
            "temperature": wishes.llm.temperature,
            "max_completion_tokens": wishes.llm.max_tokens,
        },
        "tts": {
            "language": wishes.language,
            "voice": wishes.voice,
            "speed": wishes.tts.speed,
        },
    }
    wanted = {"model": context.model, **by_layer[layer]}
    return {key: value for key, value in wanted.items() if value is not None}


def _arguments(name: str, factory: Callable[..., Any], context: BuildContext, layer: Layer) -> dict[str, Any]:
    taken = set(inspect.signature(factory).parameters)
    given = {"stt": context.wishes.stt.provider_options, "tts": context.wishes.tts.provider_options}.get(layer, {})
    wanted = {key: value for key, value in _wanted(context, layer).items() if key in taken}
    return wanted | plugin_arguments(name, given, (key for key in taken if not CONNECTION.search(key)))
