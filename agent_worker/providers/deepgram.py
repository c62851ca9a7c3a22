"""Deepgram speech recognition: nova models over the v1 endpoint, flux models over v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent_worker.errors import ProviderError
from agent_worker.providers.vendor import BuildContext, Layer, Vendor, base_url_of, plugin_arguments

if TYPE_CHECKING:
    from livekit.agents import stt

    from agent_worker.domain.speech import SttOptions

SAMPLE_RATE = 16_000
ENDPOINTING_MS = 25
"""Silence after which nova calls a segment final; whether the turn is over is decided on this side."""

ENDPOINTING_AS_TURN_MS = 300
"""The same where the recogniser decides the turn: a breath is no longer than this."""

FLUX_CHUNK_MS = 80
KEYWORD_BOOST = 1.5

_ANY_OPTIONS = ("mip_opt_out", "numerals", "redact", "tags")
NOVA_OPTIONS = (*_ANY_OPTIONS, "dictation", "endpointing_ms", "replace", "search", "utterance_end_ms", "vad_events")
FLUX_OPTIONS = (*_ANY_OPTIONS, "eager_eot_threshold", "eot_threshold", "eot_timeout_ms")
"""What `sttOptions.providerOptions` may set, by Deepgram's names."""


def listen_url(env: Mapping[str, str], version: str, scheme: str) -> str | None:
    """Return the listen endpoint below `DEEPGRAM_BASE_URL`, None where that is unset.

    The variable may hold the server's root or the whole path of either version.
    """
    base = base_url_of(env, "DEEPGRAM_BASE_URL")
    if base is None:
        return None
    for tail in ("/v1/listen", "/v2/listen", "/v1", "/v2"):
        base = base.removesuffix(tail)
    _, _, rest = base.rpartition("://")
    secure = "s" if base.startswith(("https://", "wss://")) or "://" not in base else ""
    return f"{scheme}{secure}://{rest}/{version}/listen"


def make_stt(context: BuildContext) -> stt.STT[Any]:
    """Build the recogniser for one call."""
    model = context.model or "nova-3"
    return _flux(context, model) if model.startswith("flux") else _nova(context, model)


def _flux(context: BuildContext, model: str) -> stt.STT[Any]:
    from livekit.plugins import deepgram

    wanted = context.wishes.stt
    options: dict[str, Any] = {"keyterm": list(wanted.keywords)} if wanted.keywords else {}
    if url := listen_url(context.env, "v2", "ws"):
        options["base_url"] = url
    if model == "flux-general-multi":
        options["language_hint"] = [context.wishes.heard_language.split("-")[0]]
    if wanted.profanity_filter is not None:
        options["profanity_filter"] = wanted.profanity_filter
    return deepgram.STTv2(
        model=model,
        api_key=context.env["DEEPGRAM_API_KEY"],
        sample_rate=SAMPLE_RATE,
        audio_chunk_duration_ms=FLUX_CHUNK_MS,
        **options,
        **plugin_arguments("deepgram", wanted.provider_options, FLUX_OPTIONS),
    )


def _nova(context: BuildContext, model: str) -> stt.STT[Any]:
    from livekit.plugins import deepgram

    wanted = context.wishes.stt
    options = {
        "endpointing_ms": ENDPOINTING_AS_TURN_MS if context.wishes.recogniser_ends_turn else ENDPOINTING_MS,
        **_formatting(wanted),
        **plugin_arguments("deepgram", wanted.provider_options, NOVA_OPTIONS),
    }
    if wanted.keywords and model.startswith("nova-3"):
        options["keyterm"] = list(wanted.keywords)
    elif wanted.keywords:
        options["keywords"] = [(word, KEYWORD_BOOST) for word in wanted.keywords]
    if url := listen_url(context.env, "v1", "http"):
        options["base_url"] = url
    return deepgram.STT(
        model=model,
        language=context.wishes.heard_language,
        api_key=context.env["DEEPGRAM_API_KEY"],
        sample_rate=SAMPLE_RATE,
        interim_results=True,
        punctuate=True,  # the end-of-turn decision reads it
        no_delay=True,
        **options,
    )


def _formatting(wanted: SttOptions) -> dict[str, Any]:
    given = {
        "smart_format": bool(wanted.smart_format),  # off unless asked for: formatting waits for more words
        "filler_words": wanted.filler_words,
        "profanity_filter": wanted.profanity_filter,
        "enable_diarization": wanted.diarization,
    }
    return {name: value for name, value in given.items() if value is not None}


def model_problem(layer: Layer, model: str | None, language: str) -> ProviderError | None:
    """Return why this model cannot be used for calls in this language, or None."""
    if model == "flux-general-en" and not language.startswith("en"):
        return ProviderError(
            "provider_language_unknown",
            f"deepgram:flux-general-en hears English only, and the call is in {language}.",
            remedy="Use deepgram:flux-general-multi or deepgram:nova-3.",
        )
    return None


VENDOR = Vendor(
    name="deepgram",
    module="livekit.plugins.deepgram",
    package="livekit-plugins-deepgram",
    default_models={"stt": "nova-3"},
    make_stt=make_stt,
    key="DEEPGRAM_API_KEY",
    base_url="DEEPGRAM_BASE_URL",
    model_problem=model_problem,
)
