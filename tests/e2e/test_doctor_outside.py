"""The doctor on what stands outside LiveKit: providers, webhooks, a bridge away, a trunk's password."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from agent_worker.doctor.finding import Status
from agent_worker.testing.stack import LiveKitStack, StackBinaries
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.examining import FAILED, OK, SECRET, WARNING, desk, environment, found, of, only, routed, served
from tests.e2e.rig import Rig


async def test_each_provider_is_asked_for_itself(heard: Rig, tmp_path: Path) -> None:
    """A model that fails, a voice that is away and a recogniser that is well are told apart."""
    await heard.providers.openai.set_fault("http500")
    await heard.providers.cartesia.set_fault("refuse")
    async with desk(heard, tmp_path) as worker:
        findings = of(await found(environment(heard, worker), "providers"), "providers")

    told = {str(finding.detail["layer"]): finding for finding in findings}
    assert (told["llm"].status, told["llm"].code) == (FAILED, "provider_down")
    assert (told["tts"].status, told["tts"].code) == (FAILED, "unreachable")
    assert "CARTESIA_BASE_URL" in told["tts"].remedy
    assert told["stt"].status is OK and "One moment" in told["stt"].message


async def test_a_key_the_provider_refuses(heard: Rig, tmp_path: Path) -> None:
    """401 of whichever provider names the variable of its key, and never the key."""

    async def refuse(_request: web.Request) -> web.Response:
        message = "Incorrect API key provided: sk-verysecretkey1234"
        return web.json_response({"error": {"message": message}}, status=401)

    async with served(refuse) as url, desk(heard, tmp_path) as worker:
        env = environment(
            heard,
            worker,
            OPENAI_BASE_URL=f"{url}/v1",
            OPENAI_API_KEY="sk-verysecretkey1234",
            DEEPGRAM_BASE_URL=url,
            CARTESIA_BASE_URL=url,
        )
        findings = of(await found(env, "providers"), "providers")

    assert {(finding.status, finding.code) for finding in findings} == {(FAILED, "wrong_key")}, findings
    remedies = {str(finding.detail["layer"]): finding.remedy for finding in findings}
    for layer, variable in (("stt", "DEEPGRAM"), ("llm", "OPENAI"), ("tts", "CARTESIA")):
        assert f"{variable}_API_KEY" in remedies[layer]
    assert "verysecret" not in repr(findings)


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("well", OK, ""),
        ("trusting", WARNING, "not_verified"),
        ("broken", FAILED, "http_status"),
        ("chatty", FAILED, "not_json"),
        ("mistyped", FAILED, "wrong_type"),
        ("forbidden", FAILED, "address_refused"),
    ],
)
async def test_webhooks_are_asked_and_tried(
    rig: Rig, tmp_path: Path, behaviour: str, status: Status, code: str
) -> None:
    """A pre-call webhook is asked once rightly and once wrongly signed, and judged by both answers."""
    seen: list[dict[str, Any]] = []

    async def answer(request: web.Request) -> web.Response:
        body = await request.text()
        seen.append(json.loads(body))
        try:
            Webhook(SECRET).verify(body, {key.lower(): value for key, value in request.headers.items()})
        except WebhookVerificationError:
            if behaviour != "trusting":
                return web.json_response({"error": "signature"}, status=401)
        replies: dict[str, web.Response] = {
            "broken": web.Response(status=500),
            "chatty": web.Response(text="hello"),
            "mistyped": web.json_response({"maxDurationSeconds": "long"}),
        }
        return replies.get(behaviour, web.json_response({"metadata": {"customer": "c1"}}))

    async with served(answer) as url, desk(rig, tmp_path, webhooks={"preCall": {"url": f"{url}/pre"}}) as worker:
        allow = {} if behaviour == "forbidden" else {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1"}
        env = environment(rig, worker, AGENT_WORKER_WEBHOOK_SECRET=SECRET, **allow)
        finding = only(await found(env, "webhooks"), "webhooks")

    assert (finding.status, finding.code) == (status, code), finding
    assert "'front-desk'" in finding.message
    if behaviour == "forbidden":
        assert seen == []
        return
    assert seen[0]["type"] == "call.pre_call"
    assert seen[0]["call_id"].startswith("doctor-")
    assert seen[0]["metadata"] == {"doctor": True}


async def test_a_bridge_that_is_away(binaries: StackBinaries, rig: Rig, tmp_path: Path) -> None:
    """LiveKit without its bridge: both ends say so; the address alone being wrong is another matter."""
    async with LiveKitStack(binaries, tmp_path / "stack") as stack, desk(rig, tmp_path) as worker:
        env = environment(rig, worker, **stack.env, AGENT_WORKER_SIP_ADDRESS=f"127.0.0.1:{stack.sip_port}")
        well = await found(env, "bridge")
        elsewhere = await found(env | {"AGENT_WORKER_SIP_ADDRESS": "127.0.0.1:9"}, "bridge")
        guessed = await found({k: v for k, v in env.items() if k != "AGENT_WORKER_SIP_ADDRESS"}, "bridge")
        other_redis = f"{rig.stack.sip_address[0]}:{rig.stack.sip_address[1]}"
        os.kill(stack.pids["livekit-sip"], signal.SIGKILL)
        await asyncio.sleep(0.5)
        away = await found(env, "numbers", "bridge")
        apart = await found(env | {"AGENT_WORKER_SIP_ADDRESS": other_redis}, "bridge")

    assert only(well, "bridge").status is OK
    assert (only(elsewhere, "bridge").status, only(elsewhere, "bridge").code) == (FAILED, "bridge_unreachable")
    assert (only(guessed, "bridge").status, only(guessed, "bridge").code) == (WARNING, "bridge_elsewhere")
    assert (only(away, "bridge").status, only(away, "bridge").code) == (FAILED, "no_bridge")
    assert (only(apart, "bridge").status, only(apart, "bridge").code) == (FAILED, "bridge_not_connected")


async def test_a_trunk_with_a_password(heard: Rig, tmp_path: Path) -> None:
    """The call presents what the connection's variables hold: the right password is answered, a wrong one named."""
    number = heard.next_number()
    telephony = tmp_path / "telephony.yaml"
    connection = {"name": "pbx", "usernameEnv": "PBX_USER", "passwordEnv": "PBX_PASSWORD"}
    content = {
        "sipConnections": [connection],
        "numbers": [{"e164": number, "agentId": "front-desk", "sipConnection": "pbx"}],
    }
    telephony.write_text(json.dumps(content), encoding="utf-8")
    settings = {"AGENT_WORKER_TELEPHONY_FILE": str(telephony)}
    worker = WorkerProcess(
        tmp_path, heard.stack.env | heard.providers.env | settings, [heard.agent()], agent_name=f"desk-{number[1:]}"
    )
    async with worker, routed(heard, [number], worker.agent_name, auth=("desk", "hunter22")):
        env = environment(heard, worker, PBX_USER="desk", PBX_PASSWORD="hunter22")
        well = await found(env, "numbers", "call")
        refused = await found(env | {"PBX_PASSWORD": "another1"}, "numbers", "call")

    assert only(well, "call").status is OK, well
    assert "with a password" in only(well, "numbers").message
    assert (only(refused, "call").status, only(refused, "call").code) == (FAILED, "password_refused")
    assert "hunter22" not in repr(well + refused) and "another1" not in repr(well + refused)
