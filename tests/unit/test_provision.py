"""Provisioning: what is desired of LiveKit, and the steps from any state to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from livekit import api

from agent_worker.cli_provision import as_dict, change_lines
from agent_worker.domain.number import NumberConfig
from agent_worker.telephony import diff
from agent_worker.telephony.desired import Desired, marker, read_marker
from agent_worker.telephony.diff import Change, Existing
from agent_worker.telephony.provision import Outcome
from tests.connections import NAMES, NUMBERS, connection, desired, number


class Server:
    """Trunks and rules as LiveKit keeps them: a number stands on one inbound trunk, a trunk is bound to one rule."""

    def __init__(self) -> None:
        self.inbound: dict[str, api.SIPInboundTrunkInfo] = {}
        self.outbound: dict[str, api.SIPOutboundTrunkInfo] = {}
        self.rules: dict[str, api.SIPDispatchRuleInfo] = {}
        self._count = 0

    @property
    def existing(self) -> Existing:
        return Existing(list(self.inbound.values()), list(self.outbound.values()), list(self.rules.values()))

    def run(self, wanted: Desired, *, prune: bool = False, until: int = 1_000) -> list[Change]:
        """Do what `provision` does, in its order, or only so many steps of it."""
        existing = self.existing
        inbound = diff.inbound_changes(wanted, existing)
        ids = diff.trunk_ids_after(wanted, existing, inbound)
        for change in inbound[:until]:
            made = self.apply(change)
            if change.action == "create":
                ids[change.name] = made
        if until < len(inbound):
            return inbound[:until]
        rest = [*diff.rule_changes(wanted, existing, ids.values()), *diff.outbound_changes(wanted, existing)]
        rest += diff.stale_changes(wanted, existing, inbound) if prune else []
        for change in rest[: until - len(inbound)]:
            self.apply(change)
        return inbound + rest

    def apply(self, change: Change) -> str:
        home = {"inbound trunk": self.inbound, "outbound trunk": self.outbound, "dispatch rule": self.rules}[
            change.kind
        ]
        if change.action == "delete":
            del home[change.id]  # type: ignore[attr-defined]
            return change.id
        self._count += 1
        made = change.id or f"ID_{self._count}"
        assert change.message is not None
        assert (change.action == "update") == (made in home)
        kept = type(change.message)()
        kept.CopyFrom(change.message)
        setattr(kept, "sip_dispatch_rule_id" if change.kind == "dispatch rule" else "sip_trunk_id", made)
        home[made] = kept  # type: ignore[index]
        self.check()
        return made

    def check(self) -> None:
        held = [number for trunk in self.inbound.values() for number in trunk.numbers]
        assert len(held) == len(set(held)), "LiveKit refuses a number on two trunks"
        assert all(trunk.numbers for trunk in self.inbound.values()), "a trunk without numbers takes calls to any"
        assert all(rule.trunk_ids for rule in self.rules.values()), "a rule without trunks takes every call"
        bound = [trunk for rule in self.rules.values() for trunk in rule.trunk_ids]
        assert len(bound) == len(set(bound)), "LiveKit refuses two rules for one trunk"

    def routes(self, agent_name: str) -> dict[str, str]:
        """Return the connection whose trunk brings a call to each number to this agent name."""
        bound = {
            trunk
            for rule in self.rules.values()
            if [agent.agent_name for agent in rule.room_config.agents] == [agent_name]
            for trunk in rule.trunk_ids
        }
        return {
            number: (read_marker(trunk.metadata) or ("", ""))[1]
            for trunk in self.inbound.values()
            if trunk.sip_trunk_id in bound
            for number in trunk.numbers
        }


@st.composite
def installations(draw: st.DrawFn) -> list[NumberConfig]:
    placed = draw(st.dictionaries(st.sampled_from(NUMBERS), st.sampled_from(NAMES), min_size=1))
    directions = st.sampled_from(["inbound", "outbound", "both"])
    return [number(e164, on, draw(directions)) for e164, on in placed.items()]


@given(st.lists(installations(), min_size=1, max_size=4), st.booleans())
def test_any_state_becomes_any_other_and_then_nothing_is_left_to_do(
    history: list[list[NumberConfig]], prune: bool
) -> None:
    """No step is one LiveKit refuses or leaves a door open; afterwards every number is where it belongs."""
    server = Server()
    connections = [connection(name, address=f"{name}.example") for name in NAMES]
    for numbers in history:
        wanted = desired(numbers, connections)
        server.run(wanted, prune=prune)
        taking = {n.e164: n.sip_connection for n in numbers if n.takes_calls}
        assert {n: c for n, c in server.routes("desk").items() if n in taking} == taking
        assert server.run(wanted, prune=prune) == []
        if prune:
            assert server.routes("desk") == taking
            assert {n for trunk in server.outbound.values() for n in trunk.numbers} == {
                n.e164 for n in numbers if n.places_calls
            }


@given(installations(), installations(), st.integers(0, 8))
def test_a_run_that_broke_off_is_completed_by_the_next(
    first: list[NumberConfig], second: list[NumberConfig], until: int
) -> None:
    """Wherever it stopped, the next run ends in the same state, with nothing left over."""
    connections = [connection(name, address=f"{name}.example") for name in NAMES]
    server = Server()
    server.run(desired(first, connections))
    wanted = desired(second, connections)
    server.run(wanted, prune=True, until=until)

    server.run(wanted, prune=True)

    assert server.routes("desk") == {n.e164: n.sip_connection for n in second if n.takes_calls}
    assert server.run(wanted, prune=True) == []


class Watched(Server):
    """A server that notes after each step which of our trunks has which number."""

    def __init__(self, before: Server) -> None:
        super().__init__()
        self.inbound, self.outbound, self.rules = before.inbound, before.outbound, before.rules
        self._count = 1_000
        self.moments = [self.held()]

    def held(self) -> dict[str, str]:
        return {number: trunk.sip_trunk_id for trunk in self.inbound.values() for number in trunk.numbers}

    def apply(self, change: Change) -> str:
        made = super().apply(change)
        self.moments.append(self.held())
        return made


@given(st.lists(st.tuples(installations(), st.integers(0, 12)), min_size=1, max_size=3), installations(), st.booleans())
def test_whichever_step_fails_a_number_that_is_taken_now_still_is(
    history: list[tuple[list[NumberConfig], int]], numbers: list[NumberConfig], prune: bool
) -> None:
    """After each step, each wanted number that was on a trunk of ours is on one, but for what LiveKit makes impossible.

    It keeps a number on one trunk only, and a connection has one trunk. So of the numbers of one trunk that are now
    wanted on two connections some have to move, and of the numbers of two trunks that are wanted on one. The larger
    part stays, and what moves is on no trunk only right before its connection's trunk takes it.
    """
    connections = [connection(name, address=f"{name}.example") for name in NAMES]
    start = Server()
    for earlier, until in history:
        start.run(desired(earlier, connections), until=until)
    server = Watched(start)

    server.run(desired(numbers, connections), prune=prune)

    taking = {n.e164: n.sip_connection for n in numbers if n.takes_calls}
    before = {n: trunk for n, trunk in server.moments[0].items() if n in taking}
    after = server.moments[-1]
    now = {after[n]: name for n, name in taking.items()}
    shared = Counter((trunk, taking[n]) for n, trunk in before.items())
    for n, trunk in before.items():
        if after[n] == trunk:
            assert all(moment.get(n) == trunk for moment in server.moments)
        else:
            rivals = max(shared[trunk, now.get(trunk)], shared[after[n], taking[n]])
            assert rivals >= shared[trunk, taking[n]], f"{n} could have stayed"
    for moment, following in pairwise(server.moments):
        off = {n for n in before if n not in moment}
        assert len({taking[n] for n in off}) <= 1
        assert not off or off <= following.keys() or off < before.keys() - following.keys()


@pytest.mark.parametrize("others", [[], [number(NUMBERS[4], "north")]])
def test_a_renamed_connection_keeps_its_trunk(others: list[NumberConfig]) -> None:
    """One step, in place: a refusal leaves the number where it was, and the rule goes on bringing its calls."""
    server = Server()
    server.run(desired([number(NUMBERS[0], "east"), *others], [connection("east"), connection("north")]))
    routed = {trunk.sip_trunk_id: list(trunk.numbers) for trunk in server.inbound.values()}

    [change] = server.run(desired([number(NUMBERS[0], "west"), *others], [connection("west"), connection("north")]))

    assert (change.action, change.kind, change.name) == ("update", "inbound trunk", "west")
    assert {trunk.sip_trunk_id: list(trunk.numbers) for trunk in server.inbound.values()} == routed
    assert server.routes("desk")[NUMBERS[0]] == "west"


def test_connections_that_exchange_all_their_numbers_exchange_trunks() -> None:
    """Each number stays on its trunk, which gets the other connection's name and settings."""
    server = Server()
    connections = [connection("east", allowedAddresses=["203.0.113.1"]), connection("west")]
    server.run(desired([number(NUMBERS[0], "east"), number(NUMBERS[1], "west")], connections))
    watched = Watched(server)

    steps = watched.run(desired([number(NUMBERS[1], "east"), number(NUMBERS[0], "west")], connections))

    assert [(step.action, step.name) for step in steps] == [("update", "east"), ("update", "west")]
    assert all(moment == watched.moments[0] for moment in watched.moments)
    east = next(trunk for trunk in watched.inbound.values() if NUMBERS[1] in trunk.numbers)
    assert (east.name, list(east.allowed_addresses)) == ("desk east", ["203.0.113.1"])


