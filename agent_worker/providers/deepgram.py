"""Deepgram speech recognition: nova models over the v1 endpoint, flux models over v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent_worker.providers.vendor import BuildContext, Vendor, base_url_of

if TYPE_CHECKING:
    from livekit.agents import stt

SAMPLE_RATE = 16_000
ENDPOINTING_MS = 25
"""Silence after which nova calls a segment final; whether the turn is over is decided on this side."""

ENDPOINTING_AS_TURN_MS = 300
"""The same where the recogniser decides the turn: a breath is no longer than this."""

FLUX_CHUNK_MS = 80
KEYWORD_BOOST = 1.5


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
    from livekit.plugins import deepgram

    model = context.model or "nova-3"
    key = context.env["DEEPGRAM_API_KEY"]
    keywords = list(context.agent.stt_options.keywords)
    if model.startswith("flux"):
        options: dict[str, Any] = {"keyterm": keywords} if keywords else {}
        if url := listen_url(context.env, "v2", "ws"):
            options["base_url"] = url
        if model == "flux-general-multi":
            options["language_hint"] = [context.language.split("-")[0]]
        return deepgram.STTv2(
            model=model,
            api_key=key,
            sample_rate=SAMPLE_RATE,
            audio_chunk_duration_ms=FLUX_CHUNK_MS,
            **options,
        )
    options = {}
    if keywords and model.startswith("nova-3"):
        options["keyterm"] = keywords
    elif keywords:
        options["keywords"] = [(word, KEYWORD_BOOST) for word in keywords]
    if url := listen_url(context.env, "v1", "http"):
        options["base_url"] = url
    by_recogniser = context.agent.turn_handling.turn_detection == "stt"
    return deepgram.STT(
        model=model,
        language=context.language,
        api_key=key,
        sample_rate=SAMPLE_RATE,
        interim_results=True,
        punctuate=True,  # the end-of-turn decision reads it
        smart_format=False,  # formatting waits for more words
        no_delay=True,
        endpointing_ms=ENDPOINTING_AS_TURN_MS if by_recogniser else ENDPOINTING_MS,
        **options,
    )


VENDOR = Vendor(
    name="deepgram",
    module="livekit.plugins.deepgram",
    package="livekit-plugins-deepgram",
    default_models={"stt": "nova-3"},
    make_stt=make_stt,
    key="DEEPGRAM_API_KEY",
    base_url="DEEPGRAM_BASE_URL",
)
