"""The voices of the configured providers, over HTTP, with a stand-in where a provider is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_worker.providers.voices import FAILED_KEEP_SECONDS, KEEP_SECONDS, OPENAI_VOICES, VoiceLibrary
from agent_worker.testing.stand_ins import CartesiaStandIn
from tests.integration.api_client import served

ACCOUNT = [(f"voice-{number:03}", f"Voice {number}") for number in range(230)]
KEYS = ("CARTESIA_API_KEY", "CARTESIA_BASE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL")


@pytest.fixture
async def cartesia() -> AsyncIterator[CartesiaStandIn]:
    async with CartesiaStandIn() as made:
        made.library = list(ACCOUNT)
        yield made


def env_of(cartesia: CartesiaStandIn, **more: str) -> dict[str, str]:
    return {"CARTESIA_API_KEY": "a-key-of-ours", "CARTESIA_BASE_URL": cartesia.base_url, **more}


async def test_the_client_lists_voices(
    tmp_path: Path, cartesia: CartesiaStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each provider that can be used here, and of one where it is named; sync and async."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    for name, value in env_of(cartesia, OPENAI_API_KEY="a-key").items():
        monkeypatch.setenv(name, value)
    async with served(tmp_path) as there:
        found = await there.sync(lambda speko: speko.voices.list())
        assert [provider.key for provider in found.providers] == ["cartesia", "openai", "embedded"]
        assert [provider.voices_fetched_live for provider in found.providers] == [True, False, False]
        by_vendor = {
            vendor: [voice.id for voice in found.voices if voice.vendor == vendor] for vendor in ("cartesia", "openai")
        }
        assert by_vendor == {"cartesia": [voice_id for voice_id, _ in ACCOUNT], "openai": list(OPENAI_VOICES)}
        for name in ("openai", "openai-tts"):
            one = await there.later(lambda speko, name=name: speko.voices.list(provider=name))
            assert {voice.vendor for voice in one.voices} == {"openai"}
            assert [provider.key for provider in one.providers] == ["openai"]
        nobody = await there.later(lambda speko: speko.voices.list(provider="elevenlabs"))
        assert (nobody.voices, nobody.providers) == ([], [])
        assert (await there.http.get("/v1/voices", params={"provider": "x" * 101})).status_code == 400
    assert set(cartesia.keys) == {"a-key-of-ours"}


async def test_a_provider_without_a_key_is_not_listed() -> None:
    """Nor is anybody asked; what is on this machine needs none."""
    assert [found.key for found in await VoiceLibrary({}).listing()] == ["embedded"]


async def test_an_account_is_asked_once_and_again_after_a_while(cartesia: CartesiaStandIn) -> None:
    """Ten minutes; three pages are one asking."""
    now = [0.0]
    library = VoiceLibrary(env_of(cartesia), monotonic=lambda: now[0])
    for _ in range(2):
        found = (await library.listing("cartesia"))[0]
        assert (len(found.voices), found.problem, len(cartesia.keys)) == (230, None, 3)
    now[0] = KEEP_SECONDS
    cartesia.library = [("one", "One")]
    assert [voice.id for voice in (await library.listing("cartesia"))[0].voices] == ["one"]


async def test_a_provider_that_fails_costs_no_answer(
    cartesia: CartesiaStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """What was known stays, the answer says so, and it is asked again a little later; no key in the log."""
    now = [0.0]
    library = VoiceLibrary(env_of(cartesia), monotonic=lambda: now[0])
    await cartesia.set_fault("http500")
    found = (await library.listing("cartesia"))[0]
    assert len(found.voices) == 1
    assert found.problem
    await cartesia.set_fault("none")
    assert len((await library.listing("cartesia"))[0].voices) == 1
    now[0] = FAILED_KEEP_SECONDS
    assert len((await library.listing("cartesia"))[0].voices) == 230
    now[0] += KEEP_SECONDS
    await cartesia.set_fault("refuse")
    found = (await library.listing("cartesia"))[0]
    assert len(found.voices) == 230
    assert found.problem
    assert "a-key-of-ours" not in caplog.text


async def test_another_servers_voices_are_not_made_up() -> None:
    """Behind OPENAI_BASE_URL is not OpenAI."""
    found = (await VoiceLibrary({"OPENAI_BASE_URL": "http://127.0.0.1:9"}).listing("openai"))[0]
    assert found.voices == ()
    assert found.problem