@given(installations(), installations(), st.booleans())
def test_two_installations_on_one_server_leave_each_other_alone(
    first: list[NumberConfig], second: list[NumberConfig], prune: bool
) -> None:
    """What carries another agent name is never changed or removed, and a stranger's neither."""
    taken = {n.e164 for n in first}
    connections = [connection(name, address=f"{name}.example") for name in NAMES]
    server = Server()
    stranger = api.SIPInboundTrunkInfo(sip_trunk_id="ST_X", name="desk east", numbers=["+449"], metadata='{"a": 1}')
    server.inbound["ST_X"] = stranger
    server.run(desired(first, connections, agent_name="other"))
    before = json.dumps([MessageToDict(m) for m in [*server.inbound.values(), *server.rules.values()]])

    server.run(desired([n for n in second if n.e164 not in taken], connections), prune=prune)
    server.run(desired([], connections), prune=True)

    assert json.dumps([MessageToDict(m) for m in [*server.inbound.values(), *server.rules.values()]]) == before


def test_what_an_operator_added_by_hand_survives_a_change() -> None:
    """An update keeps the fields that are not ours."""
    server = Server()
    server.run(desired([number(NUMBERS[0])]))
    [trunk] = server.inbound.values()
    trunk.krisp_enabled = True
    trunk.headers["X-By-Hand"] = "1"
    trunk.media.media_timeout.FromSeconds(20)

    [change] = server.run(desired([number(NUMBERS[1])]))

    [trunk] = server.inbound.values()
    assert [field.name for field in change.fields] == ["numbers"]
    assert (trunk.krisp_enabled, dict(trunk.headers), trunk.media.media_timeout.seconds) == (
        True,
        {"X-By-Hand": "1"},
        20,
    )


