"""`doctor` on a healthy installation and on broken ones: each break is named, with what to do about it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from livekit import api

from agent_worker.config.catalog import load_catalog
from agent_worker.doctor.checks import checks
from agent_worker.doctor.examination import Examination, examine
from agent_worker.telephony.matching import Incoming, Reason, judge
from agent_worker.testing.stack import Inbound
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.examining import (
    FAILED,
    OK,
    SKIPPED,
    command,
    desk,
    environment,
    found,
    of,
    only,
    routed,
    served,
    settings_of,
    start,
)
from tests.e2e.rig import GREETING, Rig


async def test_a_healthy_installation_is_called_and_heard(heard: Rig, tmp_path: Path) -> None:
    """Every check is well, the loopback call hears the greeting, and nothing of it is left."""
    number = heard.next_number()
    async with heard.worker(heard.agent(numbers=[number]), folder=tmp_path) as worker:
        code, out, err = await command(environment(heard, worker), "--call", "--json")
        await heard.stack.wait_no_rooms(5)
        trunks = await heard.stack.lk.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())

    assert code == 0, out + err
    report = json.loads(out)
    assert report["healthy"] is True
    assert {finding["status"] for finding in report["findings"]} == {"ok"}, out
    assert [finding["check"] for finding in report["findings"]] == [
        *("configuration", "livekit", "bridge", "numbers", "worker", "slots"),
        *("providers", "providers", "providers", "webhooks", "call"),
    ]
    call = report["findings"][-1]
    assert number in call["message"]
    assert call["detail"]["heard"] == GREETING
    assert call["detail"]["speech_s"] > 1
    assert call["detail"]["first_sound_s"] < 2
    assert call["detail"]["room"].startswith("call-")
    assert list(trunks.items) == []
    assert "Traceback" not in err and "stand-in" not in out + err


async def test_a_wrong_secret_is_told_from_a_wrong_key(rig: Rig, tmp_path: Path) -> None:
    """Which of the two is wrong is said, what depends on it is skipped, and the secret stays secret."""
    secret = "wrong-secret-wrong-secret-wrong-secret-00"
    async with desk(rig, tmp_path) as worker:
        code, out, err = await command(
            environment(rig, worker, LIVEKIT_API_SECRET=secret), "--skip", "providers", "--call"
        )
        wrong_key = await found(environment(rig, worker, LIVEKIT_API_KEY="nobody"), "livekit")

    assert code == 1
    lines = out.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("failed"))
    assert lines[at].split()[:2] == ["failed", "livekit"]
    assert "the secret does not belong to it" in lines[at]
    assert "LIVEKIT_API_SECRET" in lines[at + 1]
    for check in ("bridge", "numbers", "worker"):
        assert any(line.split()[:2] == ["skipped", check] and "because livekit failed" in line for line in lines), out
    assert secret not in out + err and "Traceback" not in err and "eyJ" not in out + err
    assert only(wrong_key, "livekit").code == "wrong_key"


async def test_livekit_away_is_named(rig: Rig, tmp_path: Path) -> None:
    """Nothing listens where LIVEKIT_URL leads: said at once, with the place."""
    async with desk(rig, tmp_path) as worker:
        code, out, err = await command(
            environment(rig, worker, LIVEKIT_URL="ws://127.0.0.1:9"), "--skip", "providers,webhooks"
        )

    assert code == 1
    assert "Nothing listens at 127.0.0.1:9." in out
    assert "Traceback" not in err


async def test_another_web_server_is_no_livekit(rig: Rig, tmp_path: Path) -> None:
    """A page that answers is not taken for LiveKit."""

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text="<html>dashboard</html>", content_type="text/html")

    async with served(page) as url, desk(rig, tmp_path) as worker:
        finding = only(await found(environment(rig, worker, LIVEKIT_URL=url), "livekit"), "livekit")

    assert (finding.status, finding.code) == (FAILED, "not_livekit")


async def test_a_number_without_trunk_and_one_without_rule(rig: Rig, tmp_path: Path) -> None:
    """Each number is judged for itself; the remedy is to provision."""
    lonely, trunked = rig.next_number(), rig.next_number()
    trunk = api.SIPInboundTrunkInfo(name="half", numbers=[trunked])
    made = await rig.stack.lk.sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=trunk))
    try:
        async with desk(rig, tmp_path, numbers=[lonely, trunked]) as worker:
            findings = of(await found(environment(rig, worker), "numbers"), "numbers")
    finally:
        await rig.stack.lk.sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))

    told = {finding.code: finding for finding in findings}
    assert set(told) == {"no_trunk", "no_rule"}
    assert lonely in told["no_trunk"].message and "486 flood" in told["no_trunk"].message
    assert trunked in told["no_rule"].message and made.sip_trunk_id in told["no_rule"].message
    assert all("provision" in finding.remedy and finding.status is FAILED for finding in findings)


async def test_a_rule_of_another_agent_and_one_of_another_trunk(rig: Rig, tmp_path: Path) -> None:
    """A rule that names somebody else's workers, and a trunk that no rule is bound to."""
    named, bound = rig.next_number(), rig.next_number()
    trunk = api.SIPInboundTrunkInfo(name="unbound", numbers=[bound])
    made = await rig.stack.lk.sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=trunk))
    try:
        async with desk(rig, tmp_path, numbers=[named, bound]) as worker, routed(rig, [named], "receptionist"):
            findings = of(await found(environment(rig, worker), "numbers"), "numbers")
    finally:
        await rig.stack.lk.sip.delete_trunk(api.DeleteSIPTrunkRequest(sip_trunk_id=made.sip_trunk_id))

    told = {finding.code: finding.message for finding in findings}
    assert set(told) == {"other_agent", "rule_of_another_trunk"}
    assert "receptionist" in told["other_agent"] and worker.agent_name in told["other_agent"]


