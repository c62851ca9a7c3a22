"""An API key: what it looks like, what is kept of it, and how much it allows."""

from __future__ import annotations

import hashlib
import secrets
from enum import IntEnum

KEY_PREFIX = "aw_live_"


class Scope(IntEnum):
    """What a key allows; each allows what is below it.

    `read` sees calls and configuration, `operate` acts on calls (end, message, transfer, dial, notes), `admin`
    changes configuration (agents, tools, numbers, webhooks) and deletes.
    """

    READ = 1
    OPERATE = 2
    ADMIN = 3


def new_key() -> str:
    """Return a fresh key; it is shown once, and only its hash is kept."""
    return f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"


def hash_of(key: str) -> str:
    """Return what is kept of a key: looking a key up by it tells nobody, by the time it takes, what the key is."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()


def shown_of(key: str) -> str:
    """Return what a key is told apart by in a list: its last characters."""
    return key[-4:]
