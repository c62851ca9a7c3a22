"""A small file that is made at its first use and stays: several processes that start at once make one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path


def read_or_make(path: Path, make: Callable[[], str]) -> str:
    """Return the file's text without its margins; where it is missing or empty, it is made, readable by its owner.

    Args:
        make: returns what is to be in it, ASCII.

    Raises:
        OSError: it can neither be read nor made.
    """
    return _read(path) or _make(path, make())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _make(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, f"{text}\n".encode("ascii"))
        os.fsync(file)
        # a link fails where the name exists: of several processes that start at once, one makes the file
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.close(file)
        draft.unlink()
    return _read(path)
