"""`serve` over real HTTP: who may ask, what is refused and how it is said, and how the process starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_worker.api import requests
from agent_worker.control import wire
from agent_worker.domain.call import utc_now
from agent_worker.domain.fact import encode
from agent_worker.store import queries
from agent_worker.store.engine import Database
from agent_worker.testing.hook_receiver import HookReceiver
from agent_worker.testing.serve_process import TOKEN, ServeProcess
from agent_worker.testing.worker_process import clean_environment
from tests.call_facts import CallStory, whole_call
from tests.integration.serving import DESK, OFFER, remote_to, serve_settings, serving

POSTS = (wire.OPEN_CALL, wire.FACTS, wire.FINISH_CALL, wire.LEASES)


@asynccontextmanager
async def api(folder: Path, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run `serve` and lend a client with the right token."""
    async with (
        serving(serve_settings(folder, **changes)) as url,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=30
        ) as client,
    ):
        yield client


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error, which must be told in the contract's shape and nothing else."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(body) <= {"error", "code", "retryable", "issues"}
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "Traceback" not in answer.text
    return answer.status_code, body["code"]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        "Bearer ünïcödé",
    ],
)
async def test_without_the_token_nothing_is_done_or_said(tmp_path: Path, header: str | None) -> None:
    """Every worker route asks for it before it reads a body; health needs none."""
    async with api(tmp_path) as client:
        del client.headers["authorization"]
        given = {} if header is None else {"authorization": header.encode("latin-1")}
        answers = [await client.post(path, content=b"{}", headers=given) for path in POSTS]
        answers.append(await client.get(wire.CATALOG, headers=given))
        assert (await client.get("/healthz")).status_code == 200
    assert {problem(answer) for answer in answers} == {(401, "UNAUTHORIZED")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}


async def test_errors_have_one_shape(tmp_path: Path) -> None:
    """Unknown routes, wrong methods and broken bodies are told alike, and no key of ours is documented to strangers."""
    async with api(tmp_path) as client:
        assert problem(await client.get("/nope")) == (404, "NOT_FOUND")
        assert problem(await client.get(wire.FACTS)) == (405, "METHOD_NOT_ALLOWED")
        assert problem(await client.get("/docs")) == (404, "NOT_FOUND")
        described = (await client.get("/openapi.json")).json()["paths"]
        assert not [path for path in described if path.startswith("/worker/")]
        for path in (wire.OPEN_CALL, wire.LEASES):
            assert problem(await client.post(path, content=b"{")) == (400, "VALIDATION_ERROR")
        for path in (wire.FACTS, wire.FINISH_CALL):
            assert problem(await client.post(path, content=b"{}\n")) == (422, "FACT_INVALID")
        opened, ended = whole_call().facts[0], whole_call().facts[-1]
        for body in (b"", encode(opened), encode(ended) * 2):
            assert problem(await client.post(wire.FINISH_CALL, content=body)) == (400, "FACT_INVALID")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"offer":' * 50_000,
        b'{"offer": {"job_metadata": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}}",
        b"\xff\xfe",
        b"null",
        b'{"offer": {}, "budget_seconds": 1}',
        b'{"offer": {"call_id": "secret-words", "direction": "sideways", "room_name": "r"}, "budget_seconds": 1}',
        json.dumps({"offer": OFFER.model_dump(), "budget_seconds": 1e9}).encode(),
        json.dumps({"offer": OFFER.model_dump(), "budget_seconds": 0}).encode(),
        json.dumps({"offer": OFFER.model_dump()}).encode(),
    ],
    ids=["deep", "deep objects", "deep metadata", "no UTF-8", "null", "empty", "enum", "long", "zero", "no budget"],
)
async def test_junk_is_refused_in_words_that_repeat_none_of_it(tmp_path: Path, body: bytes) -> None:
    """However deep or wrong a body is, the answer is a 400, for good."""
    async with api(tmp_path) as client:
        answer = await client.post(wire.OPEN_CALL, content=body)
    assert problem(answer) == (400, "VALIDATION_ERROR")
    assert answer.json()["retryable"] is False
    assert "secret-words" not in answer.text


