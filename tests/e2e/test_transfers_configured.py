"""What an agent's file and the worker's settings change about a transfer, on a real LiveKit server."""

from __future__ import annotations

import asyncio
import io
import time
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiohttp import web

from agent_worker.store.engine import Database
from agent_worker.store.queries import call_usage
from agent_worker.testing.audio import tone
from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.sip_policies import Answer, ReferPolicy
from agent_worker.testing.stand_ins import Rule
from agent_worker.testing.voice import CALLER_VOICE, render
from tests.e2e.putting_through import CALLER_HZ, PERSON_HZ, Scene, heard_tone, hold_up, rows, scene
from tests.e2e.rig import PHONE_RATE, Rig, describe
from tests.e2e.talk import ended_calls, event_types, eventually, reason
from tests.e2e.test_live import a_key

OK = Answer()
HOLD_HZ = 1_400.0
MAILBOX = "Please leave a message for Mister Miller after the tone."


@asynccontextmanager
async def hold_file(delay_seconds: float) -> AsyncIterator[str]:
    """Serve a tone as a WAV file; yields its URL."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(44_100)
        written.writeframes(tone(HOLD_HZ, 1.3, 44_100).tobytes())

    async def answer(_request: web.Request) -> web.Response:
        await asyncio.sleep(delay_seconds)
        return web.Response(body=file.getvalue(), content_type="audio/wav")

    app = web.Application()
    app.add_routes([web.get("/hold.wav", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hold.wav"
    await runner.cleanup()


@asynccontextmanager
async def desk(on: Scene, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """Run `serve` beside the worker; yields a client with a key, and the call's path."""
    async with ServeProcess(folder, [], env=on.rig.stack.env, ready_seconds=180) as serve:
        key = await a_key(on.worker)
        [row] = await eventually(lambda: on.rig.calls(on.worker), seconds=15)
        async with httpx.AsyncClient(
            base_url=serve.url, headers={"authorization": f"Bearer {key}"}, timeout=30
        ) as client:
            yield client, f"/v1/calls/{row['id']}"


async def used(on: Scene, call_id: str, metric: str) -> float:
    database = Database(f"sqlite:///{on.worker.data_dir / 'agent-worker.db'}")
    async with database.read() as connection:
        lines = await call_usage(connection, call_id)
    await database.aclose()
    return sum(float(line["quantity"]) for line in lines if line["metric"] == metric)


async def test_the_caller_hears_the_file_of_the_transfer_on_hold(rig: Rig, tmp_path: Path) -> None:
    """Music until it is there, then the file round and round; the person hears none of it."""
    allow = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1"}
    ringing = Answer(ring_seconds=8)
    async with hold_file(1.0) as url, scene(rig, tmp_path, ringing, env=allow, mode="warm", holdAudioUrl=url) as on:
        await on.ask()
        leg = await on.picked_up()
        heard = heard_tone(on.call, HOLD_HZ)
        leg.send_digits("1")
        await asyncio.sleep(2)
        joined = heard_tone(on.call, HOLD_HZ)
        await asyncio.sleep(1)
        after = heard_tone(on.call, HOLD_HZ)
        await leg.hang_up()
        await on.call.wait_ended(5)
        await ended_calls(rig, on.worker)
    assert heard > 4.0
    assert after == joined
    assert heard_tone(leg, HOLD_HZ) == 0.0


