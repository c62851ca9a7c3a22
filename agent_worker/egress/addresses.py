"""Which IP addresses are not on the public internet, and the spellings an address hides behind."""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA = "cloud metadata"
"""The kind of addresses that hand out a machine's own credentials."""

# The IANA registries of special-purpose addresses, in our own table: Python's versions differ in what they know.
_SPECIAL: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        METADATA,
        (
            "169.254.169.254/32",
            "169.254.170.2/32",
            "169.254.170.23/32",
            "100.100.100.200/32",
            "168.63.129.16/32",  # Azure's, in a public range
            "192.0.0.192/32",
            "fd00:ec2::/32",
            "fd20:ce::254/128",
            "fd00:42::42/128",
            "fd00:c1::a9fe:a9fe/128",
        ),
    ),
    ("unspecified", ("0.0.0.0/8", "::/128")),
    ("loopback", ("127.0.0.0/8", "::1/128")),
    ("private", ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")),
    ("link-local", ("169.254.0.0/16", "fe80::/10")),
    ("multicast", ("224.0.0.0/4", "ff00::/8")),
    (
        "reserved",
        (
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
            "2001::/23",  # Teredo, benchmarks, ORCHID
            "2001:db8::/32",
            "2002::/16",  # 6to4: carries an IPv4 address of anybody's choice
            "3fff::/20",
        ),
    ),
)
_TABLE: tuple[tuple[Network, str], ...] = tuple(
    (ipaddress.ip_network(network), kind) for kind, networks in _SPECIAL for network in networks
)
_PUBLIC_IPV6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_NUMBER = re.compile(r"0x[0-9a-f]{0,32}|[0-9]{1,32}")


def special_kind(address: Address) -> str | None:
    """Return what kind of special address this is, in a word or two, or None where it is a public one."""
    for network, kind in _TABLE:
        if address in network:
            return kind
    return "reserved" if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6 else None


def reached_address(address: Address) -> Address:
    """Return the address that is reached in the end: the IPv4 one inside a mapped or a translated IPv6 one."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def read_address(text: str) -> Address | None:
    """Return the address in a host's usual or unusual spelling, or None where the host is a name.

    Systems read `2130706433`, `0x7f.1` and `0177.0.0.1` as addresses; so does this.

    Raises:
        ValueError: it ends in a number, as no name does, and is no address.
    """
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    parts = text.split(".")
    if not _NUMBER.fullmatch(parts[-1]):
        return None
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{text} is neither a name nor an address")
    *heads, tail = (_number(part) for part in parts)
    if any(head > 255 for head in heads) or tail >= 256 ** (4 - len(heads)):
        raise ValueError(f"{text} is no IPv4 address")
    value = tail
    for place, head in enumerate(heads):
        value += head << (24 - 8 * place)
    return IPv4Address(value)


def _number(part: str) -> int:
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if len(part) > 1 and part.startswith("0") else 10)
