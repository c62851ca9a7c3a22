"""The stand-ins, spoken to by the real provider plugins over loopback sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import httpx2
import numpy as np
import pytest
from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions, APIError, APIStatusError, llm, stt
from livekit.agents.llm import ChatContext, function_tool
from livekit.plugins import cartesia, deepgram, openai

from agent_worker.testing.audio import Pcm, dbfs, locate
from agent_worker.testing.stand_ins import ProviderStandIns, Rule
from agent_worker.testing.voice import CALLER_VOICE, render

ONCE = APIConnectOptions(max_retry=0, timeout=1.0)
LINE = "I would like to book a room for two people."


@pytest.fixture
async def providers() -> AsyncIterator[ProviderStandIns]:
    async with ProviderStandIns(stt_delay_ms=200, llm_delay_ms=30, tts_delay_ms=30) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def _hear(
    recogniser: stt.STT, pcm: Pcm, *, rate: int = 16_000, seconds_after: float = 0.7
) -> list[stt.SpeechEvent]:
    """Feed audio in real time, then silence, and return what was recognised."""
    stream = recogniser.stream(conn_options=ONCE)

    async def feed() -> None:
        audio = np.concatenate((pcm, np.zeros(int(rate * seconds_after), dtype=np.int16)))
        size = rate // 20
        for at in range(0, audio.size - size + 1, size):
            stream.push_frame(rtc.AudioFrame(audio[at : at + size].tobytes(), rate, 1, size))
            await asyncio.sleep(0.05)
        stream.end_input()

    async with asyncio.timeout(15):
        feeding = asyncio.create_task(feed())
        try:
            return [event async for event in stream]
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await stream.aclose()


def _finals(events: list[stt.SpeechEvent]) -> list[str]:
    return [e.alternatives[0].text for e in events if e.type is stt.SpeechEventType.FINAL_TRANSCRIPT]


async def test_nova_recognises_a_registered_clip_after_its_delay(
    providers: ProviderStandIns, http: aiohttp.ClientSession
) -> None:
    """A clip whose words are known comes back as these words, the set delay after its last loud chunk."""
    clip = render(LINE, 16_000, voice=CALLER_VOICE)
    providers.deepgram.script = ["not this"]
    providers.deepgram.register_clip(
        "Something else, and quite a bit longer than that.", clip[: clip.size // 3], 16_000
    )
    providers.deepgram.register_clip(LINE, clip, 16_000)
    plugin = deepgram.STT(api_key="x", base_url=providers.deepgram.base_url, http_session=http)

    events = await _hear(plugin, clip)

    assert _finals(events) == [LINE]
    kinds = [event.type for event in events]
    assert stt.SpeechEventType.INTERIM_TRANSCRIPT in kinds
    assert kinds.index(stt.SpeechEventType.START_OF_SPEECH) < kinds.index(stt.SpeechEventType.FINAL_TRANSCRIPT)
    ended = providers.sightings.of("deepgram", "speech_ended")[0].at
    assert providers.sightings.of("deepgram", "final")[0].at - ended >= 0.2


async def test_flux_follows_the_script_where_no_clip_is_known(
    providers: ProviderStandIns, http: aiohttp.ClientSession
) -> None:
    """Utterances that are no known clip are the script's lines, in order, each with a start and an end of turn."""
    providers.deepgram.script = ["first line", "second line"]
    clip = render("Yes, please.", 16_000, voice=CALLER_VOICE)
    pause = np.zeros(16_000 * 6 // 10, dtype=np.int16)
    plugin = deepgram.STTv2(api_key="x", base_url=providers.deepgram.flux_url, http_session=http)

    events = await _hear(plugin, np.concatenate((clip, pause, clip)))

    assert _finals(events) == ["first line", "second line"]
    assert [e.type for e in events].count(stt.SpeechEventType.END_OF_SPEECH) == 2


async def test_a_killed_recogniser_connection_is_an_error(
    providers: ProviderStandIns, http: aiohttp.ClientSession
) -> None:
    """Killing open sockets while the port is closed reaches the plugin as a connection error."""
    plugin = deepgram.STT(api_key="x", base_url=providers.deepgram.base_url, http_session=http)
    hearing = asyncio.create_task(_hear(plugin, np.zeros(16_000 * 5, dtype=np.int16)))
    while not providers.deepgram.queries:  # noqa: ASYNC110 - the stand-in keeps a plain list
        await asyncio.sleep(0.02)
    await providers.deepgram.set_fault("refuse", kill=True)
    with pytest.raises((APIConnectionError, APIStatusError)):
        await hearing


@function_tool
async def end_call(reason: str) -> str:
    """Hang up."""
    return f"ended: {reason}"


async def _reply(plugin: llm.LLM, context: ChatContext) -> tuple[str, list[llm.FunctionToolCall], int]:
    text, calls, tokens = "", [], 0
    async with (
        asyncio.timeout(10),
        plugin.chat(chat_ctx=context, tools=[end_call], conn_options=ONCE) as stream,
    ):
        async for chunk in stream:
            if chunk.delta is not None:
                text += chunk.delta.content or ""
                calls += chunk.delta.tool_calls
            if chunk.usage is not None:
                tokens = chunk.usage.completion_tokens
    return text, calls, tokens


def _context(said: str) -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content=said)
    return context


