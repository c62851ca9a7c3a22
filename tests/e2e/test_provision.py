"""`provision` against the real LiveKit: what it makes takes calls, a second run changes nothing, others' things stay."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from livekit import api

from agent_worker.telephony.desired import read_marker
from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.sip_phone import Answer, CallFailed
from agent_worker.testing.worker_process import clean_environment
from tests.e2e.rig import Rig
from tests.e2e.talk import ended_calls, greeted

ROOT = Path(__file__).resolve().parents[2]
AGENT_NAME = "provisioned"


@dataclass(frozen=True)
class Shown:
    """What the command printed."""

    code: int
    out: str
    err: str


@dataclass
class Operator:
    """Somebody with a telephony.yaml and a shell."""

    rig: Rig
    folder: Path
    agent_name: str = AGENT_NAME

    @property
    def file(self) -> Path:
        """The file of numbers."""
        return self.folder / "telephony.yaml"

    def write(self, connections: list[Mapping[str, Any]], numbers: list[Mapping[str, Any]]) -> None:
        """Write the file of numbers, and an agent."""
        self.file.write_text(json.dumps({"sipConnections": connections, "numbers": numbers}))
        agents = self.folder / "agents"
        agents.mkdir(exist_ok=True)
        (agents / "front-desk.yaml").write_text(json.dumps(self.rig.agent()))

    async def provision(self, *arguments: str, **env: str) -> Shown:
        """Run the command the way a person does."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "agent_worker", "provision", *arguments),
            cwd=ROOT,
            env=clean_environment(
                {
                    **self.rig.stack.env,
                    "AGENT_WORKER_AGENT_NAME": self.agent_name,
                    "AGENT_WORKER_AGENTS_DIR": str(self.folder / "agents"),
                    "AGENT_WORKER_TELEPHONY_FILE": str(self.file),
                    "AGENT_WORKER_DATA_DIR": str(self.folder / "data"),
                    **env,
                }
            ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return Shown(process.returncode or 0, out.decode(), err.decode())

    async def ids(self) -> set[str]:
        """Return the ids of every trunk and rule LiveKit has."""
        sip = self.rig.stack.lk.sip
        inbound = (await sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())).items
        outbound = (await sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())).items
        rules = (await sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())).items
        trunks = {trunk.sip_trunk_id for trunk in [*inbound, *outbound]}
        return trunks | {rule.sip_dispatch_rule_id for rule in rules}

    async def inbound(self) -> dict[str, api.SIPInboundTrunkInfo]:
        """Return our inbound trunks by connection."""
        found = await self.rig.stack.lk.sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())
        marked = [(read_marker(trunk.metadata), trunk) for trunk in found.items]
        return {mark[1]: trunk for mark, trunk in marked if mark and mark[0] == self.agent_name}


@pytest_asyncio.fixture(loop_scope="session")
async def operator(rig: Rig, tmp_path: Path) -> AsyncIterator[Operator]:
    """An operator whose trunks and rule are gone afterwards."""
    someone = Operator(rig, tmp_path)
    before = await someone.ids()
    yield someone
    sip = rig.stack.lk.sip
    for made in await someone.ids() - before:
        if made.startswith("SDR_"):
            await sip.delete_dispatch_rule(api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made))
        else:
            await sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=made))


def carrier(**changes: Any) -> dict[str, Any]:
    return {"name": "carrier", "allowedAddresses": ["127.0.0.1"]} | changes


def number(e164: str, **changes: Any) -> dict[str, Any]:
    return {"e164": e164, "agentId": "front-desk"} | changes


