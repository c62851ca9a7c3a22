"""Where a URL leads, read so strictly that no two readers of it can disagree."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import quote

import httpx

from agent_worker.egress.addresses import Address, read_address
from agent_worker.errors import EgressError

MAX_URL_LENGTH = 2_048
DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"(https?)://([^/?]*)([^?]*)(\?.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# Spaces, control characters and the backslash, which some readers take for a slash.
_NEVER = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ufeff]")
_TARGET_SAFE = "/?:@!$&'()*+,;=%~-._"


@dataclass(frozen=True)
class Destination:
    """One place a request may go to.

    Attributes:
        scheme: `http` or `https`.
        host: name in lower case ASCII without a trailing dot, or an address in its usual spelling.
        target: path and query as they are sent; operators keep tokens there, so it is never shown.
    """

    scheme: str
    host: str
    port: int
    target: str = field(default="/", repr=False)

    @property
    def address(self) -> Address | None:
        """The address, where the host is one."""
        return read_address(self.host)

    @property
    def host_header(self) -> str:
        """What the `Host` header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def read_url(url: str) -> Destination:
    """Return where this URL leads.

    Raises:
        EgressError: it is not an absolute http(s) URL, or one that two readers could read differently.
    """
    if len(url) > MAX_URL_LENGTH:
        raise _wrong(f"is longer than {MAX_URL_LENGTH} characters")
    if _NEVER.search(url):
        raise _wrong("has a space, a control character or a backslash in it")
    if "#" in url:
        raise _wrong("has a #fragment, which no server is sent")
    found = _URL.fullmatch(url)
    if found is None:
        raise _wrong("does not start with https://")
    scheme, authority, path, query = found[1].lower(), found[2], found[3], found[4] or ""
    if "@" in authority:
        raise _wrong("has a user name or password in it", "Send credentials in a header.")
    if "%" in authority:
        raise _wrong("has a % in its host")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise _wrong("has no host, or a host or port that is none")
    port = int(parts[3]) if parts[3] else DEFAULT_PORTS[scheme]
    if not 1 <= port <= 65_535:
        raise _wrong("has a port that is not between 1 and 65535")
    host = read_host(parts[1] or parts[2], bracketed=parts[1] is not None)
    try:
        target = quote((path or "/") + query, safe=_TARGET_SAFE)
    except UnicodeEncodeError as error:
        raise _wrong("has a character in it that no text has") from error
    return Destination(scheme, host, port, target)


def read_host(written: str, *, bracketed: bool = False) -> str:
    """Return a host in its one spelling: lower case, ASCII, no trailing dot; an address as usual.

    Raises:
        EgressError: it is neither a name nor an address.
    """
    try:
        if bracketed:
            return str(IPv6Address(written))
        host = _ascii(written).lower().removesuffix(".")
        address = read_address(host)
    except (ValueError, httpx.InvalidURL) as error:
        raise _wrong("has a host that is neither a name nor an address") from error
    if isinstance(address, IPv6Address):
        raise _wrong("has an IPv6 address without brackets")
    if address is not None:
        return str(address)
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in host.split(".")):
        raise _wrong("has a host that is neither a name nor an address")
    return host


def _ascii(host: str) -> str:
    return host if host.isascii() else httpx.URL(f"https://{host}/").raw_host.decode("ascii")


def _wrong(what: str, remedy: str = "Write it as https://host/path.") -> EgressError:
    return EgressError("egress_url_invalid", f"The URL {what}.", remedy=remedy)
