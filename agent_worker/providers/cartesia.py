"""Cartesia speech synthesis over its pooled WebSocket, handed the first clause of a reply at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_worker.providers.vendor import BuildContext, Vendor, base_url_of, plugin_arguments

if TYPE_CHECKING:
    from livekit.agents import tts

SAMPLE_RATE = 16_000
"""Hz; what the line carries, so that nothing is resampled in between."""

SPEEDS = (0.6, 2.0)
ALIGNED_LANGUAGES = frozenset({"en", "de", "es", "fr"})
PROVIDER_OPTIONS = ("emotion", "volume", "pronunciation_dict_id")


def make_tts(context: BuildContext) -> tts.TTS[Any]:
    """Build the voice for one call."""
    from livekit.plugins import cartesia

    from agent_worker.providers.first_clause import FirstClauseTokenizer

    wanted = context.wishes.tts
    language = context.wishes.language.split("-")[0]
    options: dict[str, Any] = plugin_arguments("cartesia", wanted.provider_options, PROVIDER_OPTIONS)
    if context.wishes.voice:
        options["voice"] = context.wishes.voice
    if wanted.speed is not None:
        options["speed"] = min(max(wanted.speed, SPEEDS[0]), SPEEDS[1])
    if url := base_url_of(context.env, "CARTESIA_BASE_URL"):
        options["base_url"] = url
    return cartesia.TTS(
        api_key=context.env["CARTESIA_API_KEY"],
        model=context.model or "sonic-3",
        language=language,
        sample_rate=SAMPLE_RATE,
        word_timestamps=language in ALIGNED_LANGUAGES,
        tokenizer=FirstClauseTokenizer(language),
        **options,
    )


VENDOR = Vendor(
    name="cartesia",
    module="livekit.plugins.cartesia",
    package="livekit-plugins-cartesia",
    default_models={"tts": "sonic-3"},
    make_tts=make_tts,
    key="CARTESIA_API_KEY",
    base_url="CARTESIA_BASE_URL",
)
