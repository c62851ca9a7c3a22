"""The reprompt ladder, in virtual time."""

from __future__ import annotations

import asyncio

from agent_worker.call.idle import IdleLadder
from agent_worker.domain.turns import IdleRePrompts
from tests.virtual_time import run_virtually

CONFIG = IdleRePrompts(delay_ms=5_000, max_prompts=2, messages=["one", "two"], goodbye="bye")


class Silence:
    """A caller's silence, and what was said into it, with the time (s) at which it was said."""

    def __init__(self, config: IdleRePrompts = CONFIG, speech_seconds: float = 1.0) -> None:
        self.said: list[tuple[float, str]] = []
        self._speech_seconds = speech_seconds
        self.ladder = IdleLadder(config, say=self._say, give_up=self._say)

    async def _say(self, text: str) -> None:
        self.said.append((asyncio.get_running_loop().time(), text))
        self.ladder.busy("agent", True)
        await asyncio.sleep(self._speech_seconds)
        self.ladder.busy("agent", False)

    async def listen(self, seconds: float) -> list[tuple[float, str]]:
        self.ladder.busy("agent", False)
        task = asyncio.create_task(self.ladder.run())
        await asyncio.wait({task}, timeout=seconds)
        task.cancel()
        return self.said


def test_each_reprompt_comes_after_the_delay_then_the_goodbye() -> None:
    """Reprompts are said one after another, the clock armed again when each has been heard."""
    said = run_virtually(Silence().listen(60))
    assert said == [(5.0, "one"), (11.0, "two"), (17.0, "bye")]


def test_the_last_message_is_repeated_where_there_are_fewer_than_prompts() -> None:
    """maxPrompts beyond the messages repeats the last one."""
    config = CONFIG.model_copy(update={"max_prompts": 3, "messages": ["one", "two"]})
    assert [text for _, text in run_virtually(Silence(config).listen(60))] == ["one", "two", "two", "bye"]


def test_words_start_the_ladder_anew() -> None:
    """A caller who speaks hears the first reprompt again, not the second."""

    async def story() -> list[tuple[float, str]]:
        silence = Silence()
        listening = asyncio.create_task(silence.listen(40))
        await asyncio.sleep(8)
        silence.ladder.busy("caller", True)
        await asyncio.sleep(1)
        silence.ladder.words()
        silence.ladder.busy("caller", False)
        return await listening

    assert run_virtually(story()) == [(5.0, "one"), (14.0, "one"), (20.0, "two"), (26.0, "bye")]


def test_noise_stops_the_clock_but_does_not_reset_the_ladder() -> None:
    """Sound without words only puts the next reprompt off."""

    async def story() -> list[tuple[float, str]]:
        silence = Silence()
        listening = asyncio.create_task(silence.listen(20))
        await asyncio.sleep(8)
        silence.ladder.busy("caller", True)
        await asyncio.sleep(1)
        silence.ladder.busy("caller", False)
        return await listening

    assert run_virtually(story()) == [(5.0, "one"), (14.0, "two")]


def test_no_reprompt_while_a_tool_runs() -> None:
    """A tool at work is no silence of the caller's."""

    async def story() -> list[tuple[float, str]]:
        silence = Silence()
        listening = asyncio.create_task(silence.listen(14))
        await asyncio.sleep(1)
        silence.ladder.busy("tool-1", True)
        await asyncio.sleep(7)
        silence.ladder.busy("tool-1", False)
        return await listening

    assert run_virtually(story()) == [(13.0, "one")]


def test_a_disabled_ladder_says_nothing() -> None:
    """`enabled: false` leaves the caller to their silence."""
    assert run_virtually(Silence(CONFIG.model_copy(update={"enabled": False})).listen(600)) == []
