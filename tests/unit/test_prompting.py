"""Prompts: text files, read once, with an error that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.errors import ConfigError
from agent_worker.prompting import prompt, prompt_names


def test_a_prompt_is_the_files_text(tmp_path: Path) -> None:
    """Blank lines around the text are not part of it."""
    (tmp_path / "desk.md").write_text("\n\nBe kind — always.\n\n", encoding="utf-8")

    assert prompt("desk", tmp_path) == "Be kind — always."
    assert prompt_names(tmp_path) == ["desk"]


@pytest.mark.parametrize("name", ["../secrets", "a/b", ".env", "a\\b"])
def test_a_prompts_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    """A name is a file of the folder and nothing else."""
    with pytest.raises(ConfigError, match="is not the name of a prompt"):
        prompt(name, tmp_path)


def test_a_missing_prompt_names_the_nearest(tmp_path: Path) -> None:
    """A typo is answered with the name that was meant, an empty folder with what to do."""
    with pytest.raises(ConfigError, match=r"has no \*\.md yet"):
        prompt("desk", tmp_path)
    (tmp_path / "front-desk.md").write_text("x", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"front-dsk\.md\. Did you mean 'front-desk'\?"):
        prompt("front-dsk", tmp_path)


def test_an_unreadable_prompt_says_why(tmp_path: Path) -> None:
    """Not text, empty, or not a file: each is one sentence with the file's name."""
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.md").write_text("  \n", encoding="utf-8")
    (tmp_path / "folder.md").mkdir()

    for name, told in (("bytes", "is not UTF-8 text"), ("empty", "is empty"), ("folder", "cannot be read")):
        with pytest.raises(ConfigError, match=rf"{name}\.md {told}"):
            prompt(name, tmp_path)