def test_encryption_is_read_where_newer_servers_keep_it() -> None:
    """A server that moved it into `media` is not told to change it again and again."""
    server = Server()
    wanted = desired([number(NUMBERS[0])], [connection(mediaEncryption="require")])
    server.run(wanted)
    [trunk] = server.inbound.values()
    trunk.ClearField("media_encryption")
    trunk.media.encryption = api.SIPMediaEncryption.SIP_MEDIA_ENCRYPT_REQUIRE
    assert server.run(wanted) == []

    server.run(desired([number(NUMBERS[0])]))

    [trunk] = server.inbound.values()
    assert not trunk.media.HasField("encryption")


def test_a_secret_is_told_as_changed_and_never_shown() -> None:
    """Neither for people nor as JSON."""
    server = Server()
    trunk = connection(
        address="sip.example", usernameEnv="U", passwordEnv="P", headers={"X-Token": "env:T"}, name="carrier"
    )
    numbers = [number(NUMBERS[0])]
    first = server.run(desired(numbers, [trunk], U="acme", P="old-secret", T="old-token"))
    second = server.run(desired(numbers, [trunk], U="acme", P="new-secret", T="new-token"))

    shown = "\n".join(_lines(first + second)) + json.dumps(as_dict(Outcome(changes=first + second), dry_run=True))
    assert "secret" not in shown
    assert "-token" not in shown
    assert "~ outbound trunk carrier (ID_3)\n    auth password: (set) -> (changed)" in shown
    assert "    headers: X-Token -> (set)" in shown


@pytest.mark.parametrize("metadata", ["", "{", "[]", "null", '{"managedBy": "somebody"}', '"agent-worker"'])
def test_what_carries_no_marker_is_not_ours(metadata: str) -> None:
    """Any metadata of others is read without failing."""
    assert read_marker(metadata) is None
    assert read_marker(marker("desk", "carrier")) == ("desk", "carrier")
    assert read_marker(marker("desk")) == ("desk", "")


def _lines(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        yield from change_lines(change)
