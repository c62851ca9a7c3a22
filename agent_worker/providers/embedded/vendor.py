"""The embedded providers as a vendor: what each layer needs and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_worker.errors import ProviderError
from agent_worker.providers.embedded.data_files import DEFAULT_MODEL, find_data_file
from agent_worker.providers.vendor import BuildContext, Layer, ProviderLabel, Vendor

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

    from agent_worker.providers.embedded.analyst import ScriptedAnalyst

ENGINES = ("auto", "flite", "espeak-ng", "clips")


def make_stt(context: BuildContext) -> stt.STT[Any]:
    """Build the recogniser: pocketsphinx over the phrases file the model names."""
    from agent_worker.providers.embedded.recogniser import EmbeddedSTT

    model = context.model or DEFAULT_MODEL
    return EmbeddedSTT(find_data_file("phrases", model), model=model)


def make_llm(context: BuildContext) -> llm.LLM[Any]:
    """Build the scripted model from the rules file the model names."""
    from agent_worker.providers.embedded.rules import read_rules
    from agent_worker.providers.embedded.scripted import ScriptedLLM

    model = context.model or DEFAULT_MODEL
    return ScriptedLLM(read_rules(find_data_file("rules", model)), model=model)


def make_structured(context: BuildContext) -> ScriptedAnalyst:
    """Build what answers questions about a conversation by rules."""
    from agent_worker.providers.embedded.analyst import ScriptedAnalyst

    return ScriptedAnalyst(ProviderLabel("embedded", context.model or DEFAULT_MODEL))


def make_tts(context: BuildContext) -> tts.TTS[Any]:
    """Build the voice: the synthesiser installed on this machine, else shipped clips."""
    from agent_worker.providers.embedded.synthesiser import EmbeddedTTS

    return EmbeddedTTS(
        engine=context.model or "auto",
        voice=context.wishes.voice,
        speed=context.wishes.tts.speed or 1.0,
        language=context.wishes.language,
    )


def model_problem(layer: Layer, model: str | None, language: str) -> ProviderError | None:
    """Return why this model cannot be used for calls in this language, or None."""
    if not language.startswith("en") and (problem := _language_problem(layer, model, language)):
        return problem
    try:
        if layer == "stt":
            find_data_file("phrases", model)
        elif layer == "llm":
            find_data_file("rules", model)
        elif model not in (None, *ENGINES):
            return ProviderError(
                "embedded_model_unknown",
                f"The embedded voice has no engine {model!r}.",
                remedy=f"Use one of: {', '.join(ENGINES)}.",
            )
    except ProviderError as problem:
        return problem
    return None


def _language_problem(layer: Layer, model: str | None, language: str) -> ProviderError | None:
    from agent_worker.providers.embedded.engines import installed_engine

    if layer == "stt":
        can, remedy = False, "Use a recogniser of that language, such as deepgram."
    else:
        can = layer == "llm" or (model in (None, "auto", "espeak-ng") and installed_engine("espeak-ng") is not None)
        remedy = "Run: apt install espeak-ng, and use embedded:espeak-ng."
    if can:
        return None
    does = "hears" if layer == "stt" else "speaks"
    return ProviderError(
        "provider_language_unknown", f"embedded {does} English only here, and the call is in {language}.", remedy=remedy
    )


VENDOR = Vendor(
    name="embedded",
    module="pocketsphinx",
    package="agent-worker[offline]",
    default_models={"stt": DEFAULT_MODEL, "llm": DEFAULT_MODEL, "tts": "auto"},
    make_stt=make_stt,
    make_llm=make_llm,
    make_tts=make_tts,
    make_structured=make_structured,
    needs_module=frozenset({"stt"}),
    model_problem=model_problem,
)
