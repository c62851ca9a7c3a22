"""Plans each call once, however often a worker asks: a webhook is not asked again because an answer got lost."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from agent_worker.control.base import ControlPlane
from agent_worker.domain.call import CallOffer, CallPlan, CallRefusal

KEEP_SECONDS = 60.0
"""Longer than any call rings before it is answered."""

MOST_KEPT = 2_000


@dataclass(frozen=True)
class _Asked:
    offer: CallOffer
    answer: asyncio.Task[CallPlan | CallRefusal]
    at: float


class OpenCalls:
    """Remembers for a while what was answered to which offer.

    Args:
        monotonic: clock in seconds.
    """

    def __init__(self, control: ControlPlane, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._control = control
        self._monotonic = monotonic
        self._asked: OrderedDict[str, _Asked] = OrderedDict()

    async def open_call(self, offer: CallOffer, *, budget_seconds: float) -> CallPlan | CallRefusal:
        """Return the answer to this offer: a new one, or the one being made or given already.

        Raises:
            ControlPlaneError: there is no answer now; asked again, it is tried again.
        """
        self._forget_old()
        known = self._asked.get(offer.call_id)
        if known is None or known.offer != offer or _has_failed(known.answer):
            planning = self._control.open_call(offer, budget_seconds=budget_seconds)
            answer = asyncio.create_task(planning, name=f"open-{offer.call_id}")
            answer.add_done_callback(_has_failed)  # reads its error, also where nobody waits for it any more
            known = _Asked(offer, answer, self._monotonic())
            self._asked[offer.call_id] = known
            self._asked.move_to_end(offer.call_id)
        # shielded: a worker that hangs up and asks again finds the webhook asked already
        return await asyncio.shield(known.answer)

    async def aclose(self) -> None:
        """Give up what is not answered yet."""
        tasks = [asked.answer for asked in self._asked.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._asked.clear()

    def _forget_old(self) -> None:
        now = self._monotonic()
        while self._asked:
            oldest = next(iter(self._asked.values()))
            if now - oldest.at < KEEP_SECONDS and len(self._asked) < MOST_KEPT:
                return
            self._asked.popitem(last=False)


def _has_failed(answer: asyncio.Task[CallPlan | CallRefusal]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
