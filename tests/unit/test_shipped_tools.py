"""The tools that ship: what each does on a call, and what it never claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from livekit.agents.llm import ToolError

from agent_worker.domain.call import DisconnectionReason
from agent_worker.toolbox.binding import bind
from agent_worker.toolbox.loader import load_tools
from tests.tool_desk import Desk, call


def test_the_tools_that_ship_load(root: Path) -> None:
    """Each file in tools/ can be offered to a model."""
    assert set(load_tools(root / "tools")) >= {"end_call", "take_message", "transfer_call"}


async def test_end_call_says_the_farewell_and_hangs_up(root: Path) -> None:
    """The agent's goodbye is the control's to speak to its end, and the model adds nothing."""
    desk = Desk()

    result = await call(root / "tools", "end_call", desk, reason="done", farewell="Have a nice day.")

    assert desk.endings == [(DisconnectionReason.AGENT_HANGUP, "Have a nice day.")]
    assert result.reply_required is False
    assert [name for name, _ in desk.events] == ["tool.started", "call.end_tool.completed", "tool.ended"]
    assert desk.events[-1][1]["outcome"] == "ok"


async def test_take_message_fills_the_report(root: Path) -> None:
    """Name, number and message are in the call's structured data."""
    desk = Desk()

    await call(root / "tools", "take_message", desk, name=" Ada ", message="Call me.", number="+12015550123")

    assert desk.structured_data["message"] == {"name": "Ada", "number": "+12015550123", "message": "Call me."}


TRANSFER = {"destinations": [{"label": "Sales", "to": "+12015550188"}, {"label": "Billing", "to": "+12015550189"}]}


def test_a_model_sees_labels_and_never_a_number(root: Path) -> None:
    """What a model can choose from is the labels of the agent's file."""
    bound = bind(load_tools(root / "tools")["transfer_call"], Desk(), TRANSFER)

    schema = bound.info.raw_schema
    assert schema["parameters"]["properties"]["destination"]["enum"] == ["Sales", "Billing"]
    assert "+1" not in repr(schema)


async def test_transfer_call_begins_a_transfer_and_the_model_adds_nothing(root: Path) -> None:
    """Whom the model chose is called, with what it says of the call; the announcement is the transfer's to say."""
    desk = Desk()
    said = {"destination": "Billing", "reason": " price ", "summary": "Ada asks for invoice 7."}

    result = await call(root / "tools", "transfer_call", desk, TRANSFER, **said)

    [plan] = desk.plans
    assert (plan.destinations[0].to, plan.reason, plan.summary) == ("+12015550189", "price", "Ada asks for invoice 7.")
    assert plan.announcement == "One moment, I will put you through to Billing."
    assert result.reply_required is False
    assert desk.said == []
    assert desk.structured_data["transfer_requested"] == {"destination": "Billing", "reason": "price"}


@pytest.mark.parametrize(
    ("config", "why_not", "word"),
    [({}, "This line is not connected: nobody was called.", "not connected"), ({"simulated": True}, None, "simulated")],
)
async def test_transfer_call_never_claims_a_transfer(
    root: Path, config: dict[str, Any], why_not: str | None, word: str
) -> None:
    """The model is told that nobody was called and answers, the wish is noted for the report, no number is named."""
    desk = Desk(why_not=why_not)

    with pytest.raises(ToolError) as told:
        await call(root / "tools", "transfer_call", desk, TRANSFER | config, destination="Sales", reason="price")

    assert "nobody" in told.value.message
    assert word in told.value.message
    assert "+1" not in told.value.message
    assert desk.structured_data["transfer_requested"] == {"destination": "Sales", "reason": "price"}
    unavailable = [payload for name, payload in desk.events if name == "transfer.unavailable"]
    assert unavailable == ([{"destination": "Sales", "simulated": True}] if config else [])
    assert desk.events[-1][1]["outcome"] == "refused"
    assert len(desk.plans) == (0 if config else 1)


@pytest.mark.parametrize("destination", ["+12015550199", "Marketing"])
async def test_transfer_call_refuses_what_is_not_in_the_file(root: Path, destination: str) -> None:
    """A number or a name the model made up is refused before the tool runs."""
    desk = Desk()

    with pytest.raises(ToolError, match="must be one of Sales, Billing"):
        await call(root / "tools", "transfer_call", desk, TRANSFER, destination=destination)

    assert desk.structured_data == {}


async def test_transfer_call_without_a_name_takes_whoever_comes_first(root: Path) -> None:
    """Left out or empty: the order of the file."""
    for said in ({}, {"destination": ""}):
        desk = Desk()
        await call(root / "tools", "transfer_call", desk, TRANSFER, **said)
        assert desk.plans[0].destinations[0].label == "Sales"


async def test_transfer_call_takes_a_number_only_where_the_operator_says_so(root: Path) -> None:
    """The model reads that it may give one, and gives one; a name that is neither is refused."""
    config = TRANSFER | {"allowArbitrary": True}
    bound = bind(load_tools(root / "tools")["transfer_call"], Desk(), config)
    destination = bound.info.raw_schema["parameters"]["properties"]["destination"]
    assert "enum" not in destination
    assert destination["examples"] == ["Sales", "Billing"]
    assert "E.164" in destination["description"]
    desk = Desk()
    await call(root / "tools", "transfer_call", desk, config, destination="+12015550199")
    assert [to.to for to in desk.plans[0].destinations] == ["+12015550199"]
    with pytest.raises(ToolError, match="Nobody but Sales, Billing"):
        await call(root / "tools", "transfer_call", desk, config, destination="my brother")


async def test_transfer_call_without_destinations_offers_a_message(root: Path) -> None:
    """With nobody in the file, nobody can be asked for."""
    with pytest.raises(ToolError, match=r"^Nobody can be asked for\."):
        await call(root / "tools", "transfer_call", Desk(), {}, destination="Sales")
