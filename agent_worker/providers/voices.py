"""Which voices the configured speech providers have: known ones at once, an account's asked for and kept a while."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from agent_worker.domain.plain_json import read_json
from agent_worker.providers import cartesia, openai
from agent_worker.providers.embedded import vendor as embedded
from agent_worker.providers.vendor import Vendor, base_url_of

logger = logging.getLogger("agent_worker.providers")

FETCH_SECONDS = 3.0
"""How long a provider may take to list its voices: somebody waits for the list."""

KEEP_SECONDS = 600.0
FAILED_KEEP_SECONDS = 30.0
MOST_BYTES = 4_000_000
MOST_VOICES = 1_000
MOST_CHARS = 200

CARTESIA_URL = "https://api.cartesia.ai"
CARTESIA_VERSION = "2025-04-16"
CARTESIA_PAGE = 100
CARTESIA_DEFAULT = ("f786b574-daa5-4673-aa0c-cbe3e8534c02", "Katie")
"""The voice that speaks where an agent names none; all that is known without asking."""

OPENAI_VOICES = ("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer")
OPENAI_MODELS = (openai.TTS_MODEL, "tts-1", "tts-1-hd")


@dataclass(frozen=True)
class Voice:
    """A voice an agent can name."""

    id: str
    name: str


@dataclass(frozen=True)
class ProviderVoices:
    """A speech provider that can be used here, and its voices.

    Attributes:
        fetched_live: the voices are the account's: they are asked for.
        problem: why the voices are not all there, None where they are.
    """

    key: str
    name: str
    models: tuple[str, ...]
    voices: tuple[Voice, ...]
    fetched_live: bool = False
    problem: str | None = None


class VoiceLibrary:
    """The voices of this deployment's speech providers.

    Args:
        env: where keys and addresses are.
        monotonic: clock in seconds.
    """

    def __init__(self, env: Mapping[str, str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._env = env
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._kept: ProviderVoices | None = None
        self._until = 0.0

    async def listing(self, provider: str | None = None) -> list[ProviderVoices]:
        """Return the providers that can be used here with their voices.

        Args:
            provider: only this one, `openai` or `openai-tts`.
        """
        wanted = provider.removesuffix("-tts") if provider else None
        found: list[ProviderVoices] = []
        for vendor in (cartesia.VENDOR, openai.VENDOR, embedded.VENDOR):
            if wanted not in (None, vendor.name) or self._cannot_speak(vendor):
                continue
            if vendor is cartesia.VENDOR:
                found.append(await self._cartesia())
            else:
                found.append(self._openai() if vendor is openai.VENDOR else _embedded())
        return found

    def _cannot_speak(self, vendor: Vendor) -> bool:
        return vendor.problem("tts", vendor.default_models["tts"], self._env) is not None

    def _openai(self) -> ProviderVoices:
        known = ProviderVoices(
            "openai", "OpenAI", OPENAI_MODELS, tuple(Voice(name, name.title()) for name in OPENAI_VOICES)
        )
        if base_url_of(self._env, "OPENAI_BASE_URL") is None:
            return known
        problem = "OPENAI_BASE_URL leads to another server, whose voices are not known here."
        return replace(known, voices=(), models=(), problem=problem)

    async def _cartesia(self) -> ProviderVoices:
        async with self._asking:  # several who ask at once are answered by one request
            if self._kept is None or self._monotonic() >= self._until:
                await self._ask_cartesia()
            assert self._kept is not None
            return self._kept

    async def _ask_cartesia(self) -> None:
        models = ("sonic-3", "sonic-2", "sonic-turbo")
        url = base_url_of(self._env, "CARTESIA_BASE_URL") or CARTESIA_URL
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                voices = await _fetch_cartesia(url, self._env.get("CARTESIA_API_KEY", ""))
        except (TimeoutError, httpx.HTTPError, ValueError, LookupError, TypeError, RecursionError) as error:
            # what it says may repeat the key
            logger.warning("voices not listed", extra={"vendor": "cartesia", "error": type(error).__name__})
            earlier = self._kept.voices if self._kept else (Voice(*CARTESIA_DEFAULT),)
            problem = "Cartesia did not list its voices just now; these are the ones known from before."
            self._kept = ProviderVoices("cartesia", "Cartesia", models, earlier, True, problem)
            self._until = self._monotonic() + FAILED_KEEP_SECONDS
        else:
            self._kept = ProviderVoices("cartesia", "Cartesia", models, voices, True)
            self._until = self._monotonic() + KEEP_SECONDS


async def _fetch_cartesia(url: str, key: str) -> tuple[Voice, ...]:
    """Return the account's voices, at most a thousand.

    Raises:
        httpx.HTTPError: there was no answer, or not a good one.
        ValueError: the answer cannot be read.
    """
    voices: list[Voice] = []
    query: dict[str, str | int] = {"limit": CARTESIA_PAGE}
    headers = {"x-api-key": key, "cartesia-version": CARTESIA_VERSION}
    async with httpx.AsyncClient(headers=headers, follow_redirects=False, timeout=None) as client:
        while len(voices) < MOST_VOICES:
            page = await _get(client, f"{url}/voices", query)
            rows = page["data"]
            voices += [Voice(str(row["id"])[:MOST_CHARS], str(row["name"])[:MOST_CHARS]) for row in rows]
            if not page.get("has_more") or not rows:
                break
            query["starting_after"] = str(rows[-1]["id"])
    return tuple(voices[:MOST_VOICES])


async def _get(client: httpx.AsyncClient, url: str, query: Mapping[str, str | int]) -> dict[str, Any]:
    async with client.stream("GET", url, params=dict(query)) as response:
        response.raise_for_status()
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BYTES:
                raise ValueError("too large")
    found = read_json(bytes(body))
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _embedded() -> ProviderVoices:
    from agent_worker.providers.embedded.engines import FLITE_VOICES, installed_engine

    engines = [engine for engine in embedded.ENGINES[1:] if engine == "clips" or installed_engine(engine)]
    voices = tuple(Voice(name, name) for name in sorted(FLITE_VOICES)) if "flite" in engines else ()
    return ProviderVoices("embedded", "On this machine", ("auto", *engines), voices)
