"""Who serves a layer of several providers: errors, silence with a deadline, recoveries, and who is named for it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from livekit.agents import APIConnectionError

from agent_worker.call.failover import ReplyText, in_time, unless_given_up
from agent_worker.domain.agent import AgentConfig
from agent_worker.domain.presets import NO_PRESETS
from agent_worker.logging_setup import JsonFormatter
from agent_worker.providers.failover import Chain, Failover
from agent_worker.providers.registry import build_stack

SERVERS = {"A_BASE_URL": "http://127.0.0.1:9/v1", "B_BASE_URL": "http://127.0.0.1:10/v1"}
PATIENCE = 0.05


def stack_of(layer: str, *entries: str, **keys: Any) -> Any:
    allowed = {"stt": ["embedded"], "llm": ["embedded"], "tts": ["embedded"], layer: list(entries)}
    config = {"name": "a", "stackPreferences": {"allowedProviders": allowed}, **keys}
    return build_stack(AgentConfig.model_validate(config), SERVERS, NO_PRESETS)


def models(*entries: str) -> Chain[Any]:
    return stack_of("llm", *entries).models  # type: ignore[no-any-return]


def test_one_provider_is_given_to_the_session_as_it_is() -> None:
    """Nothing is wrapped where nobody could take over, and giving it up changes nothing."""
    chain = models("a:m")
    assert chain.whole is chain.links[0].provider
    assert not chain.fails_over and not chain.spare
    assert not chain.give_up(chain.next)


async def test_who_is_given_up_is_not_asked_again_on_this_call() -> None:
    """The next one serves, everybody is told once, a probe that succeeds later changes nothing, the last one stays."""
    chain = models("a:m", "b:m")
    told: list[Failover] = []
    chain.watch(told.append)
    first, second = chain.links
    assert chain.next is first
    assert chain.give_up(first)
    assert chain.next is second and not chain.give_up(first)
    adapter: Any = chain.whole
    adapter._status[0].available = True
    from livekit.agents.llm.fallback_adapter import AvailabilityChangedEvent

    adapter.emit("llm_availability_changed", AvailabilityChangedEvent(llm=first.provider, available=True))
    assert chain.next is second
    assert not chain.give_up(second)
    assert [(str(t.changed), t.usable, str(t.serving)) for t in told] == [("a:m", False, "b:m")]


async def test_a_provider_that_failed_and_recovers_is_told() -> None:
    """An error is no silence: who answers a probe serves again."""
    chain = models("a:m", "b:m")
    told: list[Failover] = []
    chain.watch(told.append)
    adapter: Any = chain.whole
    from livekit.agents.llm.fallback_adapter import AvailabilityChangedEvent

    for usable in (False, True):
        adapter._status[0].available = usable
        adapter.emit(
            "llm_availability_changed", AvailabilityChangedEvent(llm=chain.links[0].provider, available=usable)
        )
    assert [(t.usable, str(t.serving)) for t in told] == [(False, "b:m"), (True, "a:m")]


def test_usage_is_named_after_who_did_it() -> None:
    """What metrics call a provider is turned into what agent files and price tables call it."""
    chain = models("a:m", "b:m")
    assert [str(chain.label_of(f"127.0.0.1:{port}", "m")) for port in (9, 10)] == ["a:m", "b:m"]
    assert str(chain.label_of("somebody", "else")) == "a:m"


def test_voices_of_different_rates_and_kinds_make_one_chain() -> None:
    """All come out at the line's rate, and one that takes whole sentences does not cost the other its word timings."""
    config = AgentConfig.model_validate(
        {"name": "a", "stackPreferences": {"allowedProviders": {"tts": ["cartesia", "openai", "embedded"]}}}
    )
    env = {"CARTESIA_API_KEY": "c", "OPENAI_API_KEY": "o", "DEEPGRAM_API_KEY": "d"}
    voices = build_stack(config, env, NO_PRESETS).voices
    assert voices.whole.sample_rate == 16_000
    assert voices.whole.capabilities.streaming and voices.whole.capabilities.aligned_transcript


def test_a_recogniser_of_whole_utterances_can_take_over() -> None:
    """It is given utterances by the voice detector, so that the session sees one kind of recogniser."""
    stack = stack_of("stt", "embedded", "a:whisper")
    assert stack.stt.capabilities.streaming
    assert [str(link.label) for link in stack.recognisers.links] == ["embedded:front-desk", "a:whisper"]


