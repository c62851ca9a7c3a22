"""Tools are listed without running their files."""

from __future__ import annotations

from pathlib import Path

from agent_worker.toolbox.loader import load_tools
from agent_worker.toolbox.names import tool_names

TOOL = '''
import agent_worker.toolbox as toolbox
from agent_worker.toolbox import tool

Path("/nowhere").write_text("ran")

@tool(name="renamed", timeout_seconds=3)
async def first(control) -> str:
    """Do this.
    And that.

    Args: none.
    """

@toolbox.tool
async def second(control) -> str:
    return ""

async def no_tool() -> str:
    """Not one."""
'''


def test_the_shipped_tools_are_those_that_load(root: Path) -> None:
    """The same names as the worker finds, with a description each."""
    found = tool_names(root / "tools")
    assert found.keys() == load_tools(root / "tools").keys()
    assert all(found.values())


def test_a_file_is_read_and_not_run(tmp_path: Path) -> None:
    """Names as the decorator gives them; what cannot be read, and what begins with _, holds none."""
    (tmp_path / "tools.py").write_text(TOOL)
    (tmp_path / "_hidden.py").write_text(TOOL.replace("renamed", "hidden"))
    (tmp_path / "broken.py").write_text("async def (")
    (tmp_path / "binary.py").write_bytes(b"\\xff\\x00")
    assert tool_names(tmp_path) == {"renamed": "Do this. And that.", "second": ""}
    assert tool_names(tmp_path / "none") == {}
