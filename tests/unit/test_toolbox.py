"""Tools: what is offered to a model, and what happens when it calls one."""

from __future__ import annotations

import asyncio
import logging
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from livekit.agents.llm import ToolError, ToolResult

from agent_worker.errors import ConfigError
from agent_worker.toolbox.binding import bind
from agent_worker.toolbox.loader import load_tools
from tests.tool_desk import Desk, call

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a tool file, with the usual imports above it, and returns its folder."""

    def write_file(body: str, name: str = "sample.py") -> Path:
        head = (
            "from __future__ import annotations\nimport asyncio\nfrom typing import Annotated, Literal, Optional\n"
            "from agent_worker.toolbox import CallControl, FromConfig, tool\n"
        )
        (tmp_path / name).write_text(head + textwrap.dedent(body), encoding="utf-8")
        return tmp_path

    return write_file


BOOK = '''
@tool(timeout_seconds=3)
async def book(control: CallControl, day: str, seats: int = 2, size: Literal["small", "large"] = "small",
               note: str | None = None, price: float = 1.5, window: bool = False,
               old: Optional[int] = None) -> str:
    """Book a table.

    Use it when the caller wants one.

    Args:
        day: The day, as
            the caller said it.
        seats: How many people.
        size: How big the table is.
        note: Anything else.
        price: What it costs.
        window: Whether at the window.
        old: An old number.

    Returns:
        whatever: this is not an argument.
    """
    return f"{day}/{seats!r}/{size}/{note}/{window!r}"
'''


def test_a_signature_becomes_a_schema(write: Write) -> None:
    """Types, choices, defaults and descriptions are what the model reads."""
    tool = load_tools(write(BOOK))["book"]

    assert tool.signature.description == "Book a table. Use it when the caller wants one."
    assert tool.signature.parameters_for({}) == {
        "type": "object",
        "properties": {
            "day": {"type": "string", "description": "The day, as the caller said it."},
            "seats": {"type": "integer", "description": "How many people."},
            "size": {"type": "string", "enum": ["small", "large"], "description": "How big the table is."},
            "note": {"type": ["string", "null"], "description": "Anything else."},
            "price": {"type": "number", "description": "What it costs."},
            "window": {"type": "boolean", "description": "Whether at the window."},
            "old": {"type": ["integer", "null"], "description": "An old number."},
        },
        "required": ["day"],
        "additionalProperties": False,
    }
    assert tool.meta.timeout_seconds == 3


async def test_arguments_reach_the_tool_typed_and_events_hold_none_of_them(write: Write) -> None:
    """A call runs with defaults filled in; start and end are events without the caller's words."""
    desk = Desk()

    result = await call(write(BOOK), "book", desk, day="Friday the secret", seats="4")

    assert result == ToolResult("Friday the secret/4/small/None/False")
    assert [name for name, _ in desk.events] == ["tool.started", "tool.ended"]
    assert desk.events[1][1]["outcome"] == "ok"
    assert desk.events[1][1]["duration_ms"] >= 0
    assert "secret" not in repr(desk.events)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [({}, "day"), ({"day": "Friday", "seats": "many"}, "seats"), ({"day": "x", "extra": 1}, "extra"),
     ({"day": "x", "size": "huge"}, "size")],
)  # fmt: skip
async def test_wrong_arguments_are_an_answer_for_the_model(write: Write, arguments: dict[str, Any], told: str) -> None:
    """The model is told which argument is wrong, so that it can ask the caller again."""
    desk = Desk()

    with pytest.raises(ToolError, match=told):
        await call(write(BOOK), "book", desk, **arguments)

    assert desk.events[-1][1]["outcome"] == "wrong_arguments"


