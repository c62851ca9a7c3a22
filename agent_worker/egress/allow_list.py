"""The operator's own hosts and networks, which agents' URLs may reach though they are not public."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from agent_worker.egress.addresses import Address, Network, read_address
from agent_worker.egress.destination import read_host
from agent_worker.errors import EgressError, SettingsError

VARIABLE = "AGENT_WORKER_EGRESS_ALLOW"

_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?")
_WITH_PORT = re.compile(r"([^:]+):([0-9]{1,5})")

Match = Literal["exact", "wildcard"]
Port = int | None


@dataclass(frozen=True)
class AllowList:
    """What an operator wrote, read; a port of None stands for any."""

    hosts: frozenset[tuple[str, Port]] = frozenset()
    suffixes: tuple[tuple[str, Port], ...] = ()
    networks: tuple[tuple[Network, Port], ...] = ()

    @classmethod
    def of(cls, text: str) -> AllowList:
        """Read names (`crm.example.com`, `*.example.com`), addresses and networks, each with or without `:port`.

        Raises:
            SettingsError: an entry is none of these; the sentence names it.
        """
        hosts: set[tuple[str, Port]] = set()
        suffixes: list[tuple[str, Port]] = []
        networks: list[tuple[Network, Port]] = []
        for entry in filter(None, (part.strip() for part in text.split(","))):
            host, port = _split(entry)
            network = _network(entry, host)
            if network is not None:
                networks.append((network, port))
            elif host.startswith("*."):
                suffixes.append(("." + _name(entry, host[2:]), port))
            else:
                hosts.add((_name(entry, host), port))
        return cls(frozenset(hosts), tuple(suffixes), tuple(networks))

    def match(self, host: str, port: int) -> Match | None:
        """Return how an entry names this host, if one does."""
        if (host, None) in self.hosts or (host, port) in self.hosts:
            return "exact"
        if any(host.endswith(suffix) and allowed in (None, port) for suffix, allowed in self.suffixes):
            return "wildcard"
        return None

    def holds(self, address: Address, port: int) -> bool:
        """Return whether the address is in an allowed network."""
        return any(address in network and allowed in (None, port) for network, allowed in self.networks)


def _split(entry: str) -> tuple[str, Port]:
    found = _BRACKETED.fullmatch(entry) or _WITH_PORT.fullmatch(entry)
    if found is None:
        return entry.lower(), None
    port = None if found[2] is None else int(found[2])
    if port is not None and not 1 <= port <= 65_535:
        raise _wrong(entry)
    return found[1].lower(), port


def _network(entry: str, host: str) -> Network | None:
    try:
        network = ipaddress.ip_network(host, strict=False)
    except ValueError:
        return None
    address = host.partition("/")[0]
    if "/" in host and str(network.network_address) != str(ipaddress.ip_address(address)):
        raise _wrong(entry, f"Write {network} for the whole network, or {address} for the one address.")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise _wrong(entry, "Write an IPv4 address as four decimal numbers.")
    return network


def _name(entry: str, name: str) -> str:
    try:
        host = read_host(name)
        if read_address(host) is not None:
            raise _wrong(entry, f"Write {host}.")
    except EgressError as error:
        raise _wrong(entry) from error
    return host


def _wrong(
    entry: str,
    remedy: str = "Write host names (*.example.com for all below one), addresses and networks, each with or without "
    ":port, separated by commas.",
) -> SettingsError:
    return SettingsError(
        "egress_allow_invalid",
        f"{VARIABLE}: {entry[:200]!r} is not a host name, an address or a network.",
        remedy=remedy,
    )
