"""Links to recordings that need no API key: signed, for one recording, in one form, until one moment."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import cast, get_args

from agent_worker.recordings.place import Channels

PATH = "/recordings"
MOST_TOKEN_CHARS = 1_000

_PURPOSE = b"agent_worker recording links, version 1"
_SIGNATURE_BYTES = 32


@dataclass(frozen=True)
class Link:
    """What a token stands for.

    Attributes:
        expires: seconds since the epoch.
    """

    call_id: str
    channels: Channels
    expires: int


class LinkSigner:
    """Makes and reads tokens; processes with the same secret agree.

    Args:
        secret: what webhooks are signed with; links are signed with a key made of it, which tells nothing about it.
    """

    def __init__(self, secret: str) -> None:
        self._key = hmac.new(secret.encode(), _PURPOSE, hashlib.sha256).digest()

    def token(self, link: Link) -> str:
        """Return the token of a link."""
        claim = json.dumps([link.call_id, link.channels, link.expires], separators=(",", ":")).encode()
        signature = hmac.new(self._key, claim, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signature + claim).rstrip(b"=").decode()

    def read(self, token: str) -> Link | None:
        """Return what a token stands for, whether or not it has expired; None where we did not make it."""
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            call_id, channels, expires = json.loads(raw[_SIGNATURE_BYTES:])
            link = Link(call_id, cast(Channels, channels), expires)
            known = isinstance(call_id, str) and type(expires) is int and channels in get_args(Channels)
            # made anew and compared whole: a token has one spelling, and a wrong one is not told byte by byte
            made = self.token(link) if known else ""
        except (ValueError, TypeError, RecursionError, binascii.Error):
            return None
        return link if hmac.compare_digest(made.encode(), token.encode(errors="replace")) else None
