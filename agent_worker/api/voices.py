"""`GET /v1/voices`: the voices an agent can name, of the speech providers that are configured here (contract 1.8)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from agent_worker.api.backend import Backend
from agent_worker.api.known_agents import Reader
from agent_worker.api.shapes import CamelShape, errors

if TYPE_CHECKING:
    from agent_worker.providers.voices import VoiceLibrary


class VoiceRow(CamelShape):
    """One voice; `id` is what an agent's `voice` says."""

    vendor: str
    id: str
    name: str


class ProviderRow(CamelShape):
    """One speech provider; `problem` says why not all of its voices are listed."""

    key: str
    name: str
    models: list[str]
    voices_fetched_live: bool
    problem: str | None


class VoicesList(CamelShape):
    """Voices, and the providers that have them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "voices": [{"vendor": "openai", "id": "ash", "name": "Ash"}],
                    "providers": [
                        {
                            "key": "openai",
                            "name": "OpenAI",
                            "models": ["gpt-4o-mini-tts"],
                            "voicesFetchedLive": False,
                            "problem": None,
                        }
                    ],
                }
            ]
        }
    )

    voices: list[VoiceRow]
    providers: list[ProviderRow]


def voices_routes(_backend: Backend) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["voices"])
    library: list[VoiceLibrary] = []

    def opened() -> VoiceLibrary:
        # providers are loaded when somebody asks for them: a control plane that waits is small
        if not library:
            from agent_worker.providers.voices import VoiceLibrary

            library.append(VoiceLibrary(os.environ))
        return library[0]

    @router.get("/voices", responses=errors())
    async def list_voices(
        _: Reader,
        provider: Annotated[str | None, Query(max_length=100, description="`cartesia`, or `cartesia-tts`.")] = None,
    ) -> VoicesList:
        """The voices of the configured providers; Cartesia's are the account's, asked for and kept for ten minutes."""
        found = await opened().listing(provider)
        return VoicesList(
            voices=[
                VoiceRow(vendor=entry.key, id=voice.id, name=voice.name) for entry in found for voice in entry.voices
            ],
            providers=[
                ProviderRow(
                    key=entry.key,
                    name=entry.name,
                    models=list(entry.models),
                    voices_fetched_live=entry.fetched_live,
                    problem=entry.problem,
                )
                for entry in found
            ],
        )

    return router
