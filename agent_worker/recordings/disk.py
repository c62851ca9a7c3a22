"""The name of the disk this process has its data folder on: files on it are nobody else's to bring or to delete."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

FILE = "disk-name"


def disk_name(data_dir: Path) -> str:
    """Return the data folder's own name, made at first use: a host may be renamed, as containers are at every start.

    Where the folder cannot be written nothing is recorded to it either, and the host's name has to do.
    """
    path = data_dir / FILE
    try:
        return _read(path) or _make(path)
    except OSError:
        return socket.gethostname()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _make(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.write_text(f"{socket.gethostname()}.{secrets.token_hex(6)}\n", encoding="utf-8")
    try:
        # a link fails where the name exists: of several processes that start at once, one makes the name
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return _read(path)