async def test_metadata_as_deep_as_json_may_be_takes_a_call(tmp_path: Path) -> None:
    """What the reader lets through, the rest can work with."""
    metadata: dict[str, Any] = {}
    for _ in range(50):
        metadata = {"a": [metadata]}
    offer = OFFER.model_copy(update={"job_metadata": {"metadata": metadata}})
    body = wire.OpenCall(offer=offer, budget_seconds=1).model_dump_json()
    async with api(tmp_path) as client:
        answer = await client.post(wire.OPEN_CALL, content=body)
    assert answer.status_code == 200
    assert wire.OpenCallAnswer.decode(answer.content).metadata["a"] == metadata["a"]


async def talk(url: str, head: list[str], body: AsyncIterator[bytes]) -> tuple[int, dict[str, Any]]:
    """Send a request as it stands, until there is an answer and the connection is closed; return status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
    lines = [*head, "host: localhost", f"authorization: Bearer {TOKEN}", "", ""]

    async def send() -> None:
        with contextlib.suppress(ConnectionError):
            writer.write("\r\n".join(lines).encode())
            async for chunk in body:
                writer.write(chunk)
                await writer.drain()

    sending = asyncio.create_task(send())
    answer = b""
    # a server that has answered closes the connection under what is still being sent
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            while chunk := await reader.read(65_536):
                sending.cancel()
                answer += chunk
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    start, _, rest = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(rest)


async def pieces(piece: bytes, count: int, pause: float) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
        await asyncio.sleep(pause)


async def silence() -> AsyncIterator[bytes]:
    if False:
        yield b""


@pytest.mark.parametrize(
    ("path", "most"),
    [
        (wire.OPEN_CALL, wire.MAX_OFFER_BYTES),
        (wire.FACTS, wire.MAX_FACTS_BYTES),
        (wire.FINISH_CALL, wire.MAX_FACTS_BYTES),
        (wire.LEASES, wire.MAX_LEASES_BYTES),
    ],
)
async def test_a_body_over_its_limit_is_not_read(tmp_path: Path, path: str, most: int) -> None:
    """A length that is too much is refused at once, and so is one that comes in pieces without saying how much."""
    async with serving(serve_settings(tmp_path)) as url:
        for length in ("1000000000", "9" * 18):
            status, body = await talk(url, [f"POST {path} HTTP/1.1", f"content-length: {length}"], silence())
            assert (status, body["code"]) == (413, "TOO_LARGE")
        head = [f"POST {path} HTTP/1.1", "transfer-encoding: chunked"]
        status, body = await talk(url, head, pieces(b" " * 2**16, most // 2**16 + 1, 0))
    assert (status, body["code"], body["retryable"]) == (413, "TOO_LARGE", False)


async def test_a_batch_has_a_limit(tmp_path: Path) -> None:
    """More facts than a transaction should hold are refused."""
    line = encode(whole_call().facts[0])
    async with api(tmp_path) as client:
        answer = await client.post(wire.FACTS, content=line * (wire.MAX_FACTS + 1))
        leases = {"call_ids": ["c"] * (wire.MAX_LEASES + 1), "worker_id": "w", "seconds": 1}
        assert problem(await client.post(wire.LEASES, json=leases)) == (400, "VALIDATION_ERROR")
    assert problem(answer) == (413, "TOO_LARGE")


async def test_a_body_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never becomes whole does not hold its handler for ever."""
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)

    async with serving(serve_settings(tmp_path)) as url:
        head = [f"POST {wire.FACTS} HTTP/1.1", "transfer-encoding: chunked"]
        status, body = await talk(url, head, pieces(b" ", 1_000, 0.05))
    assert (status, body["code"]) == (408, "REQUEST_TIMEOUT")


