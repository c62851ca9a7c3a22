"""What has to be done so that LiveKit has what is desired: steps in an order that leaves no number unheard for long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from livekit import api

from agent_worker.telephony.desired import Desired, read_marker
from agent_worker.telephony.number_forms import normalized

Kind = Literal["inbound trunk", "outbound trunk", "dispatch rule"]
Action = Literal["create", "update", "delete"]
Message: TypeAlias = api.SIPInboundTrunkInfo | api.SIPOutboundTrunkInfo | api.SIPDispatchRuleInfo
M = TypeVar("M", api.SIPInboundTrunkInfo, api.SIPOutboundTrunkInfo, api.SIPDispatchRuleInfo)

_TRUNK = ("name", "metadata", "numbers", "auth_username", "auth_password", "media_encryption")
_MANAGED: dict[Kind, tuple[str, ...]] = {
    "inbound trunk": (
        *_TRUNK,
        "allowed_addresses",
        "allowed_numbers",
        "headers_to_attributes",
        "include_headers",
        "ringing_timeout",
    ),
    "outbound trunk": (*_TRUNK, "address", "transport", "headers"),
    "dispatch rule": (
        "name",
        "metadata",
        "trunk_ids",
        "rule",
        "inbound_numbers",
        "numbers",
        "hide_phone_number",
        "room_config",
    ),
}
_SECRET = frozenset({"auth_password", "headers"})


@dataclass(frozen=True)
class FieldChange:
    """One field of a trunk or rule; of a secret only whether it is set and that it changes."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """One step.

    Attributes:
        name: the SIP connection of a trunk, the agent name of the rule.
        id: LiveKit's; "" for what is yet to be made.
        message: what is sent; holds secrets.
    """

    action: Action
    kind: Kind
    name: str
    id: str = ""
    fields: tuple[FieldChange, ...] = ()
    message: Message | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Existing:
    """Everything LiveKit has, ours or not."""

    inbound: Sequence[api.SIPInboundTrunkInfo] = ()
    outbound: Sequence[api.SIPOutboundTrunkInfo] = ()
    rules: Sequence[api.SIPDispatchRuleInfo] = ()


def inbound_changes(desired: Desired, existing: Existing) -> list[Change]:
    """Return what to do to the inbound trunks; LiveKit refuses a number that another trunk still has.

    A number that stays on its trunk is never off it. One that changes trunks, where `_assigned` leaves no choice, is
    taken off right before the step that puts it on the other, so a step that fails costs one connection's moves only.
    A trunk is never left without numbers, which would take calls to any: one that nothing needs is deleted.
    """
    own, stale = _assigned(existing, desired)
    wanted = {name: _numbers(trunk) for name, trunk in desired.inbound.items()}
    pending = dict(wanted)
    changes: list[Change] = []
    # a trunk that keeps none of its numbers first gets its new ones, so that giving the others away does not empty it
    for name in sorted(wanted, key=lambda name: name in own and bool(_numbers(own[name]) & wanted[name])):
        for holder in [other for other in own if other != name]:
            step = _release(own[holder], wanted[name])
            if step is not None:
                assert isinstance(step.message, api.SIPInboundTrunkInfo), "it keeps some number, see the order above"
                own[holder] = step.message
                changes.append(step)
        for trunk in list(stale):
            step = _release(trunk, wanted[name])
            if step is not None:
                stale.remove(trunk)
                stale += [step.message] if isinstance(step.message, api.SIPInboundTrunkInfo) else []
                changes.append(step)
        del pending[name]
        want = api.SIPInboundTrunkInfo()
        want.CopyFrom(desired.inbound[name])
        if name in own:
            # these leave for another connection later
            leaving = set().union(*pending.values())
            want.numbers.extend(number for number in own[name].numbers if normalized(number) in leaving)
        for step in _change("inbound trunk", name, want, own.get(name)):
            changes.append(step)
            if name in own and isinstance(step.message, api.SIPInboundTrunkInfo):
                own[name] = step.message
    return changes


def outbound_changes(desired: Desired, existing: Existing) -> list[Change]:
    """Return what to do to the outbound trunks."""
    own, _ = _own(existing.outbound, desired.outbound, desired.agent_name)
    return [
        step
        for name, trunk in desired.outbound.items()
        for step in _change("outbound trunk", name, trunk, own.get(name))
    ]


def rule_changes(desired: Desired, existing: Existing, trunk_ids: Iterable[str]) -> list[Change]:
    """Return what to do to the rule, once the inbound trunks have these ids."""
    rule = desired.rule(trunk_ids)
    if rule is None:
        return []
    own = next(iter(_own_rules(existing, desired.agent_name)), None)
    return _change("dispatch rule", desired.agent_name, rule, own)


def trunk_ids_after(desired: Desired, existing: Existing, changes: Iterable[Change]) -> dict[str, str]:
    """Return the id of each desired inbound trunk; one that is yet to be made is named instead."""
    own, _ = _assigned(existing, desired)
    ids = {name: trunk.sip_trunk_id for name, trunk in own.items()}
    ids |= {change.name: f"(new: {change.name})" for change in changes if change.action == "create"}
    return {name: ids[name] for name in desired.inbound}


def stale_changes(desired: Desired, existing: Existing, released: Iterable[Change] = ()) -> list[Change]:
    """Return how to remove what we made and no longer want: the rule first, so that it is never left unbound."""
    gone = {change.id for change in released if change.action == "delete"}
    rules = _own_rules(existing, desired.agent_name)
    _, inbound = _assigned(existing, desired)
    _, outbound = _own(existing.outbound, desired.outbound, desired.agent_name)
    steps = [_deletion("dispatch rule", rule) for rule in (rules[1:] if desired.inbound else rules)]
    steps += [_deletion("inbound trunk", trunk) for trunk in inbound]
    steps += [_deletion("outbound trunk", trunk) for trunk in outbound]
    return [step for step in steps if step.id not in gone]


def own_trunk_ids(desired: Desired, existing: Existing) -> set[str]:
    """Return the ids of the desired inbound trunks that are there."""
    own, _ = _assigned(existing, desired)
    return {trunk.sip_trunk_id for trunk in own.values()}


def _assigned(
    existing: Existing, desired: Desired
) -> tuple[dict[str, api.SIPInboundTrunkInfo], list[api.SIPInboundTrunkInfo]]:
    """Return which inbound trunk of ours each connection has from now on, and those of ours that none has.

    A trunk goes with its numbers, whatever the connection was called when it was made: the pair that shares most
    numbers is made first; among equals, and where nothing is shared, a trunk stays with the connection it names.
    So a number changes trunks only where its trunk shares as many or more with another connection, or its connection
    with another trunk: LiveKit keeps a number on one trunk only, and each connection has one.
    """
    ours = {
        trunk.sip_trunk_id: (mark[1], trunk)
        for trunk in existing.inbound
        if (mark := read_marker(trunk.metadata)) is not None and mark[0] == desired.agent_name
    }
    pairs = sorted(
        (-shared, label != name, name, trunk_id)
        for name, want in desired.inbound.items()
        for trunk_id, (label, trunk) in ours.items()
        if (shared := len(_numbers(want) & _numbers(trunk))) or label == name
    )
    own: dict[str, api.SIPInboundTrunkInfo] = {}
    for _, _, name, trunk_id in pairs:
        if name not in own and trunk_id in ours:
            own[name] = ours.pop(trunk_id)[1]
    return own, [trunk for _, trunk in ours.values()]


def _numbers(trunk: api.SIPInboundTrunkInfo) -> set[str]:
    return {normalized(number) for number in trunk.numbers}


def _own(trunks: Iterable[M], wanted: Mapping[str, M], agent_name: str) -> tuple[dict[str, M], list[M]]:
    """Return those we made and want, by connection, and those we made and do not want."""
    own: dict[str, M] = {}
    stale: list[M] = []
    for trunk in trunks:
        mark = read_marker(trunk.metadata)
        if mark is None or mark[0] != agent_name:
            continue
        if mark[1] in wanted and mark[1] not in own:
            own[mark[1]] = trunk
        else:
            stale.append(trunk)
    return own, stale


def _own_rules(existing: Existing, agent_name: str) -> list[api.SIPDispatchRuleInfo]:
    return [rule for rule in existing.rules if (read_marker(rule.metadata) or ("",))[0] == agent_name]


def _release(trunk: api.SIPInboundTrunkInfo, wanted: set[str]) -> Change | None:
    """Return how this trunk lets go of numbers that are wanted elsewhere."""
    kept = [number for number in trunk.numbers if normalized(number) not in wanted]
    if len(kept) == len(trunk.numbers):
        return None
    if not kept:
        return _deletion("inbound trunk", trunk)
    smaller = api.SIPInboundTrunkInfo()
    smaller.CopyFrom(trunk)
    del smaller.numbers[:]
    smaller.numbers.extend(kept)
    return Change(
        "update",
        "inbound trunk",
        _name(trunk),
        trunk.sip_trunk_id,
        (FieldChange("numbers", sorted(trunk.numbers), sorted(kept)),),
        smaller,
    )


def _change(kind: Kind, name: str, want: M, have: M | None) -> list[Change]:
    if have is None:
        fields = [
            FieldChange(f, None, after) for f in _MANAGED[kind] if (after := _masked(want, f)) and f != "metadata"
        ]
        return [Change("create", kind, name, "", tuple(fields), want)]
    changed = [f for f in _MANAGED[kind] if _value(have, f) != _value(want, f)]
    if not changed:
        return []
    merged = type(have)()
    merged.CopyFrom(have)
    for f in _MANAGED[kind]:
        merged.ClearField(f)
    if "media_encryption" in _MANAGED[kind]:
        merged.media.ClearField("encryption")
    merged.MergeFrom(want)
    fields = [FieldChange(f, _masked(have, f), _masked(want, f, changed=True)) for f in changed]
    return [Change("update", kind, name, _id(have), tuple(fields), merged)]


def _deletion(kind: Kind, message: Message) -> Change:
    return Change("delete", kind, _name(message), _id(message))


def _id(message: Message) -> str:
    return message.sip_dispatch_rule_id if isinstance(message, api.SIPDispatchRuleInfo) else message.sip_trunk_id


def _name(message: Message) -> str:
    mark = read_marker(message.metadata)
    return (mark[1] or mark[0]) if mark else message.name


def _masked(message: Message, name: str, *, changed: bool = False) -> Any:
    value = _value(message, name)
    if name not in _SECRET:
        return value
    word = "(changed)" if changed else "(set)"
    if isinstance(value, dict):
        return dict.fromkeys(value, word)
    return word if value else ""


def _value(message: Message, name: str) -> Any:
    """Return a field as plain data that compares and prints."""
    value: Any = getattr(message, name)
    if name == "ringing_timeout":
        return value.ToTimedelta().total_seconds()
    if name == "media_encryption":
        # older servers keep it here, newer ones in `media`
        number = message.media.encryption if message.media.HasField("encryption") else value
        return api.SIPMediaEncryption.Name(number).removeprefix("SIP_MEDIA_ENCRYPT_").lower()
    if name == "transport":
        return api.SIPTransport.Name(value).removeprefix("SIP_TRANSPORT_").lower()
    if name == "include_headers":
        return api.SIPHeaderOptions.Name(value).removeprefix("SIP_").lower()
    if name == "rule":
        return _told_rule(value)
    if name == "room_config":
        return sorted(agent.agent_name for agent in value.agents)
    if isinstance(value, str | bool):
        return value
    if name in ("headers", "headers_to_attributes"):
        return dict(sorted(value.items()))
    return sorted(value)


def _told_rule(rule: api.SIPDispatchRule) -> str:
    kind = rule.WhichOneof("rule")
    if kind is None:
        return "none"
    details = " ".join(f"{f.name}={'(set)' if f.name == 'pin' else v}" for f, v in getattr(rule, kind).ListFields())
    return f"{kind.removeprefix('dispatch_rule_')} {details}".strip()
