"""The name of the disk this process has its data folder on: files on it are nobody else's to bring or to delete."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from agent_worker.made_once import read_or_make

FILE = "disk-name"


def disk_name(data_dir: Path) -> str:
    """Return the data folder's own name, made at first use: a host may be renamed, as containers are at every start.

    Where the folder cannot be written nothing is recorded to it either, and the host's name has to do.
    """
    path = data_dir / FILE
    try:
        return read_or_make(path, lambda: f"{socket.gethostname()}.{secrets.token_hex(6)}")
    except OSError:
        return socket.gethostname()