class Asked:
    """Answers as a chain would: each provider gives its items, or nothing for ever."""

    def __init__(self, chain: Chain[Any], *answers: list[str] | None) -> None:
        self._chain = chain
        self._answers = dict(zip((link.label for link in chain.links), answers, strict=True))
        self.asked: list[str] = []

    async def __call__(self) -> AsyncGenerator[str, None]:
        label = self._chain.next.label
        self.asked.append(str(label))
        answer = self._answers[label]
        if answer is None:
            await asyncio.sleep(60)
        for item in answer or []:
            yield item


async def test_silence_moves_a_request_to_the_next_provider() -> None:
    """The answer is the second one's, whole, and the first is not asked again."""
    chain = models("a:m", "b:m")
    begin = Asked(chain, None, ["x", "y"])
    assert [item async for item in in_time(begin, chain, PATIENCE)] == ["x", "y"]
    assert [item async for item in in_time(begin, chain, PATIENCE)] == ["x", "y"]
    assert begin.asked == ["a:m", "b:m", "b:m"]


async def test_the_last_provider_is_waited_for() -> None:
    """Where nobody else could answer there is no deadline but the watchdog's."""
    chain = models("a:m")
    waiting = asyncio.create_task(anext(in_time(Asked(chain, None), chain, PATIENCE)))  # type: ignore[arg-type]
    await asyncio.sleep(3 * PATIENCE)
    assert not waiting.done()
    waiting.cancel()


async def test_the_deadline_begins_when_there_is_something_to_answer() -> None:
    """A voice that was given no sentence yet is not slow."""
    chain, ready = models("a:m", "b:m"), asyncio.Event()
    begin = Asked(chain, None, ["x"])
    waiting = asyncio.create_task(anext(in_time(begin, chain, PATIENCE, ready)))  # type: ignore[arg-type]
    await asyncio.sleep(3 * PATIENCE)
    assert begin.asked == ["a:m"]
    ready.set()
    assert await waiting == "x"


async def test_who_takes_over_by_itself_has_its_own_time() -> None:
    """After an error the next one is not cut off by the clock of the first."""
    chain = models("a:m", "b:m")
    adapter: Any = chain.whole
    begun = 0

    async def begin() -> AsyncGenerator[str, None]:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0.6 * PATIENCE)
        adapter._status[0].available = False  # as the adapter notes an error
        await asyncio.sleep(0.8 * PATIENCE)
        yield "late, and in time"

    assert [item async for item in in_time(begin, chain, PATIENCE)] == ["late, and in time"]
    assert begun == 1


async def test_a_recogniser_that_is_given_up_ends_its_stream() -> None:
    """What it said until then is kept; the session is told to open another stream."""
    chain = stack_of("stt", "embedded", "a:whisper").recognisers
    closed = False

    async def events() -> AsyncGenerator[str, None]:
        nonlocal closed
        try:
            yield "word"
            await asyncio.sleep(60)
        finally:
            closed = True

    heard = unless_given_up(events(), chain)
    assert await anext(heard) == "word"
    asyncio.get_running_loop().call_later(0.01, lambda: chain.give_up(chain.next))
    with pytest.raises(APIConnectionError):
        await anext(heard)
    assert closed


async def _pieces(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def test_a_reply_can_be_begun_again_by_another_voice() -> None:
    """The second reader has the text from its first word, and what comes after it."""
    go_on = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "We close"
        yield " at five. "
        await go_on.wait()
        yield "Bye."

    reply = ReplyText(source())
    first = reply.from_start()
    assert [await anext(first), await anext(first)] == ["We close", " at five. "]
    await first.aclose()  # type: ignore[attr-defined]
    assert reply.speakable.is_set()
    go_on.set()
    assert "".join([piece async for piece in reply.from_start()]) == "We close at five. Bye."
    await reply.aclose()


async def test_a_reply_of_no_words_is_nothing_to_wait_for() -> None:
    """Silence is the right answer to it."""
    reply = ReplyText(_pieces(" ", "\n"))
    assert [piece async for piece in reply.from_start()] == [" ", "\n"]
    assert not reply.speakable.is_set()


def test_what_a_broken_reply_had_said_is_not_logged() -> None:
    """The adapter hands it to the log beside its message; it stays out of the line."""
    record = logging.makeLogRecord({"msg": "failed after sending chunk", "text_sent": "Your balance is", "index": 1})
    line = JsonFormatter().format(record)
    assert "balance" not in line and "text_sent" not in line
    assert json.loads(line)["index"] == 1
