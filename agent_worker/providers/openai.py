"""OpenAI and every server that speaks its chat completions, transcription and speech endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_worker.providers.vendor import BuildContext, Vendor, base_url_of

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

NO_KEY = "unused"
"""Sent where no key is set: the client refuses an empty one."""


def _connection(context: BuildContext) -> tuple[dict[str, Any], bool]:
    """Return key and address for a client, and whether the server is somebody else's."""
    url = base_url_of(context.env, "OPENAI_BASE_URL")
    key = context.env.get("OPENAI_API_KEY") or NO_KEY
    return ({"api_key": key, "base_url": url}, True) if url else ({"api_key": key}, False)


def make_llm(context: BuildContext) -> llm.LLM[Any]:
    """Build the model client for one call, over chat completions."""
    from livekit.plugins import openai

    connection, compatible = _connection(context)
    wanted = context.agent.llm_options
    options: dict[str, Any] = {}
    if wanted.temperature is not None:
        options["temperature"] = wanted.temperature
    if wanted.max_tokens is not None:
        if compatible:  # the older name is the one every compatible server knows
            options["extra_body"] = {"max_tokens": wanted.max_tokens}
        else:
            options["max_completion_tokens"] = wanted.max_tokens
    return openai.LLM(
        model=context.model or "gpt-4.1-mini",
        _strict_tool_schema=not compatible,
        **connection,
        **options,
    )


def make_stt(context: BuildContext) -> stt.STT[Any]:
    """Build the recogniser for one call; a compatible server transcribes whole utterances."""
    from livekit.plugins import openai

    connection, compatible = _connection(context)
    options: dict[str, Any] = {}
    if context.agent.stt_options.prompt:
        options["prompt"] = context.agent.stt_options.prompt
    return openai.STT(
        model=context.model or "gpt-4o-mini-transcribe",
        language=context.language.split("-")[0],
        use_realtime=not compatible,
        **connection,
        **options,
    )


def make_tts(context: BuildContext) -> tts.TTS[Any]:
    """Build the voice for one call."""
    from livekit.plugins import openai

    connection, compatible = _connection(context)
    return openai.TTS(
        model=context.model or "gpt-4o-mini-tts",
        voice=context.agent.voice or "ash",
        speed=context.agent.tts_options.speed or 1.0,
        # raw PCM is taken as 24 kHz whatever the server sends; a WAV says its own rate
        response_format="wav" if compatible else "pcm",
        **connection,
    )


VENDOR = Vendor(
    name="openai",
    module="livekit.plugins.openai",
    package="livekit-plugins-openai",
    default_models={"llm": "gpt-4.1-mini", "stt": "gpt-4o-mini-transcribe", "tts": "gpt-4o-mini-tts"},
    make_stt=make_stt,
    make_llm=make_llm,
    make_tts=make_tts,
    key="OPENAI_API_KEY",
    base_url="OPENAI_BASE_URL",
    keyless=True,
)