async def test_rules_choose_words_and_tool_calls(providers: ProviderStandIns) -> None:
    """The first rule that fits the caller's last words answers, in text or as a tool call, with usage."""
    providers.openai.rules = [
        Rule("room", reply="Certainly, a room."),
        Rule("goodbye", tool="end_call", arguments={"reason": "goodbye"}),
        Rule("ended", after_tool="end_call", reply="Take care."),
    ]
    plugin = openai.LLM(model="gpt-4.1-mini", api_key="x", base_url=providers.openai.base_url)

    assert await _reply(plugin, _context("A room for two")) == ("Certainly, a room.", [], 3)
    text, calls, _ = await _reply(plugin, _context("Goodbye"))
    assert (text, [(call.name, call.arguments) for call in calls]) == (
        "",
        [("end_call", '{"reason": "goodbye"}')],
    )

    context = _context("Goodbye")
    context.items.append(llm.FunctionCall(call_id="c1", name="end_call", arguments="{}"))
    context.items.append(llm.FunctionCallOutput(call_id="c1", name="end_call", output="ended: x", is_error=False))
    assert (await _reply(plugin, context))[0] == "Take care."


@pytest.mark.parametrize("fault", ["refuse", "http500", "hang", "hang_midstream", "close_midstream"])
async def test_a_failing_model_fails_the_plugin_and_heals(providers: ProviderStandIns, fault: str) -> None:
    """Each fault is an API error at the plugin, at the latest at its deadline; healed, the next request works."""
    plugin = openai.LLM(
        model="gpt-4.1-mini",
        api_key="x",
        base_url=providers.openai.base_url,
        timeout=httpx2.Timeout(1.0),
    )
    await _reply(plugin, _context("warm the connection"))
    await providers.openai.set_fault(fault)  # type: ignore[arg-type]
    with pytest.raises(APIError):
        await _reply(plugin, _context("hello"))
    await providers.openai.set_fault("none")
    assert (await _reply(plugin, _context("hello")))[0] == providers.openai.default_reply


async def _say(plugin: cartesia.TTS, *sentences: str) -> Pcm:
    frames: list[Pcm] = []
    async with asyncio.timeout(10), plugin.stream(conn_options=ONCE) as stream:
        for sentence in sentences:
            stream.push_text(sentence + " ")
        stream.end_input()
        async for event in stream:
            frames.append(np.frombuffer(event.frame.data, dtype=np.int16))
    return np.concatenate(frames)


async def test_speech_is_what_was_asked_for_from_its_first_sample(
    providers: ProviderStandIns, http: aiohttp.ClientSession
) -> None:
    """Both sentences of a stream arrive whole and in order, and the first 20 ms are at full voice."""
    first, second = "The room has a view of the harbour.", "Breakfast is served from seven to ten."
    plugin = cartesia.TTS(api_key="x", base_url=providers.cartesia.base_url, http_session=http)
    pcm = await _say(plugin, first, second)
    await plugin.aclose()

    found = [locate(pcm, render(sentence, 24_000), 24_000) for sentence in (first, second)]
    assert all(match is not None and match.correlation > 0.95 for match in found)
    assert [match.missing_head for match in found if match] == [0.0, 0.0]
    assert found[0] is not None and found[1] is not None and found[0].offset < found[1].offset
    assert dbfs(pcm[:480]) > -45


async def test_whole_clips_come_over_http(providers: ProviderStandIns, http: aiohttp.ClientSession) -> None:
    """`synthesize` gets a clip of the speech that `render` makes."""
    plugin = cartesia.TTS(api_key="x", base_url=providers.cartesia.base_url, http_session=http)
    frame = await plugin.synthesize("Good morning.", conn_options=ONCE).collect()
    match = locate(np.frombuffer(frame.data, dtype=np.int16), render("Good morning.", 24_000), 24_000)
    assert match is not None and match.correlation > 0.95


@pytest.mark.parametrize("fault", ["refuse", "http500", "hang", "hang_midstream", "close_midstream"])
@pytest.mark.parametrize("pooled", [False, True])
async def test_a_failing_voice_fails_the_plugin(
    providers: ProviderStandIns, http: aiohttp.ClientSession, fault: str, pooled: bool
) -> None:
    """Each fault is an API error at the plugin, on a new connection and on one that was open before."""
    sentence = "This sentence is long enough for the stream to break in the middle of it."
    plugin = cartesia.TTS(api_key="x", base_url=providers.cartesia.base_url, http_session=http)
    if pooled:
        await _say(plugin, "Good morning.")
    await providers.cartesia.set_fault(fault, kill=fault == "refuse")  # type: ignore[arg-type]
    started = time.monotonic()
    with pytest.raises(APIError):
        await _say(plugin, sentence)
    assert time.monotonic() - started < 5
    await plugin.aclose()


async def test_faults_are_set_from_another_process_over_http(
    providers: ProviderStandIns, http: aiohttp.ClientSession
) -> None:
    """The control port switches faults and answers the log; what it does not know is refused with 422."""
    async with http.post(
        f"{providers.control_url}/__control", json={"service": "openai", "fault": "http500"}
    ) as answer:
        assert (answer.status, (await answer.json())["fault"]) == (200, "http500")
    async with http.get(f"{providers.openai.base_url}/models") as answer:
        assert answer.status == 500
    async with http.post(f"{providers.control_url}/__control", json={"service": "openai", "fault": "slow"}) as answer:
        assert answer.status == 422
    async with http.get(f"{providers.control_url}/__log") as answer:
        assert [(e["kind"], e["text"]) for e in await answer.json()] == [
            ("fault", "http500"),
            ("refused", "/v1/models"),
        ]
