"""Which tools a folder holds, read without running what is in it: whoever only lists tools need not trust them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def tool_names(tools_dir: Path) -> dict[str, str]:
    """Return the tools of the folder by name, each with the first paragraph of what a model reads of it.

    A file that cannot be read holds none: the worker, which runs it, says why.
    """
    found: dict[str, str] = {}
    for path in sorted(tools_dir.glob("*.py")):
        if not path.name.startswith("_"):
            found.update(_tools_of(path))
    return found


def _tools_of(path: Path) -> Iterator[tuple[str, str]]:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in module.body:
        if isinstance(node, ast.AsyncFunctionDef) and (name := _name_of(node)) is not None:
            yield name, (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")


def _name_of(function: ast.AsyncFunctionDef) -> str | None:
    """Return the name `@tool(…)` gives a function, None where it is no tool."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) != "tool":
            continue
        for keyword in decorator.keywords if isinstance(decorator, ast.Call) else ():
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
        return function.name
    return None
