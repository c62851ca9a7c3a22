"""Token buckets: how much passes in a minute, and that what is remembered is bounded."""

from __future__ import annotations

import pytest

from agent_worker.api import limits
from agent_worker.api.limits import Buckets, Failures, network_of


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minutes_worth_passes_at_once_and_then_one_at_a_time(clock: Clock) -> None:
    """A full bucket holds a minute's requests; after them one comes back every so many seconds."""
    buckets = Buckets(30, monotonic=clock)

    assert [buckets.take("key") for _ in range(30)] == [0] * 30
    assert buckets.take("key") == 2
    clock.now += 1.0
    assert buckets.take("key") == 1
    clock.now += 1.0
    assert buckets.take("key") == 0


def test_waiting_as_long_as_told_is_enough(clock: Clock) -> None:
    """Whoever waits for the seconds they were told is let through."""
    buckets = Buckets(7, monotonic=clock)
    for _ in range(7):
        buckets.take("key")
    for _ in range(20):
        clock.now += buckets.take("key")
        assert buckets.take("key") == 0


def test_one_key_does_not_use_up_anothers(clock: Clock) -> None:
    """Each name has a bucket of its own."""
    buckets = Buckets(1, monotonic=clock)

    assert (buckets.take("one"), buckets.take("two")) == (0, 0)
    assert (buckets.take("one"), buckets.take("two")) == (60, 60)


def test_zero_is_no_limit(clock: Clock) -> None:
    """Whoever wants no limit gets none, and nothing is remembered for it."""
    buckets = Buckets(0, monotonic=clock)

    assert [buckets.take("key") for _ in range(100)] == [0] * 100
    assert len(buckets) == 0


def test_a_bucket_is_never_more_than_full(clock: Clock) -> None:
    """A day without a request does not save up for a day of them."""
    buckets = Buckets(2, monotonic=clock)
    buckets.take("key")
    clock.now += 86_400

    assert [buckets.take("key") for _ in range(3)] == [0, 0, 30]


def test_memory_is_bounded(clock: Clock) -> None:
    """A million addresses are not remembered; the one that asked longest ago is forgotten first."""
    buckets = Buckets(1, most=100, monotonic=clock)
    for number in range(1_000):
        buckets.take(f"address-{number}")

    assert len(buckets) == 100
    assert buckets.take("address-999") > 0


def test_wrong_keys_close_an_address_for_strange_keys_only(clock: Clock) -> None:
    """After so many wrong keys others of that address are not looked at; one that was right before still is."""
    failures = Failures(Buckets(3, monotonic=clock))
    failures.right("good")
    for number in range(3):
        assert failures.wait("203.0.113.9", f"bad-{number}") == 0
        failures.wrong("203.0.113.9", f"bad-{number}")

    assert failures.wait("203.0.113.9", "bad-4") == 20
    assert failures.wait("203.0.113.9", "good") == 0
    assert failures.wait("203.0.113.10", "bad-4") == 0


def test_a_key_that_is_wrong_now_is_no_longer_known(clock: Clock) -> None:
    """A revoked key is a strange one again."""
    failures = Failures(Buckets(1, monotonic=clock))
    failures.right("key")
    failures.wrong("203.0.113.9", "key")

    assert failures.wait("203.0.113.9", "key") == 60


def test_known_keys_are_bounded(clock: Clock) -> None:
    """Not even right keys are remembered without end."""
    failures = Failures(Buckets(1, monotonic=clock))
    failures.wrong("203.0.113.9", "bad")
    for number in range(limits.MOST_GOOD_KEYS + 1):
        failures.right(f"key-{number}")

    assert failures.wait("203.0.113.9", "key-0") > 0
    assert failures.wait("203.0.113.9", "key-1") == 0


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:" + "x" * 100, "unix:" + "x" * 59),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, counted: str) -> None:
    """Whoever has one IPv6 address has all of its network, so it is the network that is counted."""
    assert network_of(address) == counted
