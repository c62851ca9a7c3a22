"""Do the providers answer? One small real request to each, through the plugin the call uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from livekit import rtc
from livekit.agents import APIError
from livekit.agents.utils import http_context

from agent_worker.call.speech_cache import bundled
from agent_worker.config.presets_file import read_presets
from agent_worker.doctor.examination import Examination
from agent_worker.doctor.finding import Status
from agent_worker.doctor.provider_list import ListedProvider, Listing, list_providers
from agent_worker.doctor.provider_questions import (
    NothingSaid,
    Reply,
    ask_model,
    ask_recogniser,
    ask_voice,
    explain_provider,
)
from agent_worker.errors import ProviderError
from agent_worker.providers.vendor import Layer

NAME = "providers"
AT_ONCE = 4
ANSWER_SECONDS = 15.0
CLIP = "hold"
"""A sentence in English that ships with the product."""

_ROLES: Mapping[Layer, str] = {"stt": "recogniser", "llm": "language model", "tts": "voice"}


async def check_providers(exam: Examination) -> None:
    """Ask each provider once; recognisers last, as those of other languages than English hear what the voices spoke."""
    listing = listing_of(exam)
    for problem in listing.unusable:
        exam.report(NAME, Status.WARNING, problem.message, problem.remedy, code=problem.code)
    if not listing.providers:
        exam.report(NAME, Status.SKIPPED, "There is no provider to ask: configuration says what each lacks.")
    limit = asyncio.Semaphore(AT_ONCE)
    spoken: dict[str, rtc.AudioFrame] = {}

    async def one(provider: ListedProvider) -> None:
        async with limit:
            reply = await _ask(exam, provider, spoken)
        if reply is not None and reply.audio is not None:
            spoken.setdefault(provider.wishes.language, reply.audio)

    async with http_context.open():
        await asyncio.gather(*(one(provider) for provider in [*listing.of("tts"), *listing.of("llm")]))
        await asyncio.gather(*(one(provider) for provider in listing.of("stt")))


def listing_of(exam: Examination) -> Listing:
    """Return the providers of the agents there are."""
    presets = read_presets(exam.known_settings.presets_file)
    return list_providers(exam.known_catalog.agents.values(), exam.env, presets)


async def words_of(exam: Examination, number: str, speech: rtc.AudioFrame) -> str:
    """Return what the recogniser of a number's agent makes of some speech, "" where it cannot tell."""
    entry = exam.known_catalog.numbers[number].config
    agent = exam.known_catalog.agents.get(entry.agent_id or "")
    provider = listing_of(exam).first_recogniser(agent.name) if agent is not None else None
    if provider is None or not speech.samples_per_channel:
        return ""
    try:
        async with http_context.open(), asyncio.timeout(ANSWER_SECONDS):
            recogniser = provider.build(exam.env)
            try:
                return (await ask_recogniser(recogniser, speech)).said
            finally:
                await recogniser.aclose()
    except (APIError, ProviderError, NothingSaid, TimeoutError):
        return ""


async def _ask(exam: Examination, provider: ListedProvider, spoken: Mapping[str, rtc.AudioFrame]) -> Reply | None:
    started = time.monotonic()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            built = provider.build(exam.env)
            try:
                reply = await _question(provider, built, spoken)
            finally:
                await built.aclose()
    except ProviderError as error:
        _tell_failure(exam, provider, error.code, error.message, error.remedy)
        return None
    except Exception as error:  # noqa: BLE001 - plugins raise what they like, and each is an answer
        _explain(exam, provider, error)
        return None
    _tell_reply(exam, provider, reply, round((time.monotonic() - started) * 1000))
    return reply


async def _question(provider: ListedProvider, built: Any, spoken: Mapping[str, rtc.AudioFrame]) -> Reply:
    if provider.layer == "tts":
        return await ask_voice(built)
    if provider.layer == "llm":
        return await ask_model(built)
    language = provider.wishes.heard_language
    ours = None if language.startswith("en") else spoken.get(language)
    return await ask_recogniser(built, ours or bundled(CLIP))


def _tell_reply(exam: Examination, provider: ListedProvider, reply: Reply, total_ms: int) -> None:
    does = {
        "stt": f"hears, {reply.first_ms} ms after the end of a sentence: “{reply.said.rstrip('.')}”",
        "llm": f"answers after {reply.first_ms} ms",
        "tts": f"speaks after {reply.first_ms} ms",
    }[provider.layer]
    detail = {
        "layer": provider.layer,
        "provider": provider.label,
        "agents": provider.agents[:20],
        "first_ms": reply.first_ms,
        "total_ms": total_ms,
    }
    exam.report(NAME, Status.OK, f"{provider.label} {does}.", detail=detail)


def _explain(exam: Examination, provider: ListedProvider, error: Exception) -> None:
    vendor = provider.candidate.vendor
    url = vendor.base_url if vendor.base_url and exam.env.get(vendor.base_url) else None
    secrets = {vendor.key: exam.env.get(vendor.key, "")} if vendor.key else {}
    code, cause, remedy = explain_provider(error, key=vendor.key, base_url=url, secrets=secrets)
    # a recogniser that makes nothing of one English sentence may still serve its language
    mild = isinstance(error, NothingSaid) and provider.layer == "stt"
    _tell_failure(exam, provider, code, f"{provider.label} {cause}.", remedy, mild=mild)


def _tell_failure(
    exam: Examination, provider: ListedProvider, code: str, message: str, remedy: str, *, mild: bool = False
) -> None:
    who = ", ".join(repr(name) for name in provider.agents[:3])
    more = f" and {len(provider.agents) - 3} more" if len(provider.agents) > 3 else ""
    part = "second choice as " if provider.backup else ""
    exam.report(
        NAME,
        Status.WARNING if provider.backup or mild else Status.FAILED,
        f"{message.rstrip('.')} ({part}{_ROLES[provider.layer]} of {who}{more}).",
        remedy,
        code=code,
        detail={"layer": provider.layer, "provider": provider.label, "agents": provider.agents[:20]},
    )