async def test_our_judgement_is_the_bridges(rig: Rig) -> None:
    """What is worked out from the lists is what really becomes of an INVITE: it reaches a room, or it does not."""
    shapes: dict[Reason, dict[str, Any]] = {
        Reason.MATCHES: {},
        Reason.RULE_OF_ANOTHER_NUMBER: {"numbers": ["+15550000"]},
        Reason.RULE_FOR_OTHER_CALLERS: {"inbound_numbers": ["+15550001"]},
        Reason.RULE_WRITTEN_DIFFERENTLY: {"numbers": ["written"]},
    }
    lk = rig.stack.lk
    for reason, rule in shapes.items():
        number = rig.next_number()
        rule = {key: [number[1:] if own == "written" else own for own in value] for key, value in rule.items()}
        async with _shaped(rig, number, rule):
            trunks = (await lk.sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest())).items
            rules = (await lk.sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest())).items
            verdict = judge(Incoming(number, caller="+15559999", address="127.0.0.1"), trunks, rules, "nobody")
            assert verdict.reason is reason
            async with rig.phone() as phone:
                call = await phone.dial(number)
                reached = await _reaches_a_room(rig, seconds=3.0 if verdict.matches else 1.5)
                await call.hang_up()
            assert reached is verdict.matches, reason
            await rig.stack.wait_no_rooms()


@asynccontextmanager
async def _shaped(rig: Rig, number: str, rule: Mapping[str, Any]) -> AsyncIterator[None]:
    sip = rig.stack.lk.sip
    trunk = api.SIPInboundTrunkInfo(name="shape", numbers=[number[1:]], allowed_addresses=["127.0.0.0/8"])
    made = await sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=trunk))
    info = api.SIPDispatchRuleInfo(
        trunk_ids=[made.sip_trunk_id],
        rule=api.SIPDispatchRule(dispatch_rule_individual=api.SIPDispatchRuleIndividual(room_prefix="shape-")),
        room_config=api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="nobody")]),
        **rule,
    )
    rules = await sip.create_dispatch_rule(api.CreateSIPDispatchRuleRequest(dispatch_rule=info))
    try:
        yield
    finally:
        await rig.stack.forget_number(Inbound(made.sip_trunk_id, rules.sip_dispatch_rule_id))