async def test_a_provisioned_number_is_answered_and_a_second_run_changes_nothing(
    operator: Operator, rig: Rig, tmp_path: Path
) -> None:
    """Dry run, run, run again; then a real call, forwarded twice, reaches the worker with its headers."""
    ours = rig.next_number()
    operator.agent_name = f"phone-agent-{ours[1:]}"
    operator.write([carrier()], [number(ours, direction="inbound")])
    before = await operator.ids()

    dry = await operator.provision("--dry-run")
    assert (dry.code, dry.err) == (0, ""), dry
    assert "+ inbound trunk carrier" in dry.out
    assert f"    numbers: {ours}" in dry.out
    assert "+ dispatch rule" in dry.out
    assert "2 changes to make." in dry.out
    assert await operator.ids() == before

    first = await operator.provision()
    assert (first.code, first.err) == (0, ""), first
    assert "2 changes made." in first.out
    made = await operator.ids()
    assert len(made - before) == 2

    for arguments in ([], ["--prune"], ["--dry-run"]):
        again = await operator.provision(*arguments)
        assert (again.code, again.out, again.err) == (0, "Nothing to change.\n", ""), again
    assert await operator.ids() == made

    diversions = [("Diversion", "<sip:+12015550171@a>;reason=busy"), ("Diversion", "<sip:+12015550172@b>;reason=busy")]
    env = {"AGENT_WORKER_TELEPHONY_FILE": str(operator.file)}
    async with (
        rig.worker(rig.agent(), folder=tmp_path / "worker", numbers=[ours], env=env, route=False) as worker,
        rig.phone() as phone,
    ):
        call = await phone.dial(ours, headers=diversions)
        await greeted(call)
        [room] = await rig.stack.rooms()
        [caller] = [p for p in await rig.stack.participants(room) if p.kind == api.ParticipantInfo.Kind.SIP]
        await call.hang_up()
        [row] = await ended_calls(rig, worker)

    assert room.startswith("call-_")
    assert "12015550171" in caller.attributes["call.diversion"]  # the first of a repeated header
    assert "12015550172" in caller.attributes["sip.h.diversion"]  # the last
    assert row["metadata"]["to"] == ours
    assert row["agent_id"] == "front-desk"


async def test_a_changed_number_is_changed_in_place(operator: Operator, rig: Rig) -> None:
    """The trunk keeps its id; the new number rings, the old one is heard no more."""
    old, new = rig.next_number(), rig.next_number()
    operator.write([carrier()], [number(old)])
    assert (await operator.provision()).code == 0
    before = (await operator.inbound())["carrier"]

    operator.write([carrier(ringingTimeoutSeconds=30)], [number(new)])
    dry = await operator.provision("--dry-run")
    assert "~ inbound trunk carrier" in dry.out
    assert f"    numbers: - {old}, + {new}" in dry.out
    assert "    ringing timeout: 60 s -> 30 s" in dry.out
    assert (await operator.inbound())["carrier"] == before
    assert (await operator.provision()).code == 0

    after = (await operator.inbound())["carrier"]
    assert after.sip_trunk_id == before.sip_trunk_id
    assert list(after.numbers) == [new]
    async with rig.phone() as phone:
        rings, silent = await phone.dial(new), await phone.dial(old)
        for _ in range(100):
            if await rig.stack.rooms():
                break
            await asyncio.sleep(0.05)
        [room] = await rig.stack.rooms()
        [caller] = await rig.stack.participants(room)
        assert caller.attributes["sip.trunkPhoneNumber"] == new
        await rig.stack.delete_room(room)
        with pytest.raises(CallFailed) as refused:
            await rings.wait_answered(5)
        assert refused.value.status == 486
        assert silent.status == 0


async def test_numbers_change_places(operator: Operator, rig: Rig) -> None:
    """Two connections exchange a number, which LiveKit lets neither take while the other has it."""
    one, two = rig.next_number(), rig.next_number()
    connections = [carrier(name="east"), carrier(name="west")]
    operator.write(connections, [number(one, sipConnection="east"), number(two, sipConnection="west")])
    assert (await operator.provision()).code == 0

    operator.write(connections, [number(two, sipConnection="east"), number(one, sipConnection="west")])
    swapped = await operator.provision()

    assert (swapped.code, swapped.err) == (0, ""), swapped
    trunks = await operator.inbound()
    assert {name: list(trunk.numbers) for name, trunk in trunks.items()} == {"east": [two], "west": [one]}
    assert (await operator.provision()).out == "Nothing to change.\n"
    rules = (await rig.stack.lk.sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())).items
    [rule] = [rule for rule in rules if read_marker(rule.metadata) == (AGENT_NAME, "")]
    assert sorted(rule.trunk_ids) == sorted(trunk.sip_trunk_id for trunk in trunks.values())


