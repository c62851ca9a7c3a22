"""OpenAI, and by name every server that speaks its chat completions, transcription and speech endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agent_worker.errors import ProviderError
from agent_worker.providers.chat_completions import ChatCompletions
from agent_worker.providers.vendor import (
    LAYERS,
    BuildContext,
    Layer,
    ProviderLabel,
    Vendor,
    base_url_of,
    plugin_arguments,
)

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

NO_KEY = "unused"
"""Sent where no key is set: the client refuses an empty one."""

STT_OPTIONS = ("noise_reduction_type", "temperature", "turn_detection")
TTS_OPTIONS = ("instructions",)
"""What `providerOptions` may set, by the plugin's names."""

TAKES_KEYWORDS = ("gpt-transcribe", "gpt-live-transcribe")
LLM_MODEL = "gpt-4.1-mini"
STT_MODEL = "gpt-4o-mini-transcribe"
TTS_MODEL = "gpt-4o-mini-tts"


def _connection(context: BuildContext, name: str) -> tuple[dict[str, Any], bool]:
    """Return key and address for a client, and whether the server is somebody else's."""
    url = base_url_of(context.env, _url_variable(name))
    key = context.env.get(_key_variable(name)) or NO_KEY
    return ({"api_key": key, "base_url": url}, True) if url else ({"api_key": key}, False)


def make_llm(name: str, context: BuildContext) -> llm.LLM[Any]:
    """Build the model client for one call, over chat completions."""
    from livekit.plugins import openai

    connection, compatible = _connection(context, name)
    wanted = context.wishes.llm
    options: dict[str, Any] = {}
    if wanted.temperature is not None:
        options["temperature"] = wanted.temperature
    if wanted.max_tokens is not None:
        if compatible:  # the older name is the one every compatible server knows
            options["extra_body"] = {"max_tokens": wanted.max_tokens}
        else:
            options["max_completion_tokens"] = wanted.max_tokens
    return openai.LLM(
        model=context.model or LLM_MODEL,
        _strict_tool_schema=not compatible,
        **connection,
        **options,
    )


def make_structured(name: str, context: BuildContext) -> ChatCompletions:
    """Build the model to ask outside of calls."""
    url = base_url_of(context.env, _url_variable(name))
    key = context.env.get(_key_variable(name)) or NO_KEY
    return ChatCompletions(ProviderLabel(name, context.model or LLM_MODEL), key, url)


def make_stt(name: str, context: BuildContext) -> stt.STT[Any]:
    """Build the recogniser for one call; a compatible server transcribes whole utterances."""
    from livekit.plugins import openai

    connection, compatible = _connection(context, name)
    wanted = context.wishes.stt
    model = context.model or STT_MODEL
    options = plugin_arguments(name, wanted.provider_options, STT_OPTIONS)
    if wanted.prompt:
        options["prompt"] = wanted.prompt
    if wanted.keywords and model.startswith(TAKES_KEYWORDS):
        options["keywords"] = list(wanted.keywords)
    return openai.STT(
        model=model,
        language=context.wishes.heard_language.split("-")[0],
        use_realtime=not compatible,
        **connection,
        **options,
    )


def make_tts(name: str, context: BuildContext) -> tts.TTS[Any]:
    """Build the voice for one call; it speaks the language of its text."""
    from livekit.plugins import openai

    connection, compatible = _connection(context, name)
    wanted = context.wishes.tts
    return openai.TTS(
        model=context.model or TTS_MODEL,
        voice=context.wishes.voice or "ash",
        speed=wanted.speed or 1.0,
        # raw PCM is taken as 24 kHz whatever the server sends; a WAV says its own rate
        response_format="wav" if compatible else "pcm",
        **connection,
        **plugin_arguments(name, wanted.provider_options, TTS_OPTIONS),
    )


def compatible_vendor(name: str, env: Mapping[str, str]) -> Vendor | None:
    """Return the OpenAI-compatible server of this name, None where the environment gives it no address.

    `groq:some-model` is such a server with its address in `GROQ_BASE_URL` and its key, if it needs one, in
    `GROQ_API_KEY`: several of them can serve one agent, one after the other.
    """
    if base_url_of(env, _url_variable(name)) is None:
        return None

    def model_problem(layer: Layer, model: str | None, language: str) -> ProviderError | None:
        if model:
            return None
        return ProviderError(
            "provider_model_missing", f"{name} is given no model.", remedy=f"Name one, as in `{name}:some-model`."
        )

    return _vendor(name, dict.fromkeys(LAYERS), model_problem)


def _vendor(
    name: str,
    default_models: Mapping[Layer, str | None],
    model_problem: Callable[[Layer, str | None, str], ProviderError | None] | None = None,
) -> Vendor:
    return Vendor(
        name=name,
        module="livekit.plugins.openai",
        package="livekit-plugins-openai",
        default_models=default_models,
        make_stt=partial(make_stt, name),
        make_llm=partial(make_llm, name),
        make_tts=partial(make_tts, name),
        make_structured=partial(make_structured, name),
        key=_key_variable(name),
        base_url=_url_variable(name),
        keyless=True,
        model_problem=model_problem,
    )


def _key_variable(name: str) -> str:
    return f"{name.upper().replace('-', '_')}_API_KEY"


def _url_variable(name: str) -> str:
    return f"{name.upper().replace('-', '_')}_BASE_URL"


VENDOR = _vendor("openai", {"llm": LLM_MODEL, "stt": STT_MODEL, "tts": TTS_MODEL})
