"""Many small calls of every kind, as facts, for tests of lists."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from agent_worker.control.embedded import EmbeddedControlPlane
from agent_worker.domain.call import CallStatus, Direction, DisconnectionReason
from agent_worker.domain.fact import CallAnswered
from tests.call_facts import START, CallStory

AGENTS = ("front-desk", "back-office", "night-shift")
CAMPAIGNS = (None, "spring", "autumn")
CUSTOMERS = ("+12015550101", "+12015550102", "+4915112345678")
OWN = ("+12015550199", "+12015550198")
REASONS = (
    DisconnectionReason.USER_HANGUP,
    DisconnectionReason.ERROR,
    DisconnectionReason.DIAL_NO_ANSWER,
    DisconnectionReason.DIAL_BUSY,
)


def made_calls(number: int, seed: int = 3, organization: str = "org_local") -> list[CallStory]:
    """Return calls a minute apart, oldest first; the last three are live."""
    chance = random.Random(seed)
    return [_made(chance, index, index >= number - 3, organization) for index in range(number)]


def _made(chance: random.Random, index: int, is_live: bool, organization: str) -> CallStory:
    story = CallStory(f"call-{index:03d}", start=START + timedelta(minutes=index), organization=organization)
    direction = chance.choice((Direction.INBOUND, Direction.OUTBOUND))
    customer, own = chance.choice(CUSTOMERS), chance.choice(OWN)
    campaign = chance.choice(CAMPAIGNS)
    story.opened(
        direction=direction,
        status=CallStatus.DIALING if direction is Direction.OUTBOUND else CallStatus.CONNECTING,
        caller_number=own if direction is Direction.OUTBOUND else customer,
        dialed_number=customer if direction is Direction.OUTBOUND else own,
        agent_id=chance.choice(AGENTS),
        metadata={"campaignId": campaign} if campaign else {},
    )
    reason = chance.choice(REASONS if direction is Direction.OUTBOUND else REASONS[:2])
    if reason is DisconnectionReason.USER_HANGUP:
        story.add(CallAnswered)
        story.said(0, "user", "Hello?")
    if not is_live:
        name = chance.choice(("Maya", "Zoë", "Omar"))
        story.ended(reason, structured_data={"message": {"name": f"{name} Meier"}})
    return story


async def record(control: EmbeddedControlPlane, stories: list[CallStory]) -> None:
    """Write the calls."""
    await control.record([fact for story in stories for fact in story.facts])


def newest_first(stories: list[CallStory], *passing: Any) -> list[str]:
    """Return the ids of those calls whose story passes."""
    return [story.call_id for story in reversed(stories) if all(passes(story) for passes in passing)]