async def test_workers_get_agents_without_webhooks_and_with_an_etag(tmp_path: Path) -> None:
    """Tools' secrets are for workers, webhooks' are not; an ETag spares the body."""
    hooks = {
        "preCall": {"url": "https://crm.example/hidden", "secret": "hidden-secret", "onFailure": "reject"},
        "status": {"url": "https://crm.example/hidden", "authHeaders": [{"name": "x-key", "value": "hidden-key"}]},
    }
    agent = {**DESK, "webhooks": hooks, "toolSecrets": {"crm": "secret-of-tools"}}
    told_only = {"name": "told-only", "systemPrompt": "You help.", "webhooks": {"status": hooks["status"]}}
    async with (
        serving(serve_settings(tmp_path, agent, told_only)) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, trust_env=False) as client,
    ):
        answer = await client.get(wire.CATALOG)
        same = await client.get(wire.CATALOG, headers={"if-none-match": answer.headers["etag"]})
        other = await client.get(wire.CATALOG, headers={"if-none-match": '"of another"'})
    assert "hidden" not in answer.text
    assert answer.json()["agents"]["desk"]["toolSecrets"] == {"crm": "secret-of-tools"}
    assert answer.json()["agents"]["desk"]["webhooks"] == {"preCall": {"url": wire.WITHHELD_URL, "onFailure": "reject"}}
    assert "webhooks" not in answer.json()["agents"]["told-only"]
    assert (same.status_code, same.content) == (304, b"")
    assert other.content == answer.content


async def test_a_newer_workers_question_is_understood(tmp_path: Path) -> None:
    """Keys this version does not know are left unread, so either side may be upgraded first."""
    asked = json.loads(wire.OpenCall(offer=OFFER, budget_seconds=1).model_dump_json())
    asked["more"] = asked["offer"]["more"] = {"x": 1}
    async with api(tmp_path) as client:
        answer = await client.post(wire.OPEN_CALL, json=asked)
    assert wire.OpenCallAnswer.decode(answer.content).agent_id == "desk"


async def test_calls_belong_to_the_organization_of_serve(tmp_path: Path) -> None:
    """A worker needs to be told a URL and a token only; whose calls it takes is not its to say."""
    settings = serve_settings(tmp_path, organization_id="org_7")
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        await worker.control.record(whole_call().facts)
    rows = sqlite3.connect(settings.data_dir / "agent-worker.db").execute("SELECT organization_id FROM calls")
    assert rows.fetchall() == [("org_7",)]


async def test_a_lost_worker_is_swept_here(tmp_path: Path) -> None:
    """A call whose lease ran out is closed by `serve`: its worker host has no sweeper of its own."""
    settings = serve_settings(tmp_path, lease_seconds=5)
    async with serving(settings) as url, remote_to(url, tmp_path) as worker:
        story = CallStory("lost")
        story.opened()
        await worker.control.record(story.facts)
        await worker.control.renew_leases(["lost"], worker_id="w", until=utc_now() - timedelta(seconds=1))
        database = Database(settings.database)
        async with asyncio.timeout(30):
            while True:
                async with database.read() as connection:
                    detail = await queries.call_detail(connection, "lost")
                if detail is not None and detail["status"] == "failed":
                    break
                await asyncio.sleep(0.2)
        await database.aclose()
    assert detail["metadata"]["disconnection_reason"] == "worker_lost"
    assert detail["report"]["outcome"] == "failed"


# --- the process


async def answered(serve: ServeProcess) -> dict[str, Any]:
    """Return what it says of itself, as soon as it says anything."""
    for _ in range(600):
        said = await serve.health()
        if said is not None:
            return said
        await asyncio.sleep(0.05)
    raise AssertionError(serve.log())


