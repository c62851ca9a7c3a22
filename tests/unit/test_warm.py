"""What a warm transfer stands on: one thing given up for another, and never the end of the call missed over it."""

from __future__ import annotations

import asyncio

import pytest

from agent_worker.call.transfer.warm import _unless


async def slow_to_stop() -> str:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0.1)
    return "done"


async def test_what_is_given_up_is_over_before_anything_else_begins() -> None:
    """As a phone that is to stop ringing before the next one rings."""
    decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    giving_up = asyncio.create_task(_unless(slow_to_stop(), decided))
    await asyncio.sleep(0.01)
    decided.set_result(None)
    await asyncio.sleep(0.05)
    assert not giving_up.done()
    assert await giving_up is None


async def test_the_end_of_the_call_is_not_lost_while_something_is_given_up() -> None:
    """A cancellation in that very moment goes through: nobody is dialled for a caller who is gone."""
    decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    giving_up = asyncio.create_task(_unless(slow_to_stop(), decided))
    await asyncio.sleep(0.01)
    decided.set_result(None)
    await asyncio.sleep(0.05)
    giving_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await giving_up
