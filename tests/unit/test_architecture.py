"""What keeps the code readable, checked by a machine: sizes, opening sentences, who may know LiveKit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "agent_worker").rglob("*.py")) + sorted((ROOT / "tools").glob("*.py"))
MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
LIVEKIT_HOMES = {"worker", "host", "call", "providers", "toolbox", "telephony", "simulation", "testing", "doctor"}
NAMES_THAT_SAY_NOTHING = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "core",
    "managers",
    "manager",
    "misc",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_small_and_says_what_it_is(path: Path) -> None:
    """At most 400 lines, functions at most 60, an opening sentence, and a name that says something."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)

    assert len(text.splitlines()) <= MAX_MODULE_LINES
    assert not {path.stem, path.parent.name} & NAMES_THAT_SAY_NOTHING
    if tree.body:
        docstring = ast.get_docstring(tree)
        assert docstring, "no opening sentence"
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
        and "migrations" not in path.parts
    ]
    assert long == []


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_livekit_is_known_in_a_few_places_only(path: Path) -> None:
    """A module outside the folders that speak to LiveKit does not import it."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    home = parts[1] if parts[0] == "agent_worker" and len(parts) > 1 else parts[0]
    names = imported(ast.parse(path.read_text(encoding="utf-8")))

    if home not in LIVEKIT_HOMES:
        assert {name for name in names if name.split(".")[0] == "livekit"} == set()


def test_no_mock_of_our_own_names() -> None:
    """Tests pass fakes; none of them patches a name of ours."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        assert "unittest.mock" not in imported(ast.parse(path.read_text(encoding="utf-8"))), name_of(path)


def test_shipped_files_name_no_machine_and_no_registry() -> None:
    """No absolute path of a developer's machine, and no host of a package registry, is in the tree."""
    words = [
        "/wo" + "rk/",
        "/ro" + "ot/",
        "/ho" + "me/",
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "proxy.golang" + ".org",
    ]
    for folder in ("agent_worker", "tools", "prompts", "agents", "docs", "tests", "bench", ".ci", "deploy"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".md", ".yaml", ".toml", ".sh", ".conf", ".service", ""} and path.is_file():
                text = path.read_text(encoding="utf-8", errors="ignore")
                assert [word for word in words if word in text] == [], name_of(path)
