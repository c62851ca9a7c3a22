"""A call watched and steered while it is live: the real client, the real server, a person on the phone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from livekit import rtc
from spekoai import AsyncSpeko

from agent_worker.api.auth import hash_of, new_key
from agent_worker.domain.call import utc_now
from agent_worker.store.engine import Database
from agent_worker.store.keys import save_key
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.serve_process import ServeProcess
from agent_worker.testing.sip_phone import SipPhone
from agent_worker.testing.stack import LiveKitStack, StackBinaries
from agent_worker.testing.worker_process import WorkerProcess
from tests.e2e.rig import CALLER_LINES, GREETING, REPLIES, Rig, describe
from tests.e2e.talk import answered, ask, ended_calls, event_types, eventually, greeted, reason, words
from tests.e2e.test_deaths import busy_job
from tests.watching import Watching


@dataclass
class Desk:
    """A worker, a `serve` beside it on the same database, and somebody with a key."""

    rig: Rig
    worker: WorkerProcess
    serve: ServeProcess
    phone: SipPhone
    number: str
    key: str

    @property
    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.serve.url, headers={"authorization": f"Bearer {self.key}"}, timeout=30)

    async def call_id(self) -> str:
        """Return the id of the one call, as soon as it is known."""
        rows = await eventually(lambda: self.rig.calls(self.worker), seconds=15)
        assert rows, self.worker.log()[-3000:]
        return str(rows[0]["id"])

    async def post(self, call_id: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        async with self.http as client:
            return await client.post(f"/v1/calls/{call_id}/{path}", json=body or {})


@asynccontextmanager
async def desk(rig: Rig, folder: Path, env: dict[str, str] | None = None, **agent: Any) -> AsyncIterator[Desk]:
    number = rig.next_number()
    content = rig.agent(numbers=[number], **agent)
    serve = ServeProcess(folder, [], env=rig.stack.env | (env or {}), ready_seconds=180)
    async with rig.worker(content, folder=folder, env=env) as worker, serve, rig.phone() as phone:
        yield Desk(rig, worker, serve, phone, number, await a_key(worker))


async def a_key(worker: WorkerProcess) -> str:
    key = new_key()
    database = Database(f"sqlite:///{worker.data_dir / 'agent-worker.db'}")
    async with database.write() as connection:
        options: dict[str, Any] = {"name": "e2e", "scope": "admin", "agent_ids": None, "now": utc_now()}
        await save_key(connection, "org_local", hashed=hash_of(key), shown=key[-4:], **options)
    await database.aclose()
    return key


async def test_a_call_is_watched_from_ringing_to_end(rig: Rig, tmp_path: Path) -> None:
    """Status, events and turns as they happen, each once and in order, then the end; seen by the real client."""
    secret = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
    env = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1", "AGENT_WORKER_WEBHOOK_SECRET": secret}
    async with HookReceiver(secret=secret) as hook:
        # the phone rings for as long as the webhook takes
        hook.answer_with({}, delay_ms=1_500)
        async with desk(rig, tmp_path, env, webhooks={"preCall": {"url": hook.url}}) as it:
            call = await it.phone.dial(it.number)
            client = Watching(it.serve.url, it.key, await it.call_id())
            await client.until("connecting")
            assert not call.moments.answered_at
            await greeted(call)
            await ask(call, CALLER_LINES[0])
            await client.until(REPLIES[0].reply)
            await call.hang_up()
            told = await client.all()
            await client.stop()
            [row] = await ended_calls(rig, it.worker)
    assert told[0] == "connecting"
    assert told[-2:] == ["ended", "end"]
    assert told.index("call.answered") < told.index("active")
    said = [happening.turn.text for happening in client.told if happening.type == "transcript"]
    assert said == [GREETING, CALLER_LINES[0], REPLIES[0].reply]
    events = [happening.event for happening in client.told if happening.type == "event"]
    assert [event.event_type for event in events] == event_types(row)
    assert len({event.id for event in events}) == len(events)


async def test_an_operator_ends_a_call(rig: Rig, tmp_path: Path) -> None:
    """The caller is let go at once, the call says who ended it, and ending it again says that it is over."""
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await call.wait_answered()
        await call.wait_speech()
        call_id = await it.call_id()
        async with AsyncSpeko(api_key=it.key, base_url=it.serve.url) as speko:
            result = await speko.calls.end(call_id)
            await call.wait_ended(5)
            [row] = await ended_calls(rig, it.worker)
            again = await speko.calls.end(call_id)
    assert (result.status, again.status) == ("ending", "already_ended")
    assert again.ended_at == row["ended_at"]
    assert call.ended_by == "them"
    assert (row["status"], reason(row)) == ("ended", "agent_hangup")
    [hangup] = [event for event in row["events"] if event["event_type"] == "call.hangup"]
    assert hangup["payload"] == {"disconnection_reason": "agent_hangup", "ended_by": "operator"}


async def test_an_operator_ends_a_call_that_still_rings(rig: Rig, tmp_path: Path) -> None:
    """Nobody picks up any more: the phone is told, and the call never was one."""
    secret = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ="
    env = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1", "AGENT_WORKER_WEBHOOK_SECRET": secret}
    async with HookReceiver(secret=secret) as hook:
        hook.answer_with({}, delay_ms=3_000)
        async with desk(rig, tmp_path, env, webhooks={"preCall": {"url": hook.url}}) as it:
            call = await it.phone.dial(it.number)
            answer = await it.post(await it.call_id(), "end")
            await call.wait_ended(6)
            [row] = await ended_calls(rig, it.worker)
    assert (answer.status_code, answer.json()) == (200, {"ok": True, "status": "ending"})
    assert not call.moments.answered_at
    assert (row["status"], reason(row)) == ("failed", "cancelled")


async def test_a_call_whose_process_hangs_is_ended_all_the_same(rig: Rig, tmp_path: Path) -> None:
    """The job process is stopped and answers nothing: the room is deleted, and the caller is not left on the line."""
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        job = busy_job(it.worker)
        job.suspend()
        try:
            started = time.monotonic()
            answer = await it.post(await it.call_id(), "end")
            await call.wait_ended(5)
            took = time.monotonic() - started
        finally:
            job.resume()
        [row] = await ended_calls(rig, it.worker)
    assert answer.json() == {"ok": True, "status": "ending"}
    assert took < 8
    assert reason(row) == "agent_hangup", describe([row])


async def test_a_message_is_spoken_about_or_kept_in_mind(rig: Rig, tmp_path: Path) -> None:
    """`context` is in what the model reads from then on; `respond` has the agent speak; both are events of the call."""
    async with desk(rig, tmp_path) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        call_id = await it.call_id()
        kept = await it.post(call_id, "messages", {"text": "The lift is broken. 🛗", "mode": "context"})
        await asyncio.sleep(1)
        before = len(rig.providers.openai.requests)
        quiet = len(call.heard.pcm)
        await ask(call, CALLER_LINES[0])
        long = "Breakfast is in the garden today. " * 400
        spoken_at = time.monotonic()
        spoken = await it.post(call_id, "messages", {"text": long, "mode": "respond"})
        await call.wait_speech(10, after=spoken_at)
        await call.wait_silence(1.0)
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert (kept.status_code, spoken.status_code) == (200, 200)
    assert quiet
    asked, told = rig.providers.openai.requests[before], rig.providers.openai.requests[-1]
    assert "The lift is broken. 🛗" in json.dumps(asked["messages"], ensure_ascii=False)
    assert long in json.dumps(told["messages"], ensure_ascii=False)
    assert not any("lift" in str(m) for m in told["messages"] if m["role"] == "user")
    sent = [event for event in row["events"] if event["event_type"] == "call.message_sent"]
    assert [event["status"] for event in sent] == ["pending", "pending"]
    assert sent[0]["payload"] == {
        "messageId": kept.json()["message_id"],
        "text": "The lift is broken. 🛗",
        "mode": "context",
    }
    assert sent[1]["payload"]["text"] == long
    # the model's stand-in answers what the caller said last, once more
    assert words(row, "agent") == [GREETING, REPLIES[0].reply, REPLIES[0].reply]
    assert words(row, "user") == [CALLER_LINES[0]]
    assert answered(call, REPLIES[0].reply)


async def test_somebody_in_a_browser_joins_and_disturbs_nothing(rig: Rig, tmp_path: Path) -> None:
    """The token lets a participant into the room, where it hears both; it commands nothing, and the call goes on."""
    # a command of a participant is not passed on, which shows only when nobody has answered it for some 8 s
    async with desk(rig, tmp_path, idleRePrompts={"enabled": False}) as it:
        call = await it.phone.dial(it.number)
        await greeted(call)
        call_id = await it.call_id()
        async with AsyncSpeko(api_key=it.key, base_url=it.serve.url) as speko:
            joined = await speko.calls.web_join(call_id, {"display_name": "Maya"})
        browser = rtc.Room()
        await browser.connect(joined.url, joined.token)
        [agent] = [p.identity for p in browser.remote_participants.values() if p.identity.startswith("agent-")]
        refused: str | None = None
        try:
            await browser.local_participant.perform_rpc(
                destination_identity=agent, method="agent_worker.end", payload="", response_timeout=3
            )
        except rtc.RpcError as error:
            refused = error.message
        await ask(call, CALLER_LINES[0])
        here = {participant.identity for participant in await rig.stack.participants(joined.room_name)}
        await browser.disconnect()
        await ask(call, CALLER_LINES[1])
        await call.hang_up()
        [row] = await ended_calls(rig, it.worker)
    assert joined.identity in here
    assert refused is not None
    assert joined.url == rig.stack.url
    assert reason(row) == "user_hangup"
    assert words(row, "agent") == [GREETING, REPLIES[0].reply, REPLIES[1].reply]
    assert words(row, "user") == list(CALLER_LINES[:2])


async def test_livekits_own_events_are_on_the_call(rig: Rig, binaries: StackBinaries, tmp_path: Path) -> None:
    """A LiveKit told of `serve` in its configuration signs what it sends; a call of a worker elsewhere has it."""
    serve = ServeProcess(tmp_path / "serve", [], ready_seconds=180)
    url = f"{serve.url}/v1/livekit/webhook"
    async with LiveKitStack(binaries, tmp_path / "stack", webhook_url=url) as stack:
        other = Rig(stack, rig.providers, tmp_path)
        number = rig.next_number()
        serve.env |= stack.env
        (serve.agents_dir / "front-desk.yaml").write_text(json.dumps(other.agent(numbers=[number])))
        far = serve.worker_env | {"AGENT_WORKER_AGENTS_DIR": str(tmp_path / "none")}
        async with serve, other.worker(folder=tmp_path, numbers=[number], env=far), other.phone() as phone:
            call = await phone.dial(number)
            await greeted(call)
            await call.hang_up()
            [row] = await ended_calls(other, serve)

            async def rows() -> list[dict[str, Any]]:
                return await other.calls(serve)

            [row] = await eventually(rows, until=lambda found: "room_finished" in event_types(found[0]))
    theirs = [event for event in row["events"] if event["id"].partition(":")[2].startswith("livekit-")]
    named = [event["event_type"] for event in theirs]
    # LiveKit tells them over connections of their own and dates them to the second: neighbours may change places
    assert named.count("room_started") == named.count("room_finished") == 1
    assert named.index("room_started") < named.index("room_finished")
    assert named.count("participant_joined") == 2
    assert number[1:] not in json.dumps([event["payload"] for event in theirs])