@pytest.mark.parametrize("when", ["dialled", "ringing", "asked"])
async def test_a_persons_phone_stops_within_a_second_of_the_callers_end(rig: Rig, tmp_path: Path, when: str) -> None:
    """At any moment; and where nobody looks for machines, the model is given no word for one."""
    answer = OK if when == "asked" else Answer(ring_seconds=30)
    async with scene(rig, tmp_path, answer, mode="warm", voicemailDetection={"enabled": False}) as on:
        await on.ask()
        leg = await on.people[0].incoming(20)
        if when == "ringing":
            await asyncio.sleep(2)
        if when == "asked":
            await leg.wait_speech(15)
        hung_up_at = time.monotonic()
        await on.call.hang_up()
        await leg.wait_ended(3)
        took = time.monotonic() - hung_up_at
        await asyncio.sleep(1.5)
        await rig.stack.wait_no_rooms(3)
        with pytest.raises(TimeoutError):
            await on.people[0].incoming(0.5)  # nor does it ring once more
        [row] = await ended_calls(rig, on.worker)
        if when == "asked":
            tools = {tool["function"]["name"] for tool in rig.providers.openai.requests[-1]["tools"]}
            assert tools == {"accept_transfer", "decline_transfer"}
    assert took < 1.0
    assert rows(row) == [("Sales", "cancelled", "caller_hung_up")], describe([row])


