"""Agent files with mistakes, and what is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_worker.config.agent_files import read_agent_file
from agent_worker.config.problems import ConfigErrors

GOOD = """\
name: desk
prompt: desk
numbers:
  - "+1 201 555 0123"
idleRePrompts:
  delayMs: 5000
tools:
  - end_call
  - name: transfer_call
    config:
      destinations:
        - {to: "+12015550188", label: Sales}
"""


def write(folder: Path, text: str, name: str = "desk.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read_agent_file(path)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]