async def _reaches_a_room(rig: Rig, *, seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        if await rig.stack.rooms():
            return True
        await asyncio.sleep(0.1)
    return False


async def test_no_worker_of_that_name(rig: Rig, tmp_path: Path) -> None:
    """Nobody is registered: said by the probe, and by a call that rings in vain where the probe is left out."""
    number = rig.next_number()
    async with desk(rig, tmp_path, numbers=[number]) as worker, routed(rig, [number], worker.agent_name):
        env = environment(rig, worker)
        findings = await found(env, "slots")
        settings = settings_of(env)
        exam = Examination(lambda: [], env=env, settings=settings, catalog=load_catalog(settings))
        await examine(exam, checks(call=True), skip=["worker", "slots", "providers", "webhooks"])

    assert (only(findings, "worker").status, only(findings, "worker").code) == (FAILED, "no_worker")
    assert worker.agent_name in only(findings, "worker").message
    assert only(findings, "slots").status is SKIPPED
    assert only(exam.findings, "call").code == "no_agent_joined", exam.findings


async def test_a_worker_without_slots_says_so(rig: Rig, tmp_path: Path) -> None:
    """While its only slot is taken by a call, the worker still answers the probe, and no call is taken for it."""
    number = rig.next_number()
    env = {"AGENT_WORKER_CALL_SLOTS": "1"}
    async with (
        rig.worker(rig.agent(numbers=[number]), folder=tmp_path, env=env) as worker,
        rig.phone() as phone,
    ):
        call = await phone.dial(number)
        await call.wait_answered()
        full = await found(environment(rig, worker), "slots")
        await call.hang_up()
        await rig.stack.wait_no_rooms()
        async with asyncio.timeout(20):
            free = await found(environment(rig, worker), "slots")
            while only(free, "slots").status is not OK:
                free = await found(environment(rig, worker), "slots")
        calls = await rig.calls(worker)

    assert only(full, "worker").status is OK
    assert (only(full, "slots").status, only(full, "slots").code) == (FAILED, "no_slots")
    assert only(full, "slots").detail == {"slots": 1, "calls": 1, "free": 0}
    assert only(free, "slots").detail == {"slots": 1, "calls": 0, "free": 1}
    assert len(calls) == 1


async def test_all_workers_of_a_name_are_counted(rig: Rig, tmp_path: Path) -> None:
    """LiveKit asks one after the other, and each of them says what it has."""
    name = f"desk-{rig.next_number()[1:]}"
    pair = [
        WorkerProcess(
            tmp_path / slots,
            rig.stack.env | rig.providers.env | {"AGENT_WORKER_CALL_SLOTS": slots},
            [rig.agent()],
            agent_name=name,
        )
        for slots in ("2", "3")
    ]
    async with pair[0], pair[1]:
        findings = await found(environment(rig, pair[0]), "slots")

    assert only(findings, "worker").message.startswith("2 workers are registered")
    assert only(findings, "slots").detail == {"slots": 5, "calls": 0, "free": 5}


async def test_interrupted_in_the_middle_of_a_call(rig: Rig, tmp_path: Path) -> None:
    """Ctrl-C while it rings: exit code 130, no stack trace, and no room is left."""
    number = rig.next_number()
    async with desk(rig, tmp_path, numbers=[number]) as worker, routed(rig, [number], worker.agent_name):
        skipped = "worker,slots,providers,webhooks"
        process = await start(environment(rig, worker), "--call", "--skip", skipped)
        async with asyncio.timeout(60):
            while not any(room.startswith("call-") for room in await rig.stack.rooms()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        await rig.stack.wait_no_rooms(10)

    assert process.returncode == 130, out.decode() + err.decode()
    assert "Traceback" not in out.decode() + err.decode()