async def test_a_mailbox_is_told_nothing_where_a_detector_listens_first(rig: Rig, tmp_path: Path) -> None:
    """The next destination is dialled; a line that stays quiet there is a person's, who is asked as ever."""
    greeting = render(MAILBOX, PHONE_RATE, voice=CALLER_VOICE)
    rig.providers.deepgram.register_clip(MAILBOX, greeting, PHONE_RATE)
    mailbox_says = np.concatenate((np.zeros(PHONE_RATE // 2, np.int16), greeting))
    async with scene(rig, tmp_path, Answer(play=mailbox_says), OK, voicemailDetection={"mode": "amd"}) as on:
        rig.providers.openai.rules.insert(
            0, Rule("leave a message", tool="save_prediction", arguments={"label": "machine-vm"})
        )
        await on.ask()
        mailbox = await on.picked_up(0, briefed=False)
        leg = await on.picked_up(1)
        leg.send_digits("1")
        await asyncio.sleep(1.5)
        await leg.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
    assert rows(row) == [("Sales", "failed", "voicemail"), ("Overflow", "completed", None)], describe([row])
    assert abs(mailbox.heard.pcm).max() < 500
    assert "transfer.voicemail_detected" in event_types(row)


async def test_who_says_nothing_after_our_opening_declines_in_the_time_given(rig: Rig, tmp_path: Path) -> None:
    """`timeoutSeconds`; and what asking cost is the call's."""
    async with scene(rig, tmp_path, OK, mode="warm", voicemailDetection={"timeoutSeconds": 2}) as on:
        await on.ask()
        leg = await on.picked_up()
        briefed_at = time.monotonic() - 1.2
        await leg.wait_ended(6)
        waited = time.monotonic() - briefed_at
        await on.call.wait_speech(5)
        await on.call.hang_up()
        [row] = await ended_calls(rig, on.worker)
        characters = await used(on, row["id"], "tts_characters")
    assert 1.5 < waited < 3.5
    assert rows(row) == [("Sales", "failed", "declined")], describe([row])
    told = [entry["text"] for entry in row["transfers"][0]["metadata"]["consultation"] if entry["source"] == "agent"]
    heard = [entry for entry in row["transcript"]["entries"] if entry["source"] == "agent" and entry["text"]]
    assert told
    assert characters >= sum(map(len, told)) + len(heard[-1]["text"])


@pytest.mark.parametrize("by", ["tool", "setting"])
async def test_a_carrier_that_takes_no_refer_is_done_without(rig: Rig, tmp_path: Path, by: str) -> None:
    """The person is dialled, is asked nothing, hears the caller and is heard; it is one attempt, and a transfer."""
    config: dict[str, Any] = {"referFallback": "dial"} if by == "tool" else {}
    env = {"AGENT_WORKER_REFER_FALLBACK": "dial"} if by == "setting" else {}
    async with scene(rig, tmp_path, OK, env=env, mode="blind", **config) as on:
        on.call.refer_policy = ReferPolicy(code=405, reason="Method Not Allowed")
        await on.ask()
        leg = await on.picked_up(briefed=False)
        await asyncio.sleep(1)
        await asyncio.gather(hold_up(on.call, CALLER_HZ), hold_up(leg, PERSON_HZ))
        await asyncio.sleep(0.5)
        joined = heard_tone(leg, CALLER_HZ), heard_tone(on.call, PERSON_HZ)
        await leg.hang_up()
        await on.call.wait_ended(5)
        await rig.stack.wait_no_rooms(3)
        [row] = await ended_calls(rig, on.worker)
    assert min(joined) > 1.7, joined
    assert rows(row) == [("Sales", "completed", None)], describe([row])
    [transfer] = row["transfers"]
    assert transfer["kind"] == "blind"
    assert transfer["metadata"]["refer_sip_status_code"] == 405
    assert reason(row) == "call_transfer"


async def test_a_caller_who_gives_up_while_the_person_is_dialled_instead(rig: Rig, tmp_path: Path) -> None:
    """The phone that rings in place of the carrier's stops too."""
    ringing = Answer(ring_seconds=30)
    async with scene(rig, tmp_path, ringing, mode="blind", referFallback="dial") as on:
        on.call.refer_policy = ReferPolicy(code=501, reason="Not Implemented")
        await on.ask()
        leg = await on.people[0].incoming(20)
        await asyncio.sleep(1)
        hung_up_at = time.monotonic()
        await on.call.hang_up()
        await leg.wait_ended(3)
        took = time.monotonic() - hung_up_at
        [row] = await ended_calls(rig, on.worker)
    assert took < 1.0
    assert rows(row) == [("Sales", "cancelled", "caller_hung_up")], describe([row])


async def test_an_operator_joins_the_two_and_is_not_to_speak_between_them(rig: Rig, tmp_path: Path) -> None:
    """Their summary is kept, what the agent would say at once is refused; a server that moves nobody is done without."""
    env = {"AGENT_WORKER_MOVE_PARTICIPANT": "true"}
    async with scene(rig, tmp_path, OK, env=env, mode="warm") as on, desk(on, tmp_path) as (client, path):
        await on.ask()
        leg = await on.picked_up()
        transfers = (await client.get(path)).json()["transfers"]
        summary = "It is about invoice 7."
        done = await client.post(f"{path}/transfers/{transfers[0]['id']}/complete", json={"summary": summary})
        spoken = await client.post(f"{path}/messages", json={"text": "Say goodbye.", "mode": "respond"})
        known = await client.post(f"{path}/messages", json={"text": "The doctor is late.", "mode": "context"})
        before = heard_tone(on.call, PERSON_HZ)
        await asyncio.gather(hold_up(on.call, CALLER_HZ, 1.0), hold_up(leg, PERSON_HZ, 1.0))
        on.call.send_digits("57")
        await asyncio.sleep(1)
        joined = heard_tone(leg, CALLER_HZ), heard_tone(on.call, PERSON_HZ) - before
        keys = leg.digits
        await leg.hang_up()
        await on.call.wait_ended(5)
        [row] = await ended_calls(rig, on.worker)
        log = on.worker.log()
    assert (done.status_code, done.json()["status"], done.json()["summary"]) == (200, "completed", summary)
    assert (spoken.status_code, spoken.json()["code"]) == (409, "TRANSFER_ACTIVE")
    assert known.status_code == 200
    assert min(joined) > 0.8, joined
    assert keys == "57"
    assert log.count("MoveParticipant refused") == 1
    [transfer] = row["transfers"]
    assert transfer["summary"] == summary
    told = [event for event in row["events"] if event["event_type"] in ("call.bridged", "call.leg.hangup")]
    about = {"transfer_id": transfer["id"], "kind": "warm", "label": "Sales"}
    assert [(event["event_type"], event["payload"]) for event in told] == [
        ("call.bridged", about),
        ("call.leg.hangup", about),
    ]
    sent = [event["payload"] for event in row["events"] if event["event_type"] == "call.dtmf.sent"]
    assert sent == [about | {"to": "person"}] * 2
