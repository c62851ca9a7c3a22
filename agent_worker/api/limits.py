"""How much is asked in a minute: a token bucket for each key, and one for each address that shows wrong keys.

What is kept is bounded, however many keys and addresses there are, and is this process's own: several replicas
together let several times as much pass.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

MOST_BUCKETS = 10_000
MOST_GOOD_KEYS = 10_000
_IPV6_NETWORK = 64
"""Whoever has one IPv6 address has all of its network."""


class Buckets:
    """One bucket for each name, full at first: as many tokens as there are for a minute.

    Args:
        per_minute: tokens that come back in a minute; 0 = without limit.
        monotonic: clock in seconds.
    """

    def __init__(
        self, per_minute: int, *, most: int = MOST_BUCKETS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = per_minute
        self._per_second = per_minute / 60
        self._most = most
        self._monotonic = monotonic
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str) -> int:
        """Take a token; returns 0, or where there is none in how many seconds there will be one."""
        wait = self.wait(name)
        if self._size and not wait:
            self._levels[name] = (self._level(name) - 1, self._monotonic())
            self._levels.move_to_end(name)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)  # asked longest ago, so the fullest or nearly
        return wait

    def wait(self, name: str) -> int:
        """Return in how many whole seconds there will be a token; 0 where there is one."""
        missing = 1 - self._level(name) if self._size else 0
        return math.ceil(missing / self._per_second) if missing > 0 else 0

    def _level(self, name: str) -> float:
        level, at = self._levels.get(name, (float(self._size), 0.0))
        return min(float(self._size), level + (self._monotonic() - at) * self._per_second)


class Failures:
    """Who shows wrong keys, and for how long nobody looks at a strange key of theirs.

    Keys that were right before are let through: a proxy's address is everybody's.
    """

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self._good: OrderedDict[str, None] = OrderedDict()

    def wait(self, address: str, hashed: str) -> int:
        """Return for how many seconds this key of this address is not looked at; 0 where it is."""
        return 0 if hashed in self._good else self._buckets.wait(network_of(address))

    def wrong(self, address: str, hashed: str) -> None:
        """Note that the key is nobody's."""
        self._good.pop(hashed, None)
        self._buckets.take(network_of(address))

    def right(self, hashed: str) -> None:
        """Note that the key is somebody's."""
        self._good[hashed] = None
        self._good.move_to_end(hashed)
        if len(self._good) > MOST_GOOD_KEYS:
            self._good.popitem(last=False)


def network_of(address: str) -> str:
    """Return the address that is counted: IPv4 as it is, IPv6 its network."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK), strict=False))