async def test_a_failing_tool_does_not_leak_its_error(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """The model hears that it failed; the log has the error's type and place, and no word of the caller."""
    folder = write(
        '''
        @tool()
        async def fail(control: CallControl, name: str) -> str:
            """Fail.

            Args:
                name: A name.
            """
            raise RuntimeError(f"no record of {name}")
        '''
    )

    with caplog.at_level(logging.ERROR), pytest.raises(ToolError) as caught:
        await call(folder, "fail", Desk(), name="Ms Secret")

    assert "Secret" not in caught.value.message
    record = next(record for record in caplog.records if record.message == "tool failed")
    assert record.__dict__["error"].startswith("RuntimeError at ")
    assert record.__dict__["error"].endswith("sample.py:13")
    assert "Secret" not in repr(record.__dict__)


SLOW = '''
stopped = []

@tool(timeout_seconds=0.05)
async def slow(control: CallControl) -> str:
    """Wait for long."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        control.structured_data["stopped"] = True
        raise
    return "done"

@tool(timeout_seconds=60)
async def patient(control: CallControl) -> str:
    """Wait for longer."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        control.structured_data["stopped"] = True
        raise
    return "done"
'''


async def test_a_tool_past_its_time_is_stopped(write: Write) -> None:
    """After its timeout the tool is cancelled and the model is told."""
    desk = Desk()

    with pytest.raises(ToolError, match="too long"):
        await call(write(SLOW), "slow", desk)

    assert desk.structured_data == {"stopped": True}
    assert desk.events[-1][1]["outcome"] == "timeout"


async def test_a_tool_does_not_outlive_the_call(write: Write) -> None:
    """When the caller hangs up, a running tool is cancelled; one that has not begun never begins."""
    desk = Desk()
    folder = write(SLOW)
    running = asyncio.create_task(call(folder, "patient", desk))
    await asyncio.sleep(0.02)
    desk.ended.set()

    with pytest.raises(ToolError, match="over"):
        await asyncio.wait_for(running, 5)
    assert desk.structured_data == {"stopped": True}
    assert desk.events[-1][1]["outcome"] == "call_ended"

    desk.structured_data.clear()
    with pytest.raises(ToolError, match="over"):
        await call(folder, "patient", desk)
    assert desk.structured_data == {}


async def test_cancellation_passes_through_to_the_tool(write: Write) -> None:
    """Cancelling the model's turn cancels the tool, and is not turned into an answer."""
    desk = Desk()
    running = asyncio.create_task(call(write(SLOW), "patient", desk))
    await asyncio.sleep(0.02)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert desk.structured_data == {"stopped": True}
    assert desk.events[-1][1]["outcome"] == "cancelled"


async def test_calls_at_once_share_nothing(write: Write) -> None:
    """One loaded tool, bound twice: each call sees its own control and its own configuration."""
    folder = write(
        '''
        @tool()
        async def where(control: CallControl) -> str:
            """Say where."""
            control.structured_data["at"] = control.config["place"]
            await asyncio.sleep(0.01)
            return control.call_id + control.config["place"]
        '''
    )
    tool = load_tools(folder)["where"]
    desks = [Desk(call_id=f"c{index}") for index in range(5)]

    results = await asyncio.gather(
        *(bind(tool, desk, {"place": f"-p{i}"})(raw_arguments={}) for i, desk in enumerate(desks))
    )

    assert [result.output for result in results] == [f"c{i}-p{i}" for i in range(5)]
    assert [desk.structured_data["at"] for desk in desks] == [f"-p{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("x = 1", "holds no tool"),
        ("import nothing_of_that_name", "does not import: ModuleNotFoundError"),
        ("def broken(:\n    pass", "sample.py:6"),
        ("@tool()\nasync def quiet(control: CallControl) -> str:\n    return ''", "no docstring"),
        ('@tool()\ndef plain(control: CallControl) -> str:\n    """Do."""\n    return ""', "async def"),
        ('@tool()\nasync def none() -> str:\n    """Do."""\n    return ""', "first argument"),
        (
            '@tool()\nasync def f(control: CallControl, x) -> str:\n    """Do."""\n    return ""',
            "'x' needs a type",
        ),
        ('@tool()\nasync def f(control: CallControl, x: str) -> str:\n    """Do."""\n    return ""', "Args"),
        (
            '@tool()\nasync def f(control: CallControl, x: bytes) -> str:\n    """Do.\n\n    Args:\n        x: y.\n    """\n'
            '    return ""',
            "no model can fill in",
        ),
        (
            '@tool(name="a b")\nasync def f(control: CallControl) -> str:\n    """Do."""\n    return ""',
            "letters",
        ),
        (
            '@tool(config=dict)\nasync def f(control: CallControl) -> str:\n    """D."""\n    return ""',
            "pydantic model",
        ),
        (
            '@tool(timeout_seconds=0)\nasync def f(control: CallControl) -> str:\n    """D."""\n    return ""',
            "at most",
        ),
    ],
)
def test_a_tool_that_cannot_be_offered_is_one_clear_error(write: Write, body: str, told: str) -> None:
    """What is wrong with a tool file is said when it is loaded, with the file's name, never on a call."""
    with pytest.raises(ConfigError, match=r"sample\.py") as caught:
        load_tools(write("\n" + body))

    assert told in str(caught.value)


def test_two_tools_of_one_name_are_told(write: Write) -> None:
    """The second file is named, and the first."""
    folder = write(SLOW, "a.py")
    write(SLOW, "b.py")

    with pytest.raises(ConfigError, match=r"b\.py: .*a\.py already"):
        load_tools(folder)


def test_a_tool_file_may_be_called_like_a_library(write: Write) -> None:
    """`tools/json.py` shadows nothing, and a file that begins with _ is not a tool."""
    folder = write(BOOK, "json.py")
    (folder / "_shared.py").write_text("raise RuntimeError", encoding="utf-8")

    assert set(load_tools(folder)) == {"book"}
    import json

    assert json.loads("1") == 1