async def test_a_renamed_connection_keeps_its_trunk(operator: Operator, rig: Rig) -> None:
    """Its id and its place in the rule stay, so its number is never unheard."""
    ours = rig.next_number()
    operator.write([carrier()], [number(ours, direction="inbound")])
    assert (await operator.provision()).code == 0
    made, before = await operator.ids(), (await operator.inbound())["carrier"]

    operator.write([carrier(name="telco", allowedAddresses=["127.0.0.2"])], [number(ours, direction="inbound")])
    renamed = await operator.provision("--prune")

    assert (renamed.code, renamed.err) == (0, ""), renamed
    assert f"~ inbound trunk telco ({before.sip_trunk_id}) changed" in renamed.out
    assert "1 change made." in renamed.out
    after = await operator.inbound()
    assert list(after) == ["telco"]
    assert (after["telco"].sip_trunk_id, after["telco"].name) == (before.sip_trunk_id, f"{AGENT_NAME} telco")
    assert list(after["telco"].allowed_addresses) == ["127.0.0.2"]
    assert await operator.ids() == made


async def test_the_numbers_of_another_hosts_control_plane_are_asked_for(operator: Operator, rig: Rig) -> None:
    """Without any copy of them here; while it is away or its token is refused, even --prune leaves all as it is."""
    ours = rig.next_number()
    operator.write([carrier()], [number(ours, direction="inbound")])
    telephony = {"AGENT_WORKER_TELEPHONY_FILE": str(operator.file)}
    async with ServeProcess(operator.folder / "serve", [rig.agent()], env=telephony) as serve:
        far = {**serve.worker_env, "AGENT_WORKER_TELEPHONY_FILE": "", "AGENT_WORKER_AGENTS_DIR": "nowhere"}
        first = await operator.provision("--prune", **far)
        assert (first.code, first.err) == (0, ""), first
        made = await operator.ids()
        assert list((await operator.inbound())["carrier"].numbers) == [ours]
        assert not (operator.folder / "data").exists()
        stranger = await operator.provision("--prune", **far | {"AGENT_WORKER_CONTROL_TOKEN": "x" * 32})
    away = await operator.provision("--prune", **far)

    assert (stranger.code, stranger.out) == (1, "")
    assert "refuses the token: set AGENT_WORKER_CONTROL_TOKEN" in stranger.err
    assert (away.code, away.out) == (1, "")
    assert "error: The control plane cannot be reached" in away.err
    assert await operator.ids() == made


async def test_prune_removes_only_what_it_made(operator: Operator, rig: Rig) -> None:
    """A connection that is gone is told of, removed when asked, and a stranger's trunk and rule stay."""
    ours, gone, strangers = rig.next_number(), rig.next_number(), rig.next_number()
    foreign = await rig.stack.route_number([strangers], "somebody else")
    both = [carrier(address="127.0.0.1:5999"), carrier(name="gone", address="127.0.0.1:5998")]
    operator.write(both, [number(ours, sipConnection="carrier"), number(gone, sipConnection="gone")])
    assert (await operator.provision()).code == 0
    made = await operator.ids()

    operator.write(both[:1], [number(ours)])
    kept = await operator.provision()
    assert "note: inbound trunk gone" in kept.out
    assert "note: outbound trunk gone" in kept.out
    assert await operator.ids() == made

    pruned = await operator.provision("--prune", "--json")
    told = json.loads(pruned.out)
    assert [(c["action"], c["kind"], c["name"], c["done"]) for c in told["changes"]] == [
        ("delete", "inbound trunk", "gone", True),
        ("delete", "outbound trunk", "gone", True),
    ]
    left = await operator.ids()
    assert made - left == {change["id"] for change in told["changes"]}
    assert {foreign.trunk_id, foreign.rule_id} <= left
    await rig.stack.forget_number(foreign)


