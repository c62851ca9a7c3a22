"""The bound on silence, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from agent_worker.call.watchdog import MAX_FAILED_TURNS, REPLY_SECONDS, TOOL_SECONDS, Provider, Watchdog
from tests.virtual_time import run_virtually


class Heard:
    """A watchdog and what it had said, with the time (s)."""

    def __init__(self, stage: Provider = "llm") -> None:
        self.log: list[tuple[float, str]] = []
        self.dog = Watchdog(
            apologise=lambda provider: self._note(f"apology:{provider}"),
            hold=lambda: self._note("hold"),
            give_up=lambda provider: self._note(f"goodbye:{provider}"),
            waiting_for=lambda: stage,
        )

    def _note(self, what: str) -> None:
        self.log.append((asyncio.get_running_loop().time(), what))


@pytest.mark.parametrize("stage", ["llm", "tts"])
def test_a_reply_that_does_not_come_is_apologised_for_at_the_deadline(stage: Provider) -> None:
    """Dead air ends at the deadline, and the provider the reply waited for is named."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard(stage)
        heard.dog.reply_due()
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == [(REPLY_SECONDS, f"apology:{stage}")]


def test_a_reply_in_time_is_not_apologised_for() -> None:
    """A reply heard before the deadline ends the watch."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.reply_due()
        await asyncio.sleep(REPLY_SECONDS - 0.1)
        heard.dog.reply_heard()
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == []


def test_the_third_failed_turn_in_a_row_ends_the_call() -> None:
    """Two apologies, then the goodbye."""

    async def story() -> list[str]:
        heard = Heard()
        for _ in range(MAX_FAILED_TURNS):
            heard.dog.reply_due()
            heard.dog.failed("tts")
        return [what for _, what in heard.log]

    assert run_virtually(story()) == ["apology:tts", "apology:tts", "goodbye:tts"]


def test_several_failures_of_one_turn_count_once() -> None:
    """A provider that reports twice costs the caller one apology."""

    async def story() -> int:
        heard = Heard()
        heard.dog.reply_due()
        heard.dog.failed("llm")
        heard.dog.failed("llm")
        return heard.dog.failed_turns

    assert run_virtually(story()) == 1


def test_a_reply_heard_forgives_earlier_failures() -> None:
    """Failures count only in a row."""

    async def story() -> list[str]:
        heard = Heard()
        for _ in range(2):
            heard.dog.reply_due()
            heard.dog.failed("llm")
        heard.dog.reply_due()
        heard.dog.reply_heard()
        heard.dog.reply_due()
        heard.dog.failed("llm")
        return [what for _, what in heard.log]

    assert run_virtually(story()) == ["apology:llm"] * 3


def test_a_caller_who_goes_on_speaking_is_not_apologised_to_meanwhile() -> None:
    """The deadline starts again when the caller stops."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.reply_due()
        await asyncio.sleep(1)
        heard.dog.caller_speaking(True)
        await asyncio.sleep(20)
        heard.dog.caller_speaking(False)
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == [(21 + REPLY_SECONDS, "apology:llm")]


def test_a_slow_tool_asks_for_a_moment_and_is_no_failure() -> None:
    """While a tool runs the caller is asked to wait, and no turn is lost."""

    async def story() -> tuple[list[tuple[float, str]], int]:
        heard = Heard()
        heard.dog.reply_due()
        heard.dog.tool_started()
        await asyncio.sleep(TOOL_SECONDS + 1)
        heard.dog.tool_ended()
        heard.dog.reply_heard()
        await asyncio.sleep(10)
        return heard.log, heard.dog.failed_turns

    assert run_virtually(story()) == ([(TOOL_SECONDS, "hold")], 0)


def test_speech_nobody_recognised_is_a_failed_turn_of_the_recogniser() -> None:
    """Three utterances without a word end the call with the recogniser's name."""

    async def story() -> list[str]:
        heard = Heard()
        for _ in range(3):
            heard.dog.unheard()
        return [what for _, what in heard.log]

    assert run_virtually(story()) == ["apology:stt", "apology:stt", "goodbye:stt"]


def test_words_before_a_tools_result_are_not_the_whole_reply() -> None:
    """After "let me check" a slow tool still asks for a moment, and the reply that follows it is still owed."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.reply_due()
        heard.dog.tool_started()
        heard.dog.reply_heard()
        await asyncio.sleep(TOOL_SECONDS + 1)
        heard.dog.tool_ended()
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == [(TOOL_SECONDS, "hold"), (TOOL_SECONDS + 1 + REPLY_SECONDS, "apology:llm")]


def test_a_caller_who_speaks_during_a_tool_is_still_asked_to_wait() -> None:
    """A word into the silence of a tool puts the hold off, not away."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.tool_started()
        await asyncio.sleep(1)
        heard.dog.caller_speaking(True)
        await asyncio.sleep(1)
        heard.dog.caller_speaking(False)
        await asyncio.sleep(TOOL_SECONDS + 1)
        return heard.log

    assert run_virtually(story()) == [(2 + TOOL_SECONDS, "hold")]


def test_a_tool_that_answers_for_the_model_leaves_nothing_owed() -> None:
    """No apology for a reply nobody promised."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.reply_due()
        heard.dog.tool_started()
        heard.dog.tool_ended()
        heard.dog.reply_dropped()
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == []


def test_nothing_is_said_once_the_end_has_begun() -> None:
    """After `stop` neither a late reply nor a failure nor a tool is answered for: the farewell is not talked over."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.tool_started()
        heard.dog.stop()
        heard.dog.tool_ended()
        heard.dog.reply_due()
        heard.dog.failed("llm")
        heard.dog.caller_speaking(False)
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == []


def test_failures_minutes_apart_are_not_in_a_row() -> None:
    """A line with a cough every two minutes is not hung up on."""

    async def story() -> list[str]:
        heard = Heard()
        for _ in range(5):
            heard.dog.unheard()
            await asyncio.sleep(120)
        return [what for _, what in heard.log]

    assert run_virtually(story()) == ["apology:stt"] * 5


def test_while_somebody_else_speaks_nothing_is_late() -> None:
    """What was owed is dropped, what is reported meanwhile is not answered for; afterwards it watches again."""

    async def story() -> list[tuple[float, str]]:
        heard = Heard()
        heard.dog.reply_due()
        heard.dog.pause()
        heard.dog.tool_started()
        heard.dog.tool_ended()
        heard.dog.failed("tts")
        heard.dog.unheard()
        await asyncio.sleep(10)
        heard.dog.resume()
        await asyncio.sleep(10)
        heard.dog.reply_due()
        await asyncio.sleep(10)
        return heard.log

    assert run_virtually(story()) == [(20 + REPLY_SECONDS, "apology:llm")]