async def test_serve_waits_for_a_database_that_is_away(tmp_path: Path) -> None:
    """It answers calls from its files, says that it is not ready, keeps facts waiting, and goes on when it can."""
    folder = tmp_path / "database"
    folder.write_text("in the way")
    env = {"AGENT_WORKER_DATABASE_URL": f"sqlite:///{folder}/agent-worker.db"}
    serve = ServeProcess(tmp_path / "serve", [DESK], env=env)
    await serve.start(wait=False)
    try:
        async with remote_to(serve.url, tmp_path) as worker:
            said = await answered(serve)
            assert (said["http_status"], said["status"]) == (503, "database_unavailable")
            plan = await worker.control.open_call(OFFER, budget_seconds=4)
            assert plan.agent_id == "desk"
            await worker.keeper.refresh()
            assert worker.keeper.state == "ok"
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(
                    serve.url + wire.FACTS,
                    content=encode(whole_call().facts[0]),
                    headers={"authorization": f"Bearer {TOKEN}"},
                )
            assert problem(answer) == (503, "DATABASE_UNAVAILABLE")
            assert answer.headers["retry-after"]
            folder.unlink()
            folder.mkdir()
            await serve.wait_ready()
            await worker.control.record(whole_call().facts)
            assert await serve.terminate() == 0
    finally:
        await serve.kill()
    assert sqlite3.connect(folder / "agent-worker.db").execute("SELECT status FROM calls").fetchall() == [("ended",)]


async def test_a_request_in_flight_is_finished_at_the_end(tmp_path: Path) -> None:
    """TERM while a call is being planned: the worker gets its answer, then the process ends with 0."""
    async with HookReceiver() as hook:
        hook.answer_with({"voice": "zoe"}, delay_ms=1_000)
        agent = {**DESK, "webhooks": {"preCall": {"url": hook.url}}}
        env = {"AGENT_WORKER_EGRESS_ALLOW": "127.0.0.1"}
        async with (
            ServeProcess(tmp_path / "serve", [agent], env=env) as serve,
            remote_to(serve.url, tmp_path) as worker,
        ):
            asking = asyncio.create_task(worker.control.open_call(OFFER, budget_seconds=5))
            await hook.wait_for_requests(1)
            code = await serve.terminate()
            plan = await asking
    assert code == 0
    assert plan.events[0].status == "succeeded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_quietly(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or TERM: exit code 0, and no trace; where it listened was on the first line."""
    async with ServeProcess(tmp_path, [DESK]) as serve:
        serve.process.send_signal(number)
        assert await serve.process.wait(15) == 0
        assert f"Listening on {serve.url}\n" in serve.log()
        assert "Traceback" not in serve.log()


def run_serve(folder: Path, root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    settings = serve_settings(folder)
    variables = {
        "AGENT_WORKER_AGENTS_DIR": str(settings.agents_dir),
        "AGENT_WORKER_DATA_DIR": str(folder / "data"),
        "AGENT_WORKER_CONTROL_TOKEN": TOKEN,
        "AGENT_WORKER_API_PORT": "0",
    }
    return subprocess.run(
        [sys.executable, "-m", "agent_worker", "serve"],
        cwd=root,
        env=clean_environment(variables | env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"AGENT_WORKER_CONTROL_TOKEN": "fifteen-letters"}, "must be 16 or more"),
        ({"AGENT_WORKER_AGENTS_DIR": os.devnull}, "There is no folder"),
        ({"AGENT_WORKER_DATABASE_URL": "mysql://x"}, "Use SQLite or PostgreSQL."),
        ({"AGENT_WORKER_API_HOST": "192.0.2.1"}, "Set AGENT_WORKER_API_HOST"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(tmp_path: Path, root: Path, env: dict[str, str], words: str) -> None:
    """A mistake of the operator's is one sentence and exit code 2."""
    ended = run_serve(tmp_path, root, **env)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "fifteen-letters" not in ended.stderr


async def test_a_taken_port_is_said(tmp_path: Path, root: Path) -> None:
    """The sentence says which port, and what to set."""
    async with serving(serve_settings(tmp_path)) as url:
        port = url.rsplit(":", 1)[1]
        ended = await asyncio.to_thread(run_serve, tmp_path, root, AGENT_WORKER_API_PORT=port)
    assert ended.returncode == 2
    assert f"port {port}: Address already in use" in ended.stderr
