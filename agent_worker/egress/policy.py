"""Decides which hosts and addresses an agent's URL may reach."""

from __future__ import annotations

from dataclasses import dataclass

from agent_worker.egress.addresses import METADATA, Address, reached_address, read_address, special_kind
from agent_worker.egress.allow_list import VARIABLE, AllowList
from agent_worker.egress.destination import Destination, read_url
from agent_worker.errors import EgressError

# Names that stand for a machine or a network of one's own, wherever they are asked for.
_LOCAL_SUFFIXES = (
    ".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home", ".home.arpa", ".corp",
    ".private",
)  # fmt: skip


@dataclass(frozen=True)
class AddressPolicy:
    """Public hosts over https, and what the operator allows besides.

    A host that is allowed by name is trusted with whatever it resolves to; a network is trusted whatever the name is.
    Where a network is allowed, plain http and local names wait for their addresses: all must then be inside it.
    """

    allow: AllowList

    @classmethod
    def of(cls, allow: str) -> AddressPolicy:
        """Return the policy with this value of AGENT_WORKER_EGRESS_ALLOW.

        Raises:
            SettingsError: an entry is wrong; the sentence names it.
        """
        return cls(AllowList.of(allow))

    def check_url(self, url: str) -> Destination:
        """Return where the URL leads, as far as that can be said without asking DNS.

        Raises:
            EgressError: the URL is malformed, or leads where no agent's URL may lead.
        """
        destination = read_url(url)
        address = destination.address
        if address is not None:
            self._check(destination, address)
        elif not self.allow.match(destination.host, destination.port) and not self.allow.networks:
            if is_local_name(destination.host):
                raise _refused(destination, "is a local name")
            if destination.scheme == "http":
                raise _plain(destination)
        return destination

    def check_address(self, destination: Destination, address: str) -> None:
        """Check one address the host resolves to; a host may be reached only if none of its addresses is refused.

        Raises:
            EgressError: a request for this destination may not go to this address.
        """
        try:
            read = read_address(address)
        except ValueError:
            read = None
        if read is None:
            raise _refused(destination, "resolves to something that is no address")
        self._check(destination, read)

    def _check(self, destination: Destination, address: Address) -> None:
        reached = reached_address(address)
        if self.allow.holds(reached, destination.port):
            return
        named = self.allow.match(destination.host, destination.port)
        kind = special_kind(reached)
        # "everything below a domain" does not mean the machine's own credentials
        if kind is not None and (named is None or (kind == METADATA and named != "exact")):
            raise _refused(destination, f"{'is' if destination.address else 'resolves to'} a {kind} address")
        if named is None:
            if destination.address is None and is_local_name(destination.host):
                raise _refused(destination, "is a local name")
            if destination.scheme == "http":
                raise _plain(destination)


def is_local_name(host: str) -> bool:
    """Return whether the name is one of a machine or a network of one's own."""
    return "." not in host or host.endswith(_LOCAL_SUFFIXES) or host == "home.arpa"


def _refused(destination: Destination, why: str) -> EgressError:
    return EgressError(
        "egress_address_refused",
        f"{destination.host} {why}, which an agent's URL may not reach.",
        remedy=f"Use a public https address; if the host is your own, add it to {VARIABLE}.",
    )


def _plain(destination: Destination) -> EgressError:
    return EgressError(
        "egress_scheme",
        f"{destination.host} may be reached over https only.",
        remedy=f"Use https; if the host is your own, add it to {VARIABLE}, and http is allowed there.",
    )