async def test_a_number_on_a_strangers_trunk_is_explained(operator: Operator, rig: Rig) -> None:
    """Nothing is changed; the sentence names the trunk and what to do about it."""
    ours = rig.next_number()
    foreign = await rig.stack.route_number([ours], "somebody else")
    operator.write([carrier()], [number(ours), number(rig.next_number())])
    before = await operator.ids()

    refused = await operator.provision()

    assert refused.code == 1
    assert f"error: {ours} is on inbound trunk {foreign.trunk_id}" in refused.err
    assert f"lk sip inbound delete {foreign.trunk_id}" in refused.err
    assert "Nothing was changed." in refused.err
    assert await operator.ids() == before
    await rig.stack.forget_number(foreign)
    assert (await operator.provision()).code == 0


async def test_a_rule_that_takes_every_call_is_warned_of(operator: Operator, rig: Rig) -> None:
    """It is left alone, and told."""
    rule = await rig.stack.lk.sip.create_dispatch_rule(
        api.CreateSIPDispatchRuleRequest(
            dispatch_rule=api.SIPDispatchRuleInfo(
                name="open door",
                rule=api.SIPDispatchRule(dispatch_rule_individual=api.SIPDispatchRuleIndividual(room_prefix="x")),
            )
        )
    )
    operator.write([carrier()], [number(rig.next_number())])

    shown = await operator.provision()

    assert shown.code == 0
    assert f"warning: Dispatch rule {rule.sip_dispatch_rule_id} ('open door') is bound to no trunk" in shown.out
    assert rule.sip_dispatch_rule_id in await operator.ids()


async def test_an_outbound_trunk_with_credentials_reaches_the_carrier(operator: Operator, rig: Rig) -> None:
    """The carrier asks for a password, and gets the one of the environment; it is printed nowhere."""
    ours = rig.next_number()
    secret = {"CARRIER_USER": "acme", "CARRIER_PASSWORD": "correct-horse-battery"}
    async with rig.phone() as phone:
        phone.answer_with(Answer(auth=("acme", "correct-horse-battery")))
        connection = carrier(
            address=phone.address,
            transport="udp",
            usernameEnv="CARRIER_USER",
            passwordEnv="CARRIER_PASSWORD",
            headers={"X-Account": "acme-1"},
        )
        operator.write([connection], [number(ours, direction="outbound")])
        unset = await operator.provision()
        assert unset.code == 2
        assert "CARRIER_USER and CARRIER_PASSWORD are not set." in unset.err

        shown = await operator.provision(**secret | {"CARRIER_PASSWORD": "wrong"})
        assert shown.code == 0, shown
        assert "auth password: (set)" in shown.out
        trunk = await _outbound(rig, ours)
        with pytest.raises(api.SipCallError) as refused:
            await _call(rig, trunk)
        assert refused.value.sip_status_code == 403

        mended = await operator.provision(**secret)
        assert "~ outbound trunk carrier" in mended.out
        assert "auth password: (set) -> (changed)" in mended.out
        assert (await operator.provision(**secret)).out == "Nothing to change.\n"
        assert await _outbound(rig, ours) == trunk
        await _call(rig, trunk)
        call = await phone.incoming()
        await call.wait_answered()
        assert call.requests[0].header("X-Account") == "acme-1"
        await rig.stack.delete_room("outbound")
        await call.wait_ended()
    for printed in (shown, mended):
        assert "correct-horse" not in printed.out + printed.err


async def _outbound(rig: Rig, e164: str) -> str:
    found = await rig.stack.lk.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())
    [trunk] = [trunk.sip_trunk_id for trunk in found.items if e164 in trunk.numbers]
    return trunk


async def _call(rig: Rig, trunk: str) -> None:
    await rig.stack.lk.sip.create_sip_participant(
        api.CreateSIPParticipantRequest(
            sip_trunk_id=trunk,
            sip_call_to="+12015550199",
            room_name="outbound",
            participant_identity="callee",
            wait_until_answered=True,
        )
    )
