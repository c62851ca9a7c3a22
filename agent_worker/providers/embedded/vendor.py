"""The embedded providers as a vendor: what each layer needs and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_worker.errors import ProviderError
from agent_worker.providers.embedded.data_files import DEFAULT_MODEL, find_data_file
from agent_worker.providers.vendor import BuildContext, Layer, Vendor

if TYPE_CHECKING:
    from livekit.agents import llm, stt, tts

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


def make_tts(context: BuildContext) -> tts.TTS[Any]:
    """Build the voice: the synthesiser installed on this machine, else shipped clips."""
    from agent_worker.providers.embedded.synthesiser import EmbeddedTTS

    return EmbeddedTTS(
        engine=context.model or "auto",
        voice=context.agent.voice,
        speed=context.agent.tts_options.speed or 1.0,
    )


def model_problem(layer: Layer, model: str | None) -> ProviderError | None:
    """Return why this model cannot be used, or None."""
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


VENDOR = Vendor(
    name="embedded",
    module="pocketsphinx",
    package="agent-worker[offline]",
    default_models={"stt": DEFAULT_MODEL, "llm": DEFAULT_MODEL, "tts": "auto"},
    make_stt=make_stt,
    make_llm=make_llm,
    make_tts=make_tts,
    needs_module=frozenset({"stt"}),
    model_problem=model_problem,
)
